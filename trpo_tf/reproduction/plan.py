"""Plans the training runs that make up a table."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.reproduction.table import Table

__all__ = [
  'MAX_SEEDS',
  'Entry',
  'PlannedRun',
  'make_entries',
  'seeds_there',
  'select',
]

MAX_SEEDS = 1000  # of an entry

Parse = Callable[[Sequence[str]], ExperimentConfig]  # flags to settings


@dataclasses.dataclass(frozen=True)
class PlannedRun:
  """A training run that a table needs, whether it has begun or not.

  Attributes:
    task: name of the task in the table.
    method: name of the method in the table.
    variant: value of the swept setting as text; empty without a sweep.
    seed: seed of the run.
    directory: run directory.
    flags: command line of the train binary.
    config: the settings that the flags make.
  """

  task: str
  method: str
  variant: str
  seed: int
  directory: pathlib.Path
  flags: tuple[str, ...]
  config: ExperimentConfig

  @property
  def parts(self) -> tuple[str, ...]:
    """The names that identify the run: task, method, variant if any, seed."""
    parts = self.task, self.method, self.variant, str(self.seed)
    return tuple(part for part in parts if part)


@dataclasses.dataclass(frozen=True)
class Entry:
  """A method on a task with all of its seeds: one line of the figure.

  Attributes:
    task: name of the task in the table.
    method: name of the method in the table.
    swept: name of the swept setting; empty without a sweep.
    variants: the runs of all seeds, by the value of the swept setting as text.
      Without a sweep the only key is ''. Only the runs of the chosen value are
      run with every seed.
  """

  task: str
  method: str
  swept: str
  variants: dict[str, tuple[PlannedRun, ...]]

  @property
  def sweep(self) -> tuple[PlannedRun, ...]:
    """The first run of each variant, which a sweep compares; else empty."""
    if not self.swept:
      return ()
    return tuple(runs[0] for runs in self.variants.values())

  def runs(self, variant: str | None) -> tuple[PlannedRun, ...]:
    """Lists the runs that are needed once a variant is chosen.

    Args:
      variant: a key of `variants`; None takes the first one, which has as many
        runs as any other.

    Returns:
      The other runs of the sweep, then all seeds of the variant.
    """
    if variant is None:
      variant = next(iter(self.variants))
    others = [run for run in self.sweep if run.variant != variant]
    return (*others, *self.variants[variant])


def select(
  table: Table, tasks: Sequence[str], methods: Sequence[str]
) -> list[tuple[str, str]]:
  """Picks tasks and methods of a table.

  Args:
    table: the table.
    tasks: names of tasks; empty selects all that have one of the methods.
    methods: names of methods; empty selects all that the tasks have.

  Returns:
    Pairs of task and method, in the table's order.

  Raises:
    UserError: a name is unknown, or a named task lacks a named method.
  """
  _check('--tasks', tasks, tuple(table.tasks))
  _check('--methods', methods, table.methods)
  for method in methods:
    having = [t for t, known in table.tasks.items() if method in known]
    for task in tasks:
      if task not in having:
        raise UserError(
          f'--methods={method} does not go with --tasks={task}: '
          f'{table.absent[method]}; it goes with {", ".join(having)}, and '
          f'{task} has {", ".join(table.tasks[task])}'
        )
  return [
    (task, method)
    for task, known in table.tasks.items()
    if task in (tasks or table.tasks)
    for method in known
    if method in (methods or known)
  ]


def _check(flag: str, names: Sequence[str], known: Sequence[str]) -> None:
  for name in names:
    if name not in known:
      raise UserError(f'{flag}={name}: choose from {", ".join(known)}')


def make_entries(
  table: Table,
  budget: str,
  seeds: Mapping[tuple[str, str], int],
  out: pathlib.Path,
  parse: Parse,
) -> list[Entry]:
  """Plans the runs of tasks and methods.

  Args:
    table: the table.
    budget: name of one of the table's budgets.
    seeds: number of seeds n of each pair of task and method; they are 0 to
      n - 1.
    out: parent of the run directories TASK/METHOD/SEED, or with a sweep
      TASK/METHOD/VALUE/SEED.
    parse: parses flags of the train binary to settings.

  Returns:
    An entry for each pair, in the same order.

  Raises:
    UserError: the flagfiles are missing or contain an error.
  """
  if not pathlib.Path(table.flagfiles).is_dir():
    raise UserError(
      f'there is no {table.flagfiles} here: start from the root of the '
      'repository'
    )

  def runs(
    task: str, method: str, variant: str, *more: str
  ) -> tuple[PlannedRun, ...]:
    parts = [part for part in (task, method, variant) if part]
    shared = (
      *(
        template.format(flagfiles=table.flagfiles, task=task, method=method)
        for template in table.base_flags
      ),
      *table.budgets[budget].flags(task, method),
      *more,
      '--notensorboard',
    )
    try:
      config = parse(shared)  # once, as it reads files
    except UserError as error:
      raise UserError(f'{" ".join(shared)}: {error}') from error
    found = []
    for seed in range(seeds[task, method]):
      directory = out.joinpath(*parts, str(seed))
      own = f'--seed={seed}', f'--run_dir={directory}'
      settings = dataclasses.replace(
        config,
        run=dataclasses.replace(config.run, seed=seed, run_dir=str(directory)),
      )
      run = task, method, variant, seed, directory, (*shared, *own), settings
      found.append(PlannedRun(*run))
    return tuple(found)

  def entry(task: str, method: str) -> Entry:
    sweep = table.budgets[budget].sweeps.get(method)
    if sweep is None:
      return Entry(task, method, '', {'': runs(task, method, '')})
    variants = {
      f'{value:g}': runs(
        task, method, f'{value:g}', f'--{sweep.flag}={value:g}'
      )
      for value in sweep.values
    }
    return Entry(task, method, sweep.flag, variants)

  return [entry(task, method) for task, method in seeds]


def seeds_there(
  table: Table, now: Mapping[tuple[str, str], int], out: pathlib.Path
) -> dict[tuple[str, str], int]:
  """Counts the seeds of the runs in a directory and of those to come.

  Args:
    table: the table.
    now: number of seeds that a command wants, by task and method.
    out: parent of the run directories, see make_entries.

  Returns:
    The number of seeds of each task and method that has a directory.
  """
  found = {}
  for pair in select(table, (), ()):
    folder = out.joinpath(*pair)
    if folder.is_dir():
      names = [path.parent.name for path in folder.rglob('run.json')]
      seeds = [int(name) + 1 for name in names if name.isdigit()]
      found[pair] = max(now.get(pair, 1), *seeds, 1)
  return found
