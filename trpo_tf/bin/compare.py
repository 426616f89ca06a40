"""Compares two sets of evaluated runs: is A better than B, beyond the seeds?

  python -m trpo_tf.bin.compare runs/hopper_a 'runs/b/*' [--json=FILE]

A set is a directory with runs in it at any depth, or a pattern in quotes. Its
runs differ by seed or task only. The program prints the difference of the mean
and of the interquartile mean of the runs' returns, and the probability that a
run of A is better than one of B, with 95 % bootstrap intervals.
"""

import dataclasses

from absl import flags as absl_flags
from rich.console import Console
from rich.table import Table

from trpo_tf.bin import flags
from trpo_tf.errors import UserError
from trpo_tf.experiment import result_files, run_sets, tables

_SAMPLED = absl_flags.DEFINE_bool(
  'sampled', False, 'compare sampled actions, not the mean of the policy'
)
_JSON = absl_flags.DEFINE_string(
  'json', '', 'file to write the numbers to; empty: only print'
)

_FEW = 5  # runs


def main(arguments: list[str]) -> None:
  """Prints how the two sets that the arguments name compare."""
  if len(arguments) != 2:
    raise UserError(
      f'name two sets of runs, not {len(arguments)}: put patterns in quotes'
    )
  a, b = (
    run_sets.load(name, flags.expand([name]), _SAMPLED.value)
    for name in arguments
  )
  found = run_sets.compare(a, b)
  console = Console(markup=False)
  console.print(f'A: {a.name}\nB: {b.name}')
  console.print(_table(a, b, found))
  for caution in _cautions(a, b):
    console.print(caution, style='yellow')
  if _JSON.value:
    result_files.write_json(_JSON.value, _record(a, b, found))
    console.print(f'numbers: {_JSON.value}')


def _cautions(a: run_sets.RunSet, b: run_sets.RunSet) -> list[str]:
  """Says what makes the comparison less than it looks."""
  found = []
  for task in a.seeds:
    steps = (*a.env_steps[task], *b.env_steps[task])
    if min(steps) < max(steps):
      found.append(f'{task}: trained for {tables.span(steps)} env steps')
  if outdated := tables.outdated({**a.evaluations, **b.evaluations}):
    found.append(outdated)
  least = min(len(seeds) for x in (a, b) for seeds in x.seeds.values())
  if least < _FEW:
    found.append(
      f'{least} runs are few: their intervals often exclude 0, or 0.5, by '
      'chance (docs/compare.md)'
    )
  return found


def _table(
  a: run_sets.RunSet,
  b: run_sets.RunSet,
  found: dict[str, run_sets.Comparison],
) -> Table:
  kind = 'sampled actions' if _SAMPLED.value else 'the mean policy'
  table = Table(title=f'returns of {kind}')
  for name in ('', 'A', 'B', 'compared', '95 % interval'):
    table.add_column(name, justify='right' if name else 'left')
  for task, one in found.items():
    digits = 1 if task else 3
    table.add_row(task or 'all tasks, scaled')
    if task:
      table.add_row('  runs', *(str(len(x.seeds[task])) for x in (a, b)))
      table.add_row(
        '  env steps', *(tables.span(x.env_steps[task]) for x in (a, b))
      )
    for name, row in (('mean, A - B', one.mean), ('IQM, A - B', one.iqm)):
      numbers = row.a, row.b, row.difference
      shown = (f'{number:.{digits}f}' for number in numbers)
      table.add_row(f'  {name}', *shown, _interval(row.ci95, digits))
    interval = _interval(one.probability_ci95, 2)
    probability = f'{one.probability:.2f}'
    table.add_row('  P(A > B)', '', '', probability, interval, end_section=True)
  return table


def _interval(ends: tuple[float, float], digits: int) -> str:
  low, high = ends
  return f'{low:.{digits}f} to {high:.{digits}f}'


def _record(
  a: run_sets.RunSet,
  b: run_sets.RunSet,
  found: dict[str, run_sets.Comparison],
) -> dict:
  """Collects the numbers, and the runs that they are of."""
  sets = {
    key: {
      'name': one.name,
      'runs': [str(path) for path in one.evaluations],
      'tasks': {
        task: dict(
          seeds=one.seeds[task],
          env_steps=one.env_steps[task],
          returns=one.returns[task].tolist(),
        )
        for task in one.returns
      },
    }
    for key, one in (('a', a), ('b', b))
  }
  tasks = {task: dataclasses.asdict(one) for task, one in found.items()}
  every = tasks.pop('', None)
  return dict(sets, sampled=_SAMPLED.value, tasks=tasks, all_tasks_scaled=every)


if __name__ == '__main__':
  flags.run(main, takes_arguments=True)
