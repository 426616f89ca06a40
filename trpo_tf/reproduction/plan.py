"""Which runs make a table."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.reproduction.table import Table

__all__ = ['Group', 'Run', 'make_groups', 'select']

Parse = Callable[[Sequence[str]], ExperimentConfig]


@dataclasses.dataclass(frozen=True)
class Run:
  """One training run.

  Attributes:
    task: name in the table.
    method: name in the table.
    variant: value of the swept setting as text; empty without a sweep.
    seed: of the run.
    directory: of the run.
    flags: of the train binary.
    config: what the flags say.
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
    """What names the run, also as directories: task, method, ..., seed."""
    parts = self.task, self.method, self.variant, str(self.seed)
    return tuple(part for part in parts if part)


@dataclasses.dataclass(frozen=True)
class Group:
  """A method on a task, over seeds: a line of the figure.

  Attributes:
    task: name in the table.
    method: name in the table.
    swept: name of the swept setting; empty without a sweep.
    variants: the runs of all seeds by value of the swept setting, as text; by
      '' without a sweep. Only the chosen value is run with every seed.
  """

  task: str
  method: str
  swept: str
  variants: dict[str, tuple[Run, ...]]

  @property
  def sweep(self) -> tuple[Run, ...]:
    """The runs between which is chosen; none without a sweep."""
    if not self.swept:
      return ()
    return tuple(runs[0] for runs in self.variants.values())

  def runs(self, variant: str | None) -> tuple[Run, ...]:
    """The sweep, and all seeds of a variant; None: of any one."""
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
    tasks: names; none: all that have one of the methods.
    methods: names; none: all that the tasks have.

  Returns:
    Pairs of task and method, in the table's order.

  Raises:
    UserError: an unknown name, or a method that a named task does not have.
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


def make_groups(
  table: Table,
  budget: str,
  pairs: Sequence[tuple[str, str]],
  seeds: int,
  out: pathlib.Path,
  parse: Parse,
) -> list[Group]:
  """Plans the runs of tasks and methods.

  Args:
    table: the table.
    budget: name of its budget.
    pairs: tasks and methods.
    seeds: number of seeds, 0 to seeds - 1.
    out: directory for TASK/METHOD/SEED and TASK/METHOD/VALUE/SEED.
    parse: from flags of the train binary to settings.

  Returns:
    A group a pair, in the same order.

  Raises:
    UserError: the flagfiles are not there, or say something wrong.
  """
  if not pathlib.Path(table.flagfiles).is_dir():
    raise UserError(
      f'there is no {table.flagfiles} here: start from the root of the '
      'repository'
    )

  def run(task: str, method: str, variant: str, seed: int, *more: str) -> Run:
    parts = [part for part in (task, method, variant, str(seed)) if part]
    directory = out.joinpath(*parts)
    flags = (
      *(
        template.format(flagfiles=table.flagfiles, task=task, method=method)
        for template in table.base_flags
      ),
      *table.budgets[budget].flags(task, method),
      *more,
      '--notensorboard',
      f'--seed={seed}',
      f'--run_dir={directory}',
    )
    return Run(task, method, variant, seed, directory, flags, parse(flags))

  def group(task: str, method: str) -> Group:
    sweep = table.budgets[budget].sweeps.get(method)
    if sweep is None:
      runs = tuple(run(task, method, '', seed) for seed in range(seeds))
      return Group(task, method, '', {'': runs})
    variants = {
      f'{value:g}': tuple(
        run(task, method, f'{value:g}', seed, f'--{sweep.flag}={value:g}')
        for seed in range(seeds)
      )
      for value in sweep.values
    }
    return Group(task, method, sweep.flag, variants)

  return [group(task, method) for task, method in pairs]
