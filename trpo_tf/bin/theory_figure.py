"""The picture of the theory binary."""

from typing import Any

import matplotlib
import matplotlib.figure
import numpy as np

from trpo_tf.experiment.plots import COLORS, STYLE
from trpo_tf.theory import divergences, minorize_maximize, search, worlds
from trpo_tf.theory.comparison import Trace
from trpo_tf.theory.mdp import uniform

__all__ = ['BOUNDS', 'draw', 'random_ratios']

BOUNDS = {
  'mixture': 'mixtures (eq. 6, tight form)',
  'tv': 'total variation (eq. 8, tight form)',
  'kl': 'KL divergence (eq. 9)',
}
_COUNT = 4000  # random MDPs
_HORIZONS = (2, 5, 10, 20, 50, 100, 200, 500, 1000)
_GREY = '#808080'
_FALL = 1e-6  # a smaller decrease of eta is a rounding error
_ARRIVED = 1e-8  # distance from the best eta within which policies are equal


def draw(
  traces: dict[str, dict[str, Trace]],
  best: dict[str, float],
  found: dict[str, search.Found],
  delta: float,
) -> matplotlib.figure.Figure:
  """Draws eta and step sizes of each problem, and how tight the bounds are.

  Args:
    traces: traces by problem and method.
    best: the best eta of each problem.
    found: the tightest problem of each bound.
    delta: bound of the trust regions, in nats.

  Returns:
    The figure.
  """
  with matplotlib.rc_context(STYLE):
    figure = matplotlib.figure.Figure(
      figsize=(13.5, 6.5), dpi=160, layout='constrained'
    )
    axes = figure.subplots(2, len(traces) + 1)
    for column, (name, by_method) in enumerate(traces.items()):
      _returns(axes[0, column], by_method, best[name])
      _steps(axes[1, column], by_method, best[name])
      axes[0, column].set_title(name)
    axes[0, 0].set_ylabel('expected discounted return eta')
    axes[1, 0].set_ylabel('largest KL(old || new) of a state [nats]')
    figure.legend(
      *axes[0, 0].get_legend_handles_labels(), ncols=5, loc='outside upper left'
    )
    _tightness(axes[0, -1], found)
    _horizons(axes[1, -1], delta)
  return figure


def random_ratios(bound: str) -> np.ndarray:
  """Computes |L - eta| / penalty on random MDPs of the searches' size."""
  rng = np.random.default_rng(0)
  mdp = worlds.random_mdps(rng, _COUNT, 2, 3, 0.9)
  old, other = (worlds.random_policies(rng, mdp) for _ in range(2))
  return search.ratio(search.Found(bound, mdp, old, other))


def _styles(by_method: dict[str, Trace]) -> list[dict[str, Any]]:
  styles = [
    dict(color=color, label=name, linestyle='-')
    for color, name in zip(COLORS, by_method, strict=False)
  ]
  styles[1]['linestyle'] = '--'  # algorithm 1 often lies on CPI's curve
  return styles


def _returns(axis: Any, by_method: dict[str, Trace], best: float) -> None:
  """Draws eta as a line, or as a band if eta goes up and down."""
  for style, trace in zip(_styles(by_method), by_method.values(), strict=True):
    eta = trace.returns[1:]
    n = np.arange(1, len(eta) + 1)
    if np.diff(eta).min() > -_FALL:
      axis.plot(n, eta, **style)
    else:
      low, high = np.minimum(eta[1:], eta[:-1]), np.maximum(eta[1:], eta[:-1])
      axis.fill_between(
        n[1:],
        low,
        high,
        alpha=0.35,
        linewidth=0,
        zorder=1,
        color=style['color'],
      )
  axis.axhline(best, color=_GREY, linestyle=':', label='best policy')
  axis.set_xscale('log')


def _steps(axis: Any, by_method: dict[str, Trace], best: float) -> None:
  for style, trace in zip(_styles(by_method), by_method.values(), strict=True):
    going = best - trace.returns[:-1] > _ARRIVED
    n = np.arange(1, len(going) + 1)
    axis.plot(n[going], trace.divergences[going], **style)
  axis.set_xscale('log')
  axis.set_yscale('log')
  axis.set_xlabel('iteration')


def _tightness(axis: Any, found: dict[str, search.Found]) -> None:
  """Draws the ratios of random MDPs, and those that a search finds."""
  bins = np.logspace(-5, 0, 60)
  for color, bound in zip(COLORS[4:], found, strict=False):
    axis.hist(
      random_ratios(bound),
      bins,
      histtype='step',
      color=color,
      label=BOUNDS[bound],
    )
    axis.axvline(search.ratio(found[bound]), color=color, linestyle='--')
  axis.set_xscale('log')
  axis.set_ylim(top=1.4 * axis.get_ylim()[1])
  axis.set_title('how tight the bounds are')
  axis.set_xlabel('|L - eta| / penalty (dashed: found by search)')
  axis.set_ylabel(f'of {_COUNT} random MDPs')
  axis.legend(fontsize=7, loc='upper left')


def _horizons(axis: Any, delta: float) -> None:
  """Draws algorithm 1's first step on the grid over the horizon."""
  steps, predicted = [], []
  for horizon in _HORIZONS:
    mdp = worlds.grid(gamma=1 - 1 / horizon)
    old = uniform(mdp)
    new = minorize_maximize.step(mdp, old)
    steps.append(divergences.kl(old, new).max())
    predicted.append(minorize_maximize.predicted_divergence(mdp, old))
  axis.loglog(_HORIZONS, steps, 'o', color=COLORS[1], label='Algorithm 1')
  axis.loglog(
    _HORIZONS, predicted, color=COLORS[1], linewidth=1, label='its closed form'
  )
  axis.axhline(delta, color=COLORS[2], label='max KL')
  axis.set_title('first step on the grid')
  axis.set_xlabel('horizon 1 / (1 - gamma)')
  axis.set_ylabel('largest KL of a state [nats]')
  axis.legend(fontsize=7.5)
