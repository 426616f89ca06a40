"""Tables of the runs at one million env steps in docs/results/v5 and vine."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from trpo_tf.experiment import statistics, tables
from trpo_tf.experiment.tables import Row
from trpo_tf.reproduction import ratios

__all__ = [
  'against_published',
  'bars',
  'evaluations',
  'every_step',
  'fresh',
  'headlines',
  'read',
  'vine',
]


@dataclasses.dataclass(frozen=True)
class _Target:
  """What a task is compared with.

  Attributes:
    bar: the return that this project set itself.
    published: the best published mean of several seeds of TRPO after one
      million env steps.
    source: where that mean comes from and for which version of the task.
    seeds: number of seeds of that mean.
  """

  bar: float
  published: float
  source: str
  seeds: int


_TARGETS = {
  'HalfCheetah-v5': _Target(4400, 4471, 'Tianshou, v3', 10),
  'Hopper-v5': _Target(3000, 3372, 'sb3-contrib, v3', 3),
  'InvertedPendulum-v5': _Target(1000, 1000, 'Tianshou, v2', 10),
  'Swimmer-v5': _Target(300, 359, 'sb3-contrib, v3', 3),
  'Walker2d-v5': _Target(3800, 4502, 'sb3-contrib, v3', 3),
}
_VINE_TASKS = 'hopper', 'walker2d', 'swimmer'
_EVERY_STEP_TASKS = 'hopper', 'walker2d', 'half_cheetah', 'swimmer'
_VINE_METHODS = {
  'vine_no_value': 'vine, no value function',
  'single_path_no_value': 'single path, no value function (time baseline)',
  'vine_short': 'vine, short branches and value network',
}


def read(directory: pathlib.Path) -> list[Row]:
  """Reads TASK/SEED/evaluation.json below a directory, a row for each task."""
  return [
    _row(group) for group in sorted(directory.iterdir()) if group.is_dir()
  ]


def _row(group: pathlib.Path) -> Row:
  """Joins all seeds of a task, even if they stopped at different steps."""
  found = [
    tables.load_evaluation(path)
    for path in sorted(group.iterdir())
    if path.is_dir()
  ]
  steps = max(e['env_steps'] for e in found)
  (row,) = tables.summarize_tasks([e | {'env_steps': steps} for e in found])
  return row


def evaluations(rows: Sequence[Row]) -> str:
  """Renders every number of the evaluations, as bin/table.py does."""
  return tables.markdown(rows).rstrip('\n')


def against_published(rows: Sequence[Row]) -> str:
  """Renders our means beside the published ones."""
  lines = [
    '| task | trpo_tf, 5 seeds | best published TRPO, several seeds |',
    '|---|---|---|',
  ]
  for row in rows:
    target = _TARGETS[row.task]
    lines.append(f'| {row.task} | {_ours(row)} | {_published(target)} |')
  return '\n'.join(lines)


def bars(rows: Sequence[Row]) -> str:
  """Renders our means beside the project's bars and the published means."""
  lines = [
    '| task | bar | ours | best published TRPO at 1M, several seeds |',
    '|---|---|---|---|',
  ]
  for row in rows:
    target = _TARGETS[row.task]
    lines.append(
      f'| {row.task} | {target.bar:.0f} | {_against_bar(row)} '
      f'| {_published(target)}, {target.seeds} seeds |'
    )
  return '\n'.join(lines)


def headlines(rows: Sequence[Row], directory: pathlib.Path) -> str:
  """Renders single path and the vine whose every step counts, with the bars.

  Args:
    rows: the runs of single path.
    directory: the runs TASK_every_step/SEED of the vine.

  Returns:
    The Markdown text, with a row for each task.
  """
  vines = {row.task: row for row in _every_step_rows(directory)}
  lines = [
    '| task | bar | single path | best published TRPO, several seeds '
    '| bar of the vine | vine, every step |',
    '|---' * 6 + '|',
  ]
  for row in rows:
    target, cells = _TARGETS[row.task], ['-', '-']
    if vine := vines.get(row.task):
      bar = _vine_bar(row)
      cells = [f'{bar:.0f}', f'{_mean(vine)} {_verdict(vine, bar)}']
    lines.append(
      f'| {row.task} | {target.bar:.0f} | {_against_bar(row)} '
      f'| {_published(target)} | {" | ".join(cells)} |'
    )
  return '\n'.join(lines)


def fresh(rows: Sequence[Row]) -> str:
  """Renders the runs of seeds that no setting was chosen on."""
  lines = [
    '| task | seeds | return of the mean policy | each seed |',
    '|---|---|---|---|',
  ]
  for row in rows:
    mean, _, each = _cell(row).partition(': ')
    seeds = f'{row.seeds[0]} to {row.seeds[-1]}'
    lines.append(f'| {row.task} | {seeds} | {mean} | {each} |')
  return '\n'.join(lines)


def vine(directory: pathlib.Path, v5: pathlib.Path) -> str:
  """Renders the vine beside single path, without and with a value network.

  Args:
    directory: the runs TASK_METHOD/SEED.
    v5: the runs TASK/SEED of single path with a value network.

  Returns:
    The Markdown text.
  """
  heads = [*_VINE_METHODS.values(), 'single path, value network']
  lines = [f'| task | {" | ".join(heads)} |', '|---' * 5 + '|']
  for task in _VINE_TASKS:
    rows = [_row(directory / f'{task}_{method}') for method in _VINE_METHODS]
    rows.append(_row(v5 / task))
    lines.append(f'| {rows[0].task} | {" | ".join(map(_cell, rows))} |')
  return '\n'.join(lines)


def every_step(directory: pathlib.Path, v5: pathlib.Path) -> str:
  """Renders the vine whose every step counts beside single path.

  Args:
    directory: the runs TASK_every_step/SEED.
    v5: the runs TASK/SEED of single path.

  Returns:
    The Markdown text. The bar is single path's mean minus half the width of its
    interval.
  """
  lines = [
    '| task | single path | vine, every step | bar |',
    '|---|---|---|---|',
  ]
  for task, vine in zip(
    _EVERY_STEP_TASKS, _every_step_rows(directory), strict=True
  ):
    path = _row(v5 / task)
    bar = _vine_bar(path)
    lines.append(
      f'| {path.task} | {_cell(path)} | {_cell(vine)} '
      f'| {bar:.0f} {_verdict(vine, bar)} |'
    )
  return '\n'.join(lines)


def _every_step_rows(directory: pathlib.Path) -> list[Row]:
  return [_row(directory / f'{task}_every_step') for task in _EVERY_STEP_TASKS]


def _vine_bar(path: Row) -> float:
  """Single path's mean minus half the width of its interval."""
  low, high = statistics.bootstrap_interval(path.deterministic)
  return float(np.mean(path.deterministic) - (high - low) / 2)


def _cell(row: Row) -> str:
  each = ', '.join(f'{value:.0f}' for value in row.deterministic)
  return f'{_mean(row)}: {each}'


def _mean(row: Row) -> str:
  low, high = statistics.bootstrap_interval(row.deterministic)
  return f'{np.mean(row.deterministic):.0f} ({low:.0f} to {high:.0f})'


def _against_bar(row: Row) -> str:
  return f'{_ours(row)} {_verdict(row, _TARGETS[row.task].bar)}'


def _verdict(row: Row, bar: float) -> str:
  return ratios.verdict(bool(np.mean(row.deterministic) >= bar))


def _ours(row: Row) -> str:
  """Our mean, bold if its whole interval is above the published mean."""
  low, high = statistics.bootstrap_interval(row.deterministic)
  mean = f'{np.mean(row.deterministic):.0f}'
  if low > _TARGETS[row.task].published:
    mean = f'**{mean}**'
  return f'{mean} ({low:.0f} to {high:.0f})'


def _published(target: _Target) -> str:
  return f'{target.published:.0f} ({target.source})'
