"""The results of a reproduction as Markdown."""

import math
from collections.abc import Iterable, Sequence

import matplotlib.ticker

from trpo_tf.reproduction.results import Result
from trpo_tf.reproduction.table import Table

__all__ = ['render']

_HEAD = (
  '| method | seeds | iterations | env steps a run | ours (95 % interval) '
  '| paper, same iterations | paper, end |\n'
  '|---|---|---|---|---|---|---|'
)


def render(table: Table, budget: str, results: Sequence[Result]) -> str:
  """Writes a small table for each task.

  Args:
    table: the table.
    budget: name of its budget.
    results: in the order of the rows.

  Returns:
    The text.
  """
  parts = [_caption(table, budget, results)]
  for task in table.tasks:
    rows = [result for result in results if result.task == task]
    if rows:
      lines = [_row(table, row) for row in rows]
      parts.append('\n'.join([f'## {_label(table, task)}\n', _HEAD, *lines]))
      parts += [_sweep(table, row) for row in rows if row.sweep]
  return '\n\n'.join(parts) + '\n'


def _caption(table: Table, budget: str, results: Iterable[Result]) -> str:
  lines = [
    f'Budget `{budget}`. The metric is the {table.metric_text}.',
    'Ours is its mean over seeds and the last 5 % of the iterations (one at '
    'least), with the 95 % bootstrap interval (percentile method) of that mean '
    'over seeds.',
    f'The paper is {table.reference_text}. "Same iterations" is its curve over '
    'those that ours is averaged over, between its points by straight lines.',
  ]
  if any(_unfinished(result) for result in results):
    lines.append(
      '"n of m" marks what is not finished: it counts up to the iteration '
      'that all of the seeds there have reached.'
    )
  return '\n'.join(lines)


def _unfinished(result: Result) -> bool:
  seeds, iterations = result.values.shape
  return (
    seeds < result.planned_seeds or iterations < result.planned_iterations
  )


def _row(table: Table, result: Result) -> str:
  seeds, iterations = result.values.shape
  method = _label(table, result.method)
  if result.setting:
    method += f' ({result.setting})'
  ours = f'**{_number(result.final.mean())}**'
  low, high = result.final_interval
  if not math.isnan(low):
    ours += f' ({_number(low)} to {_number(high)})'
  cells = (
    method,
    _of(seeds, result.planned_seeds),
    _of(iterations, result.planned_iterations),
    matplotlib.ticker.EngFormatter(places=1, sep='')(
      result.env_steps[:, -1].mean()
    ),
    ours,
    _number(result.reference_there),
    _number(result.reference_end),
  )
  return f'| {" | ".join(cells)} |'


def _sweep(table: Table, result: Result) -> str:
  name = result.setting.partition('=')[0]
  tried = ', '.join(f'{v}: {_number(x)}' for v, x in result.sweep.items())
  return (
    f'{_label(table, result.method).capitalize()}: `{name}` was swept with '
    'seed 0 and the best value repeated with the others. Mean over the last '
    f'tenth of the iterations: {tried}.'
  )


def _label(table: Table, name: str) -> str:
  return table.labels.get(name, name)


def _of(count: int, planned: int) -> str:
  return f'{count} of {planned}' if count < planned else str(count)


def _number(value: float) -> str:
  return '-' if math.isnan(value) else f'{value:.3f}'
