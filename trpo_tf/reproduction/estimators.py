"""The table of what a step of simulation is worth to each estimator."""

import json
import pathlib
from typing import Any

import numpy as np

from trpo_tf.experiment import tables

__all__ = ['table']

_BASE = 'single path, GAE, {steps}'
# the estimators of the table, and what it calls them
_SHOWN = {
  'single path, GAE, {half}': 'single path, half of the steps',
  'single path, GAE, {double}': 'single path, twice the steps',
  'single path, lambda 1, {steps}': 'single path, lambda 1',
  'vine, self_normalized, {half}/{few}/2/5': 'self_normalized, K = 2, L = 5',
  'vine, self_normalized, {half}/{fewer}/4/5': 'self_normalized, K = 4, L = 5',
  'vine, importance_sampled, {half}/{few}/2/5': 'importance_sampled',
  'vine, every_step, {half}/{few}/2/5': 'every_step, K = 2, L = 5',
  'vine, every_step, antithetic, {half}/{few}/2/5': (
    '**every_step, antithetic, K = 2, L = 5**'
  ),
  'vine, every_step, antithetic, {half}/{fewer}/4/5': (
    'every_step, antithetic, K = 4, L = 5'
  ),
  'vine, every_step, antithetic, {most}/{fewer}/2/5': (
    'the same, K = 2, a quarter of the steps in branches'
  ),
  'vine, every_step, antithetic, {half}/{fewer}/2/10': (
    'every_step, antithetic, K = 2, L = 10'
  ),
  'vine, every_step, occupancy_weights=False, {half}/{few}/2/5': (
    'every_step, K = 2, L = 5, no weights'
  ),
}


def table(directory: pathlib.Path) -> str:
  """Renders the quality of each estimator over that of single path.

  The intervals of a ratio are by the delta method, from the batches of both.

  Args:
    directory: JSON files of bench_estimators.

  Returns:
    The Markdown text, with a column for each file.
  """
  found = [json.loads(p.read_text()) for p in directory.glob('*.json')]
  found.sort(key=lambda result: _key(result['settings']))
  heads = ['estimator', *(_head(result['settings']) for result in found)]
  rows = [['single path, GAE: quality', *map(_base, found)]]
  for name, text in _SHOWN.items():
    rows.append([text, *(_ratio(r, name) for r in found)])
  return tables.grid(heads, rows)


def _key(settings: dict[str, Any]) -> tuple[int, str]:
  return settings['trained_env_steps'] > 200_000, settings['task']


def _head(settings: dict[str, Any]) -> str:
  task = settings['task'].removesuffix('-v5')
  return f'{task} {round(settings["trained_env_steps"] / 1000)}K'


def _cosines(result: dict[str, Any], name: str) -> np.ndarray:
  steps = result['settings']['steps']
  sizes = dict(
    steps=steps,
    half=steps // 2,
    double=2 * steps,
    few=steps // 20,
    fewer=steps // 40,
    most=steps * 3 // 4,
  )
  return np.array(result['estimators'][name.format(**sizes)]['cosines'])


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
  return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


def _base(result: dict[str, Any]) -> str:
  mean, error = _mean_and_error(_cosines(result, _BASE))
  return f'{mean:.3f} ± {1.96 * error:.3f}'


def _ratio(result: dict[str, Any], name: str) -> str:
  base, base_error = _mean_and_error(_cosines(result, _BASE))
  mean, error = _mean_and_error(_cosines(result, name))
  if base < 2 * 1.96 * base_error:
    return f'({mean:.3f} ± {1.96 * error:.3f})'  # too noisy for a ratio
  ratio = mean / base
  half = 1.96 / base * np.hypot(error, ratio * base_error)
  return f'{ratio:.2f} ± {half:.2f}'
