"""Draws the learning curves of a reproduction over the published ones."""

import dataclasses
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.axes
import matplotlib.figure
import matplotlib.lines
import matplotlib.ticker
import numpy as np

from trpo_tf.experiment.plots import COLORS, STYLE
from trpo_tf.reproduction.results import Result
from trpo_tf.reproduction.table import Curve, Table

__all__ = ['draw']

_COLORS = (*COLORS, '#888888', '#8B5A2B')
_MARKERS = 'os^DvP<X>'
_OURS: dict[str, Any] = dict(linewidth=1.7, markersize=4.5)
_PAPER: dict[str, Any] = dict(
  linewidth=1.0,
  linestyle=(0, (4, 1.5)),
  markersize=4.5,
  markerfacecolor='white',
  markeredgewidth=0.8,
)
_GREY = '#606060'
_MARGIN = 0.015  # of the width of a panel, on each side


@dataclasses.dataclass(frozen=True)
class _Panel:
  """A panel: the results and published curves of a task that share it.

  Attributes:
    title: what stands above it.
    results: our results.
    published: the published curves, by method.
    end: the x at which it ends; infinite if nothing of ours says so.
  """

  title: str
  results: list[Result]
  published: dict[str, Curve]
  end: float

  @property
  def methods(self) -> set[str]:
    """The methods that it shows."""
    return {result.method for result in self.results} | set(self.published)


def draw(table: Table, results: Sequence[Result]) -> matplotlib.figure.Figure:
  """Draws a panel for each task, or one for each of its families of methods.

  Published curves end where ours do.

  Args:
    table: the table.
    results: the results to draw; a method looks the same in all panels.

  Returns:
    The figure.
  """
  grid = _grid(table, results)
  rows, columns = len(grid), len(grid[0])
  looks = {
    method: dict(color=color, marker=marker)
    for method, color, marker in zip(
      table.methods, _COLORS, _MARKERS, strict=False
    )
  }
  with matplotlib.rc_context(STYLE):
    figure = matplotlib.figure.Figure(
      figsize=(0.8 + 2.9 * columns, 1.2 + 2.2 * rows),
      dpi=200,
      layout='constrained',
    )
    axes = figure.subplots(
      rows,
      columns,
      squeeze=False,
      sharey='row' if _families(table, results) else 'none',
    )
    panels = list(itertools.chain(*grid))
    for axis, panel in zip(axes.flat, panels, strict=True):
      if panel is None or not panel.results:
        axis.remove()
      else:
        _draw_panel(axis, panel, looks, table.by_env_steps)
    figure.supylabel(table.metric_name.replace('_', ' '), fontsize=9)
    text = textwrap.fill(table.figure_text, 55 * columns)
    figure.supxlabel(text, fontsize=8, color=_GREY)
    shown = set[str]().union(*(p.methods for p in panels if p))
    methods = [method for method in table.methods if method in shown]
    _add_legend(figure, table, methods, looks, columns)
  return figure


def _grid(table: Table, results: Sequence[Result]) -> list[list[_Panel | None]]:
  """Arranges the panels in rows of equal length."""
  tasks = [t for t in table.tasks if any(r.task == t for r in results)]
  families = _families(table, results)
  if families:
    return [
      [_panel(table, results, task, name) for name in families]
      for task in tasks
    ]
  panels: list[_Panel | None] = [_panel(table, results, t, '') for t in tasks]
  columns = min(2 if len(tasks) <= 4 else 4, len(tasks))
  panels += [None] * (-len(tasks) % columns)
  return [panels[i : i + columns] for i in range(0, len(panels), columns)]


def _families(table: Table, results: Sequence[Result]) -> list[str]:
  """The families with results; none if a single panel of a task does."""
  run = {result.method for result in results}
  found = [n for n, members in table.families.items() if run & set(members)]
  return found if len(found) > 1 else []


def _panel(
  table: Table, results: Sequence[Result], task: str, family: str
) -> _Panel:
  of_task = [result for result in results if result.task == task]
  methods = table.families[family] if family else table.methods
  shown = [result for result in of_task if result.method in methods]
  published = {r.method: r.reference for r in shown if r.reference is not None}
  if table.by_env_steps:  # those that were not run cost nothing to compare with
    published = dict(table.reference.get(task, {})) | published
  title = table.labels.get(task, task)
  ends = [result.x[-1] for result in of_task if result.x.size > 1]
  return _Panel(
    f'{title}: {family}' if family else title,
    shown,
    published,
    max(ends, default=np.inf),
  )


def _draw_panel(
  axis: matplotlib.axes.Axes,
  panel: _Panel,
  looks: Mapping[str, dict[str, Any]],
  by_env_steps: bool,
) -> None:
  for result in reversed(panel.results):  # the table's first lie on top
    _draw_one(axis, result, looks[result.method])
  for method, curve in panel.published.items():
    _draw_published(axis, curve, looks[method], panel.end)
  axis.set_title(panel.title, loc='left', fontsize=9)
  axis.tick_params(labelleft=True)  # where a row shares them, too
  axis.set_xlabel('env steps' if by_env_steps else 'iteration')
  axis.xaxis.set_major_locator(
    matplotlib.ticker.MaxNLocator(5, integer=True, steps=[1, 2, 5, 10])
  )
  if by_env_steps:
    axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=''))
  axis.margins(x=_MARGIN)
  if np.isfinite(panel.end):
    axis.set_xlim(-_MARGIN * panel.end, (1 + _MARGIN) * panel.end)


def _draw_one(
  axis: matplotlib.axes.Axes, result: Result, look: Mapping[str, Any]
) -> None:
  x, (low, high) = result.x, result.interval
  band: dict[str, Any] = dict(color=look['color'], alpha=0.15, linewidth=0)
  if result.planned_iterations == 1:  # it does not learn: a level
    axis.axhspan(low[0], high[0], **band)
    axis.axhline(result.values.mean(), zorder=3, **look, **_OURS)
    return
  axis.fill_between(x, low, high, **band)
  axis.plot(
    x,
    result.values.mean(axis=0),
    zorder=3,
    markevery=_marks(x, 0.1),
    **look,
    **_OURS,
  )


def _draw_published(
  axis: matplotlib.axes.Axes, curve: Curve, look: Mapping[str, Any], end: float
) -> None:
  x = np.append(curve.x[curve.x < end], min(end, curve.x[-1]))
  y = np.interp(x, curve.x, curve.y)
  axis.plot(x, y, zorder=2.5, markevery=_marks(x, 0.2), **look, **_PAPER)
  x, low, high = curve.errors[curve.errors[:, 0] <= end].T
  axis.vlines(x, low, high, color=look['color'], linewidth=0.8, alpha=0.6)


def _marks(x: np.ndarray, first: float) -> list[int]:
  """The indices of the points that get a marker, evenly along x."""
  places = x[0] + np.arange(first, 1, 0.25) * (x[-1] - x[0])
  return np.searchsorted(x, places).tolist()


def _add_legend(
  figure: matplotlib.figure.Figure,
  table: Table,
  methods: Sequence[str],
  looks: Mapping[str, dict[str, Any]],
  columns: int,
) -> None:
  line = matplotlib.lines.Line2D
  entries = [
    line([], [], label=table.labels.get(m, m), **looks[m], **_OURS)
    for m in methods
  ]
  kinds = {'ours (solid)': _OURS, 'paper (dashed)': _PAPER}
  entries += [
    line([], [], color=_GREY, label=label, **style | {'markersize': 0})
    for label, style in kinds.items()
  ]
  figure.legend(
    handles=entries,
    loc='outside upper center',
    ncols=min(len(entries), 6 if columns > 3 else 4, 2 * columns),
    handlelength=3,
  )
