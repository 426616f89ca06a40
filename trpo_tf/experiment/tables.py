"""Tables of evaluations over seeds."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from trpo_tf.errors import UserError
from trpo_tf.experiment import statistics

__all__ = ['Row', 'load_evaluation', 'markdown', 'summarize_tasks']


@dataclasses.dataclass(frozen=True)
class Row:
  """The runs of one task.

  Attributes:
    task: name of the task.
    env_steps: env steps of the evaluated policies, the same for all.
    seeds: seeds of the runs.
    deterministic: mean return of each run when acting by the policy's mean.
    sampled: mean return of each run when actions are sampled.
  """

  task: str
  env_steps: int
  seeds: tuple[int, ...]
  deterministic: tuple[float, ...]
  sampled: tuple[float, ...]


def load_evaluation(run_dir: str | pathlib.Path) -> dict[str, Any]:
  """Reads a run's evaluation.json.

  Raises:
    UserError: the run has not been evaluated.
  """
  path = pathlib.Path(run_dir) / 'evaluation.json'
  try:
    return json.loads(path.read_text())
  except FileNotFoundError:
    raise UserError(
      f'{run_dir} has no evaluation.json: run python -m trpo_tf.bin.evaluate '
      f'--run_dir={run_dir}'
    ) from None


def summarize_tasks(evaluations: Iterable[dict[str, Any]]) -> list[Row]:
  """Groups evaluations by task and env steps, in the order they come."""
  groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
  for evaluation in evaluations:
    key = evaluation['task'], evaluation['env_steps']
    groups.setdefault(key, []).append(evaluation)

  def means(group: list[dict[str, Any]], kind: str) -> tuple[float, ...]:
    return tuple(e[kind]['return']['mean'] for e in group)

  return [
    Row(
      task,
      steps,
      tuple(e['seed'] for e in group),
      means(group, 'deterministic'),
      means(group, 'sampled'),
    )
    for (task, steps), group in groups.items()
  ]


def markdown(rows: Iterable[Row]) -> str:
  """Makes a Markdown table of means over runs and 95 % bootstrap intervals."""
  lines = [
    '| task | env steps | seeds | mean policy: return | IQM | each seed '
    '| sampled actions: return |',
    '|---|---|---|---|---|---|---|',
  ]
  for row in rows:
    each = ', '.join(f'{x:.0f}' for x in row.deterministic)
    lines.append(
      f'| {row.task} | {row.env_steps:,} | {_seeds(row.seeds)} '
      f'| {np.mean(row.deterministic):.0f} {_interval(row.deterministic)} '
      f'| {statistics.interquartile_mean(row.deterministic):.0f} | {each} '
      f'| {np.mean(row.sampled):.0f} {_interval(row.sampled)} |'
    )
  return '\n'.join(lines) + '\n'


def _seeds(seeds: tuple[int, ...]) -> str:
  first, last = min(seeds), max(seeds)
  if len(seeds) > 2 and sorted(seeds) == list(range(first, last + 1)):
    return f'{first} to {last}'
  return ', '.join(map(str, sorted(seeds)))


def _interval(values: tuple[float, ...]) -> str:
  if len(values) < 2:
    return ''
  low, high = statistics.bootstrap_interval(values)
  return f'({low:.0f} to {high:.0f})'
