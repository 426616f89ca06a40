"""The table and the picture of bench_estimators."""

from typing import Any, NamedTuple

import matplotlib
import matplotlib.figure
import numpy as np
import rich.table

from trpo_tf.experiment.plots import COLORS, STYLE

__all__ = ['draw', 'table']

_FAMILIES = {
  'single path': 'single path',
  'vine, every_step, antithetic': 'vine, every step, antithetic',
  'vine, every_step': 'vine, every step',
  'vine': 'vine, first actions only',
}


class _Row(NamedTuple):
  """An estimator: its name and family, its cost, its quality and half width."""

  name: str
  family: str
  env_steps: float
  mean: float
  half: float


def _rows(result: dict[str, Any]) -> list[_Row]:
  rows = []
  for name, found in result['estimators'].items():
    family = next(v for k, v in _FAMILIES.items() if name.startswith(k))
    cosines = np.array(found['cosines'])
    half = 1.96 * cosines.std(ddof=1) / np.sqrt(len(cosines))
    rows.append(
      _Row(name, family, found['env_steps'], float(cosines.mean()), float(half))
    )
  return rows


def _title(result: dict[str, Any]) -> str:
  settings = result['settings']
  return f'{settings["task"]} after {settings["trained_env_steps"]:,} env steps'


def table(result: dict[str, Any]) -> rich.table.Table:
  """Makes the table of bench_estimators' JSON."""
  made = rich.table.Table(
    title=_title(result),
    caption=(
      f'means of {result["settings"]["batches"]} batches with 95 % intervals; '
      f'two halves of the reference agree to {result["split_half"]:.3f}, so a '
      f'perfect step would have {result["limit"]:.3f}; vine T/N/K/L: trunk '
      'steps, states, actions, branch length'
    ),
  )
  made.add_column('estimator')
  made.add_column('env steps', justify='right')
  made.add_column('quality', justify='right')
  for row in _rows(result):
    made.add_row(
      row.name, f'{row.env_steps:,.0f}', f'{row.mean:.3f} +- {row.half:.3f}'
    )
  return made


def draw(result: dict[str, Any]) -> matplotlib.figure.Figure:
  """Draws quality against env steps of bench_estimators' JSON."""
  with matplotlib.rc_context(STYLE):
    figure = matplotlib.figure.Figure(
      figsize=(6.4, 4.2), dpi=160, layout='constrained'
    )
    axis = figure.subplots()
    rows = _rows(result)
    for color, family in zip(COLORS, _FAMILIES.values(), strict=False):
      own = [row for row in rows if row.family == family]
      axis.errorbar(
        [row.env_steps for row in own],
        [row.mean for row in own],
        [row.half for row in own],
        fmt='o',
        markersize=4,
        color=color,
        label=family,
      )
    path = sorted(
      (row.env_steps, row.mean)
      for row in rows
      if row.name.startswith('single path, GAE')
    )
    axis.plot(*zip(*path, strict=True), color=COLORS[0], linewidth=1)
    axis.set_xlabel('env steps of a batch, branches included')
    axis.set_ylabel('cosine with the reference')
    axis.set_title(_title(result))
    axis.set_ylim(bottom=min(0.0, *(row.mean - row.half for row in rows)))
    axis.legend(frameon=False)
  return figure
