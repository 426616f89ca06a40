"""Tables of the runs at one million env steps in docs/results/v5 and vine."""

import dataclasses
import math
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
  'read',
  'vine',
]


@dataclasses.dataclass(frozen=True)
class _Target:
  """What a task is compared with.

  Attributes:
    bar: the return that this project set itself.
    published: the best published mean of several seeds of TRPO after one
      million env steps; NaN if there is none.
    source: where that mean comes from and for which version of the task.
    seeds: number of seeds of that mean.
  """

  bar: float
  published: float = math.nan
  source: str = ''
  seeds: int = 0


_TARGETS = {
  'Ant-v5': _Target(3600, 3554, 'sb3-contrib, v3', 3),
  'HalfCheetah-v5': _Target(5800, 4471, 'Tianshou, v3', 10),
  'Hopper-v5': _Target(3500, 3372, 'sb3-contrib, v3', 3),
  'Humanoid-v5': _Target(1030, 810, 'Tianshou, v3', 10),
  'HumanoidStandup-v5': _Target(125_000),
  'InvertedDoublePendulum-v5': _Target(9258, 8994, 'nnabla, v2', 3),
  'InvertedPendulum-v5': _Target(1000, 1000, 'Tianshou, v2', 10),
  'Pusher-v5': _Target(-27),
  'Reacher-v5': _Target(-3.3, -4.8, 'OpenAI Baselines, v1', 6),
  'Swimmer-v5': _Target(359, 359, 'sb3-contrib, v3', 3),
  'Walker2d-v5': _Target(4700, 4502, 'sb3-contrib, v3', 3),
}
_VINE_TASKS = 'hopper', 'walker2d', 'swimmer'
_EVERY_STEP_TASKS = 'hopper', 'walker2d', 'half_cheetah', 'swimmer'
_VINE_METHODS = {
  'vine_no_value': 'vine, no value function',
  'single_path_no_value': 'single path, no value function (time baseline)',
  'vine_short': 'vine, short branches and value network',
  'single_path': 'single path, value network',
}


def read(directory: pathlib.Path) -> list[Row]:
  """Reads TASK/SEED/evaluation.json below a directory, a row for each task."""
  return [_row(group) for group in _groups(directory)]


def _groups(directory: pathlib.Path) -> list[pathlib.Path]:
  return [group for group in sorted(directory.iterdir()) if group.is_dir()]


def _row(group: pathlib.Path) -> Row:
  found = [path for path in group.iterdir() if path.is_dir()]
  return tables.summarize(map(tables.load_evaluation, found))


def evaluations(rows: Sequence[Row]) -> str:
  """Renders every number of the evaluations, as bin/table.py does."""
  return tables.markdown(rows).rstrip('\n')


def against_published(rows: Sequence[Row]) -> str:
  """Renders our means beside the published ones."""
  heads = ('task', 'trpo_tf', 'seeds', 'best published TRPO, several seeds')
  cells = []
  for row in rows:
    published = _published(_TARGETS[row.task])
    cells.append((row.task, _ours(row), str(len(row.seeds)), published))
  return tables.grid(heads, cells)


def bars(rows: Sequence[Row]) -> str:
  """Renders our means beside the project's bars and the published means."""
  heads = ('task', 'bar', 'ours', 'best published TRPO at 1M, several seeds')
  cells = []
  for row in rows:
    target = _TARGETS[row.task]
    bar = tables.number(target.bar)
    cells.append((row.task, bar, _against_bar(row), _published(target)))
  return tables.grid(heads, cells)


def vine(directory: pathlib.Path) -> str:
  """Renders the vine beside single path, without and with a value network.

  Args:
    directory: the runs TASK_METHOD/SEED.

  Returns:
    The Markdown text.
  """
  cells = []
  for task in _VINE_TASKS:
    rows = [_row(directory / f'{task}_{method}') for method in _VINE_METHODS]
    cells.append((rows[0].task, *map(_cell, rows)))
  return tables.grid(('task', *_VINE_METHODS.values()), cells)


def every_step(directory: pathlib.Path) -> str:
  """Renders the vine whose every step counts beside single path.

  Args:
    directory: the runs TASK_every_step/SEED and TASK_single_path/SEED.

  Returns:
    The Markdown text. The bar is single path's mean minus half the width of its
    interval.
  """
  cells = []
  for task in _EVERY_STEP_TASKS:
    path = _row(directory / f'{task}_single_path')
    vine = _row(directory / f'{task}_every_step')
    low, high = statistics.bootstrap_interval(path.deterministic)
    bar = float(np.mean(path.deterministic) - (high - low) / 2)
    against = f'{bar:.0f} {_verdict(vine, bar)}'
    cells.append((path.task, _cell(path), _cell(vine), against))
  return tables.grid(('task', 'single path', 'vine, every step', 'bar'), cells)


def _cell(row: Row) -> str:
  each = ', '.join(map(tables.number, row.deterministic))
  return f'{tables.mean(row.deterministic)}: {each}'


def _against_bar(row: Row) -> str:
  return f'{_ours(row)} {_verdict(row, _TARGETS[row.task].bar)}'


def _verdict(row: Row, bar: float) -> str:
  return ratios.verdict(bool(np.mean(row.deterministic) >= bar))


def _ours(row: Row) -> str:
  """Our mean, bold if its whole interval is above the published mean."""
  low, _ = statistics.bootstrap_interval(row.deterministic)
  mean, *interval = tables.mean(row.deterministic).split(' ', 1)
  bold = '**' if low > _TARGETS[row.task].published else ''
  return ' '.join([f'{bold}{mean}{bold}', *interval])


def _published(target: _Target) -> str:
  if math.isnan(target.published):
    return '-'
  mean = tables.number(target.published)
  return f'{mean} ({target.source}, {target.seeds} seeds)'
