"""Learning curves over seeds.

Runs whose settings differ only by the seed form a group. A group is drawn as
the mean over its seeds, with the 95 % bootstrap interval of that mean as a band
and the single runs as thin lines. Each task has its own panel.
"""

import dataclasses
import math
import os
import pathlib
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.figure
import matplotlib.ticker
import matplotlib.transforms
import numpy as np

from trpo_tf import config as config_lib
from trpo_tf import errors
from trpo_tf.experiment import (
  evaluations,
  progress,
  run_groups,
  saved_runs,
  statistics,
)
from trpo_tf.methods.record import COLUMNS

__all__ = [
  'COLORS',
  'EVALUATED',
  'STYLE',
  'Group',
  'Run',
  'group_runs',
  'learning_curves',
  'load_run',
]

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLORS = (
  '#0072B2',
  '#D55E00',
  '#009E73',
  '#CC79A7',
  '#E69F00',
  '#56B4E9',
  '#000000',
)
_LINES = '-', '--', ':', '-.'  # for eyes and printers without colours
STYLE: dict[Any, Any] = {
  'font.size': 9,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.grid': True,
  'axes.axisbelow': True,
  'axes.edgecolor': '#404040',
  'axes.titleweight': 'bold',
  'grid.color': '#e6e6e6',
  'legend.frameon': False,
  'text.parse_math': False,  # a task's name may have a $ in it
}
_LEGEND = (
  'line: mean over n runs; band: its 95 % bootstrap interval; thin: single runs'
)
_GRID_POINTS = 300
_LEGEND_WIDTH = 36  # characters of a line of a legend
_LINE_INCHES = 0.19  # height of such a line
EVALUATED = 'evaluated_return'  # a y that progress.csv does not have
_Y_LABELS = {
  'return_mean': 'undiscounted training return',
  EVALUATED: 'return of the mean policy',
  'episode_length_mean': 'episode length [env steps]',
  'mean_kl': 'mean KL of the step [nats]',
}


@dataclasses.dataclass(frozen=True)
class Run:
  """The log of one run.

  Attributes:
    path: its directory.
    settings: value by flag name.
    progress: columns [iterations] of progress.csv by name.
    evaluated: rows of evaluations.csv.
  """

  path: pathlib.Path
  settings: dict[str, Any]
  progress: dict[str, np.ndarray]
  evaluated: Sequence[evaluations.Evaluated]


@dataclasses.dataclass(frozen=True)
class Group:
  """Runs that are averaged: one line of a panel.

  Attributes:
    task: the panel.
    label: the line's name in the legend, without the number of runs.
    runs: its runs.
  """

  task: str
  label: str
  runs: tuple[Run, ...]


def load_run(path: str | os.PathLike[str]) -> Run:
  """Reads the directory of a finished or running run.

  Raises:
    UserError: there is no such directory, it is not that of a run, or no
      iteration has finished yet.
  """
  path = saved_runs.expanded(path)
  settings = config_lib.settings(saved_runs.read_config(path))
  columns = progress.read_csv(path / 'progress.csv')
  if not columns['iteration'].size:
    raise errors.UserError(f'{path} has no finished iteration yet')
  last = int(columns['iteration'][-1])  # a running training may be further
  evaluated = evaluations.read(path / 'evaluations.csv', last)
  return Run(path, settings, columns, evaluated)


def group_runs(runs: Sequence[Run], by: str = 'settings') -> list[Group]:
  """Sorts runs into groups.

  Args:
    runs: the runs.
    by: which runs of a task form a group: 'settings': those whose settings
      differ only by the seed and by what does not change results; 'task': all;
      'dir': those whose directories have the same parent.

  Returns:
    The groups, in the order of their first runs.

  Raises:
    UserError: a group has the same run twice.
  """
  labels = run_groups.labels([run.settings for run in runs])
  members: dict[tuple, list[Run]] = {}
  shown: dict[tuple, str] = {}
  for run, label in zip(runs, labels, strict=True):
    task, parent = run.settings['task'], run.path.resolve().parent
    key, name = {
      'settings': (run_groups.identity(run.settings), label or task),
      'task': ('', task),
      'dir': (parent, parent.name),
    }[by]
    members.setdefault((task, key), []).append(run)
    shown[task, key] = name
  for group in members.values():
    run_groups.refuse_twins(
      {run.path: run.settings for run in group}, 'plot one of them'
    )
  return [
    Group(key[0], shown[key], tuple(group)) for key, group in members.items()
  ]


def _xy(
  run: Run, x: str, y: str, window: float
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the finite points of a run, averaged over a window of x."""
  columns = run.progress
  xs = columns['elapsed_seconds'] / 3600 if x == 'hours' else columns[x]
  if y == EVALUATED:
    done = [row.iteration for row in run.evaluated]
    xs = xs[np.searchsorted(columns['iteration'], done)]
    ys = np.array([row.return_mean for row in run.evaluated])
  else:
    ys = columns[y]
  finite = np.isfinite(xs) & np.isfinite(ys)
  xs, ys = xs[finite], ys[finite]
  if not xs.size:
    hint = ': train with --eval_every_env_steps' if y == EVALUATED else ''
    raise errors.UserError(f'{run.path} has no finite {y}{hint}')
  if (np.diff(xs) < 0).any():
    raise errors.UserError(
      f'{run.path}/progress.csv is damaged: the {x} decrease'
    )
  # Points i with |x_i - x| <= window / 2, by running sums.
  first = np.searchsorted(xs, xs - window / 2, 'left')
  end = np.searchsorted(xs, xs + window / 2, 'right')
  sums = np.concatenate([[0.0], np.cumsum(ys)])
  return xs, (sums[end] - sums[first]) / (end - first)


def _on_common_grid(
  curves: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
  """Interpolates curves over the range that all of them cover.

  Returns:
    The grid [G], that of a single curve its own points, and the values
    [curves, G]; G = 0 if no range is common.
  """
  if len(curves) == 1:
    return curves[0][0], curves[0][1][np.newaxis]
  low = max(xs[0] for xs, _ in curves)
  high = min(xs[-1] for xs, _ in curves)
  points = _GRID_POINTS if high > low else int(high == low)
  grid = np.linspace(low, high, points)
  return grid, np.array([np.interp(grid, xs, ys) for xs, ys in curves])


def learning_curves(
  groups: Sequence[Group],
  *,
  x: str = 'env_steps',
  y: str = 'return_mean',
  smooth: float = 0.02,
) -> matplotlib.figure.Figure:
  """Draws learning curves, one panel per task.

  Args:
    groups: the lines.
    x: 'env_steps' or 'hours' (wall clock, resumed runs included).
    y: a column of progress.csv, or EVALUATED: the returns of the evaluations
      during training.
    smooth: window of the moving average, as a fraction of the longest run of
      the panel; 0 shows every iteration. The x label states it.

  Returns:
    The figure.

  Raises:
    UserError: y is not a numeric column, or a run has no finite value of it;
      or smooth is out of range.
  """
  if not 0 <= smooth <= 1:  # nor is nan
    raise errors.UserError(f'--smooth={smooth} is outside [0, 1]')
  numeric = [name for name in COLUMNS if name != 'step_status'] + [EVALUATED]
  if y not in numeric:
    raise errors.UserError(f'--y={y}: choose one of {", ".join(numeric)}')
  tasks = list(dict.fromkeys(group.task for group in groups))
  columns = min(math.ceil(math.sqrt(len(tasks))), 3)
  rows = math.ceil(len(tasks) / columns)
  lines = [_legend_lines(groups, task) for task in tasks]
  legends = [max(lines[i : i + columns]) for i in range(0, len(tasks), columns)]
  with matplotlib.rc_context(STYLE):
    figure = matplotlib.figure.Figure(
      figsize=(
        1 + 3.3 * columns,
        0.6 + 2.6 * rows + _LINE_INCHES * sum(legends),
      ),
      dpi=200,
      layout='constrained',
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, task in zip(axes.flat, tasks, strict=False):
      panel = [group for group in groups if group.task == task]
      _draw_panel(axis, panel, x, y, smooth)
    for axis in axes[:, 0]:
      axis.set_ylabel(_Y_LABELS.get(y, y.replace('_', ' ')))
    for axis in axes.flat[len(tasks) :]:
      axis.remove()
    if any(len(group.runs) > 1 for group in groups):
      figure.supxlabel(_LEGEND, fontsize=8, color='#606060')
  return figure


def _draw_panel(
  axis: Any, groups: Sequence[Group], x: str, y: str, smooth: float
) -> None:
  raw = [_xy(run, x, y, 0.0)[0] for group in groups for run in group.runs]
  window = smooth * max(xs[-1] for xs in raw)
  for number, group in enumerate(groups):
    color = COLORS[number % len(COLORS)]
    line = _LINES[number % len(_LINES)]
    curves = [_xy(run, x, y, window) for run in group.runs]
    grid, values = _on_common_grid(curves)
    if len(curves) > 1:
      for xs, ys in curves:
        axis.plot(xs, ys, color=color, alpha=0.3, linewidth=0.6)
    if len(curves) > 1 and grid.size:
      low, high = statistics.bootstrap_interval(values, resamples=2000)
      axis.fill_between(grid, low, high, color=color, alpha=0.2, linewidth=0)
    axis.plot(
      grid,
      values.mean(axis=0),
      color=color,
      linestyle=line,
      linewidth=1.8,
      marker='o' if grid.size == 1 else '',
      label=_legend_text(group),
    )
  if x == 'env_steps':
    axis.xaxis.set_major_formatter(lambda value, _: _short(value))
    unit, width = 'env steps', _short(float(f'{window:.2g}'))
  else:
    unit, width = 'hours', f'{window:.2g}'
  average = f' (moving average over {width})' if window else ''
  axis.set_xlabel(unit + average)
  axis.margins(x=0.01)
  _name(axis, groups)


def _legend_text(group: Group) -> str:
  text = f'{group.label} (n={len(group.runs)})'
  return textwrap.fill(text, _LEGEND_WIDTH, break_on_hyphens=False)


def _needs_legend(groups: Sequence[Group]) -> bool:
  """Returns whether the title does not say all about a panel's lines."""
  first, *others = groups
  return bool(others) or first.label != first.task


def _legend_lines(groups: Sequence[Group], task: str) -> int:
  """Counts the lines of text in the legend of a panel."""
  panel = [group for group in groups if group.task == task]
  if not _needs_legend(panel):
    return 0
  return sum(_legend_text(group).count('\n') + 1 for group in panel)


def _name(axis: Any, groups: Sequence[Group]) -> None:
  """Writes the title and, if it does not say all, a legend below the panel."""
  first = groups[0]
  if not _needs_legend(groups):
    count = f' (n={len(first.runs)})' if len(first.runs) > 1 else ''
    axis.set_title(first.task + count, loc='left')
    return
  axis.set_title(first.task, loc='left')
  below = matplotlib.transforms.offset_copy(
    axis.transAxes, axis.figure, y=-32, units='points'
  )
  axis.legend(
    loc='upper left',
    bbox_to_anchor=(0, 0),
    bbox_transform=below,
    borderaxespad=0,
    handlelength=3,
  )


def _short(number: float) -> str:
  """Writes 250000 as 250k."""
  return matplotlib.ticker.EngFormatter(sep='')(number)
