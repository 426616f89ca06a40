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
  """Draws bench_estimators' JSON: every estimator, and quality by env steps."""
  rows = _rows(result)
  colors = dict(zip(_FAMILIES.values(), COLORS, strict=False))
  with matplotlib.rc_context(STYLE):
    figure = matplotlib.figure.Figure(
      figsize=(11, 1.2 + 0.24 * len(rows)), dpi=160, layout='constrained'
    )
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _each(left, rows, colors)
    _by_env_steps(right, rows, colors)
    figure.suptitle(_title(result), x=0.01, ha='left', fontweight='bold')
  return figure


def _each(axis: Any, rows: list[_Row], colors: dict[str, str]) -> None:
  """Lists the estimators, with a line at single path of the same cost."""
  for place, row in enumerate(rows):
    color = colors[row.family]
    axis.errorbar(
      row.mean, place, xerr=row.half, fmt='o', markersize=4, color=color
    )
  (same,) = (r.mean for r in _paths(rows)[1:2])
  axis.axvline(same, color=colors['single path'], linewidth=0.8, zorder=0)
  axis.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=7)
  axis.invert_yaxis()
  axis.set_xlabel('cosine with the reference, 95 % interval')


def _paths(rows: list[_Row]) -> list[_Row]:
  """Returns single path with GAE by env steps: half, as many, twice as many."""
  found = [row for row in rows if row.name.startswith('single path, GAE')]
  return sorted(found, key=lambda row: row.env_steps)


def _by_env_steps(axis: Any, rows: list[_Row], colors: dict[str, str]) -> None:
  """Draws the best estimator of each family, and single path as a curve."""
  paths = _paths(rows)
  axis.errorbar(
    [row.env_steps for row in paths],
    [row.mean for row in paths],
    [row.half for row in paths],
    marker='o',
    markersize=4,
    color=colors['single path'],
    label='single path, GAE',
  )
  shift = 1.0
  for family in [*_FAMILIES.values()][1:]:
    own = [row for row in rows if row.family == family]
    if not own:
      continue
    best = max(own, key=lambda row: row.mean)
    shift *= 1.06  # so that points of equal cost stay apart
    axis.errorbar(
      best.env_steps * shift,
      best.mean,
      best.half,
      fmt='o',
      markersize=4,
      color=colors[family],
      label=f'{family} (best of {len(own)})',
    )
  axis.set_xscale('log')
  axis.set_xticks(
    [row.env_steps for row in paths],
    [f'{row.env_steps:,.0f}' for row in paths],
  )
  axis.minorticks_off()
  axis.set_xlabel('env steps of a batch, branches included')
  axis.set_ylabel('cosine with the reference')
  axis.legend(frameon=False, fontsize=7)
