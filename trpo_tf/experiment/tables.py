"""Tables of evaluations over seeds."""

import dataclasses
import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import TypedDict

import numpy as np

from trpo_tf.errors import UserError
from trpo_tf.experiment import json_files, statistics

__all__ = [
  'Evaluation',
  'Row',
  'grid',
  'load_evaluation',
  'markdown',
  'mean',
  'number',
  'summarize_tasks',
]


@dataclasses.dataclass(frozen=True)
class Row:
  """The runs of one task.

  Attributes:
    task: name of the task.
    env_steps: env steps of the evaluated policies, the same for all.
    seeds: seeds of the runs.
    deterministic: mean return of each run when acting by the policy's mean; NaN
      if all of its episodes diverged.
    sampled: mean return of each run when actions are sampled; or NaN.
  """

  task: str
  env_steps: int
  seeds: tuple[int, ...]
  deterministic: tuple[float, ...]
  sampled: tuple[float, ...]


class Mean(TypedDict):
  """Statistics of the episodes; the mean is None if all of them diverged."""

  mean: float | None


# its key `return` is a word of Python's
Kind = TypedDict('Kind', {'return': Mean})


class Evaluation(TypedDict):
  """The part of evaluation.json that tables show."""

  task: str
  env_steps: int
  seed: int
  deterministic: Kind
  sampled: Kind


def load_evaluation(run_dir: str | pathlib.Path) -> Evaluation:
  """Reads a run's evaluation.json.

  Raises:
    UserError: the run has not been evaluated, or the file is damaged.
  """
  path = pathlib.Path(run_dir) / 'evaluation.json'
  remedy = f'run python -m trpo_tf.bin.evaluate --run_dir={run_dir}'
  try:
    found = json_files.read(path, remedy)
  except FileNotFoundError:
    raise UserError(f'{run_dir} has no evaluation.json: {remedy}') from None
  evaluation = json_files.checked(found, Evaluation, path, remedy)
  if not json_files.is_text(evaluation['task']):
    raise UserError(f'{path}: task has control characters: {remedy}')
  return evaluation


def summarize_tasks(evaluations: Iterable[Evaluation]) -> list[Row]:
  """Groups evaluations by task and env steps, in the order they come."""
  groups: dict[tuple[str, int], list[Evaluation]] = {}
  for evaluation in evaluations:
    key = evaluation['task'], evaluation['env_steps']
    groups.setdefault(key, []).append(evaluation)

  def means(kinds: Iterable[Kind]) -> tuple[float, ...]:
    found = [kind['return']['mean'] for kind in kinds]
    return tuple(math.nan if mean is None else mean for mean in found)

  return [
    Row(
      task,
      steps,
      tuple(e['seed'] for e in group),
      means(e['deterministic'] for e in group),
      means(e['sampled'] for e in group),
    )
    for (task, steps), group in groups.items()
  ]


def markdown(rows: Iterable[Row]) -> str:
  """Makes a Markdown table of means over runs and 95 % bootstrap intervals."""
  heads = ['task', 'env steps', 'seeds', 'mean policy: return', 'IQM']
  heads += ['each seed', 'sampled actions: return']
  cells = [
    (
      row.task,
      f'{row.env_steps:,}',
      _seeds(row.seeds),
      mean(row.deterministic),
      number(statistics.interquartile_mean(row.deterministic)),
      ', '.join(map(number, row.deterministic)),
      mean(row.sampled),
    )
    for row in rows
  ]
  return grid(heads, cells) + '\n'


def grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """Makes a Markdown table, without a line break at its end.

  Args:
    heads: the heads of its columns.
    rows: the cells of each row.
  """
  lines = [heads, *rows]
  written = [f'| {" | ".join(cells)} |' for cells in lines]
  return '\n'.join([written[0], '|---' * len(heads) + '|', *written[1:]])


def number(value: np.floating | np.ndarray | float) -> str:
  """Writes a return with three digits, or all of its integer part; nan: -."""
  if np.isnan(value):
    return '-'
  return f'{value:.{min(2, max(0, 2 - _magnitude(value)))}f}'


def _magnitude(value: np.floating | np.ndarray | float) -> int:
  """Exponent of ten of a value that is rounded to three digits."""
  return int(f'{value:.2e}'.partition('e')[2])


def _seeds(seeds: tuple[int, ...]) -> str:
  first, last = min(seeds), max(seeds)
  if len(seeds) > 2 and sorted(seeds) == list(range(first, last + 1)):
    return f'{first} to {last}'
  return ', '.join(map(str, sorted(seeds)))


def mean(values: tuple[float, ...]) -> str:
  """Writes the mean of runs, with its interval if there is one."""
  text = number(np.mean(values))
  if len(values) < 2 or not np.isfinite(values).all():
    return text
  low, high = statistics.bootstrap_interval(values)
  return f'{text} ({number(low)} to {number(high)})'
