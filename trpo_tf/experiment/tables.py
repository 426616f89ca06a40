"""Tables of evaluations over seeds."""

import dataclasses
import math
import pathlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np

from trpo_tf.errors import UserError
from trpo_tf.experiment import checkpoint, json_files, statistics

__all__ = [
  'Evaluation',
  'Row',
  'grid',
  'load_evaluation',
  'markdown',
  'mean',
  'number',
  'outdated',
  'span',
  'summarize',
  'summarize_tasks',
]


@dataclasses.dataclass(frozen=True)
class Row:
  """The runs of one task and one setting, in the order of their seeds.

  Attributes:
    task: name of the task.
    label: what distinguishes the setting from the task's others; '' if nothing.
    env_steps: env steps of each evaluated policy.
    seeds: seeds of the runs.
    deterministic: mean return of each run when acting by the policy's mean; NaN
      if all of its episodes diverged.
    sampled: mean return of each run when actions are sampled; or NaN.
    diverged: number of episodes that diverged, which no return counts.
  """

  task: str
  label: str
  env_steps: tuple[int, ...]
  seeds: tuple[int, ...]
  deterministic: tuple[float, ...]
  sampled: tuple[float, ...]
  diverged: int = 0


class Mean(TypedDict):
  """Statistics of the episodes; the mean is None if all of them diverged."""

  mean: float | None


# its key `return` is a word of Python's
Kind = TypedDict('Kind', {'return': Mean, 'diverged': NotRequired[int]})


class Evaluation(TypedDict):
  """The part of evaluation.json that tables show."""

  task: str
  env_steps: int
  seed: int
  checkpoint: NotRequired[str]
  deterministic: Kind
  sampled: Kind


def load_evaluation(run_dir: str | pathlib.Path) -> Evaluation:
  """Reads a run's evaluation.json.

  Raises:
    UserError: the run has not been evaluated, or the file is damaged.
  """
  path = pathlib.Path(run_dir) / 'evaluation.json'
  quoted = shlex.quote(str(run_dir))
  remedy = f'run python -m trpo_tf.bin.evaluate --run_dir={quoted}'
  try:
    found = json_files.read(path, remedy)
  except FileNotFoundError:
    raise UserError(f'{run_dir} has no evaluation.json: {remedy}') from None
  evaluation = json_files.checked(found, Evaluation, path, remedy)
  if not json_files.is_text(evaluation['task']):
    raise UserError(f'{path}: task has control characters: {remedy}')
  return evaluation


def outdated(evaluations: Mapping[Any, Evaluation]) -> str:
  """Names the runs that were trained further since they were evaluated.

  Args:
    evaluations: by the directory of the run.

  Returns:
    A line that tells what to do; '' if there is no such run.
  """
  found = []
  for run_dir, evaluation in evaluations.items():
    newest = checkpoint.newest(pathlib.Path(run_dir) / 'checkpoints')
    evaluated = evaluation.get('checkpoint')
    if newest and evaluated and newest.name != evaluated:
      found.append(str(run_dir))
  if not found:
    return ''
  return (
    'trained further since the evaluation, run trpo_tf.bin.evaluate again: '
    + ', '.join(found)
  )


def summarize_tasks(
  evaluations: Iterable[Evaluation], labels: Iterable[str]
) -> list[Row]:
  """Makes a row of the evaluations that have a task and a label in common.

  Args:
    evaluations: of the runs.
    labels: what distinguishes each run's settings from the others of its task,
      see `run_groups.labels`.

  Returns:
    The rows, in the order of their first runs.
  """
  groups: dict[tuple[str, str], list[Evaluation]] = {}
  for evaluation, label in zip(evaluations, labels, strict=True):
    groups.setdefault((evaluation['task'], label), []).append(evaluation)
  return [summarize(group, label) for (_, label), group in groups.items()]


def summarize(evaluations: Iterable[Evaluation], label: str = '') -> Row:
  """Makes the row of runs of one task.

  Args:
    evaluations: of the runs.
    label: what distinguishes their settings from others.
  """
  runs = sorted(evaluations, key=lambda run: run['seed'])
  kinds = [run[kind] for run in runs for kind in ('deterministic', 'sampled')]
  means = [kind['return']['mean'] for kind in kinds]
  values = tuple(math.nan if mean is None else mean for mean in means)
  return Row(
    runs[0]['task'],
    label,
    tuple(run['env_steps'] for run in runs),
    tuple(run['seed'] for run in runs),
    deterministic=values[::2],
    sampled=values[1::2],
    diverged=sum(kind.get('diverged', 0) for kind in kinds),
  )


def markdown(rows: Sequence[Row]) -> str:
  """Makes a Markdown table of means over runs and 95 % bootstrap intervals."""
  heads = ['task', 'env steps', 'runs', 'seeds', 'mean policy: return', 'IQM']
  heads += ['each seed', 'sampled actions: return']
  labelled = any(row.label for row in rows)
  cells = [
    (
      row.task,
      *[row.label] * labelled,
      span(row.env_steps),
      str(len(row.seeds)),
      _seeds(row.seeds),
      mean(row.deterministic),
      number(statistics.interquartile_mean(row.deterministic)),
      ', '.join(map(number, row.deterministic)),
      mean(row.sampled),
    )
    for row in rows
  ]
  if labelled:
    heads.insert(1, 'settings')
  notes = [
    f'\nThe returns of {" with ".join(filter(None, (row.task, row.label)))} '
    f'leave out {row.diverged} episodes that diverged.\n'
    for row in rows
    if row.diverged
  ]
  return grid(heads, cells) + '\n' + ''.join(notes)


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


def span(counts: Sequence[int]) -> str:
  """Writes the least and the largest of some counts."""
  least, most = min(counts), max(counts)
  return f'{most:,}' if least == most else f'{least:,} to {most:,}'


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
