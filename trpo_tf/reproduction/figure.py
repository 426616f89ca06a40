"""Draws the learning curves of a reproduction over the published ones."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import matplotlib.axes
import matplotlib.figure
import matplotlib.lines
import matplotlib.ticker

from trpo_tf.experiment.plots import COLORS, STYLE
from trpo_tf.reproduction.results import Result
from trpo_tf.reproduction.table import Curve, Table

__all__ = ['draw']

_COLORS = (*COLORS, '#888888', '#8B5A2B')
_OURS: dict[str, Any] = dict(linewidth=1.9, solid_capstyle='round')
_PAPER: dict[str, Any] = dict(linewidth=1.0, linestyle=(0, (4, 1.5)))
_GREY = '#606060'


def draw(table: Table, results: Sequence[Result]) -> matplotlib.figure.Figure:
  """Draws one panel for each task, two or four panels in a row.

  Args:
    table: the table.
    results: the results to draw; a method has the same colour in all panels.

  Returns:
    The figure.
  """
  tasks = [t for t in table.tasks if any(r.task == t for r in results)]
  columns = min(2 if len(tasks) <= 4 else 4, len(tasks))
  rows = -(-len(tasks) // columns)
  colors = dict(zip(table.methods, _COLORS, strict=False))
  with matplotlib.rc_context(STYLE):
    figure = matplotlib.figure.Figure(
      figsize=(1.2 + 4.4 * columns, 1.3 + 3.1 * rows),
      dpi=200,
      layout='constrained',
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, task in zip(axes.flat, tasks, strict=False):
      shown = [result for result in results if result.task == task]
      for result in reversed(shown):  # the table's first lie on top
        _draw_one(axis, result, colors[result.method])
      for method, curve in _others(table, task, shown).items():
        _draw_reference(axis, curve, colors[method])
      axis.set_title(table.labels.get(task, task), loc='left')
      axis.set_xlabel('env steps' if table.by_env_steps else 'iteration')
      if table.by_env_steps:
        axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=''))
      axis.margins(x=0.015)
      if ends := [r.x[-1] for r in shown if r.x.size > 1]:
        axis.set_xlim(-0.015 * max(ends), 1.015 * max(ends))
    for axis in axes.flat[len(tasks) :]:
      axis.remove()
    for axis in axes[:, 0]:
      axis.set_ylabel(table.metric_name.replace('_', ' '))
    _add_legend(figure, table, results, colors)
  return figure


def _others(
  table: Table, task: str, shown: Sequence[Result]
) -> dict[str, Curve]:
  """The published curves of methods that were not run."""
  if not table.by_env_steps:
    return {}
  methods = {result.method for result in shown}
  curves = table.reference.get(task, {}).items()
  return {method: curve for method, curve in curves if method not in methods}


def _draw_one(axis: matplotlib.axes.Axes, result: Result, color: str) -> None:
  if result.reference is not None:
    _draw_reference(axis, result.reference, color)
  x = result.x
  low, high = result.interval
  if x.size == 1:  # a policy that does not learn is drawn as a level
    axis.axhspan(low[0], high[0], color=color, alpha=0.18, linewidth=0)
    axis.axhline(result.values.mean(), color=color, zorder=3, **_OURS)
    return
  axis.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
  axis.plot(x, result.values.mean(axis=0), color=color, zorder=3, **_OURS)


def _draw_reference(
  axis: matplotlib.axes.Axes, curve: Curve, color: str
) -> None:
  axis.plot(curve.x, curve.y, color=color, zorder=2.5, alpha=0.9, **_PAPER)
  x, low, high = curve.errors.reshape(-1, 3).T
  axis.vlines(x, low, high, color=color, linewidth=0.8, alpha=0.45)


def _add_legend(
  figure: matplotlib.figure.Figure,
  table: Table,
  results: Sequence[Result],
  colors: dict[str, str],
) -> None:
  line = matplotlib.lines.Line2D
  run = {result.method for result in results}
  for task in {result.task for result in results}:
    run |= _others(table, task, results).keys()
  methods = [method for method in table.methods if method in run]
  entries = [
    line([], [], color=colors[m], label=table.labels.get(m, m), **_OURS)
    for m in methods
  ]
  entries += [
    line([], [], color=_GREY, label='ours (solid)', **_OURS),
    line([], [], color=_GREY, label='paper (dashed)', **_PAPER),
  ]
  columns = min(5, len(entries)) if len(figure.axes) > 1 else 3
  figure.legend(handles=entries, loc='outside upper center', ncols=columns)
  figure.supxlabel(table.figure_text, fontsize=7, color=_GREY)
