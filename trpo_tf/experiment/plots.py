"""Learning curves over seeds.

Runs whose settings differ only by the seed form a group. A group is drawn as
the mean over its seeds, with the 95 % bootstrap interval of that mean as a band
and the single runs as thin lines. Each task has its own panel.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.figure
import matplotlib.ticker
import matplotlib.transforms
import numpy as np

from trpo_tf import errors
from trpo_tf.experiment import statistics
from trpo_tf.experiment.run_logs import (
  EVALUATED,
  Group,
  points,
  require_column,
)

__all__ = ['COLORS', 'STYLE', 'learning_curves']

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
_Y_LABELS = {
  'return_mean': 'undiscounted training return',
  EVALUATED: 'return of the mean policy',
  'episode_length_mean': 'episode length [env steps]',
  'mean_kl': 'mean KL of the step [nats]',
}


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
    UserError: y is not a numeric column, or a run has no finite value of it
      (NothingYetError); or smooth is out of range.
  """
  if not 0 <= smooth <= 1:  # nor is nan
    raise errors.UserError(f'--smooth={smooth} is outside [0, 1]')
  require_column(y)
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
  raw = [points(run, x, y)[0] for group in groups for run in group.runs]
  window = smooth * max(xs[-1] for xs in raw)
  for number, group in enumerate(groups):
    color = COLORS[number % len(COLORS)]
    line = _LINES[number % len(_LINES)]
    curves = [points(run, x, y, window) for run in group.runs]
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
