"""The tables of the native vine's speed and variance, from bench_vine."""

import json
import pathlib
from typing import Any

from trpo_tf.experiment import tables
from trpo_tf.reproduction import ratios

__all__ = ['read', 'speed', 'variance']

_TASKS = 'hopper', 'walker2d', 'halfcheetah', 'humanoid'


def read(directory: pathlib.Path) -> list[dict[str, Any]]:
  """Reads the JSON files of bench_vine, one for each task."""
  return [json.loads((directory / f'{t}.json').read_text()) for t in _TASKS]


def speed(directory: pathlib.Path) -> str:
  """Renders the speed of the vine over that of its limit and its rivals.

  Args:
    directory: JSON files of bench_vine.

  Returns:
    The Markdown text, with a row for each task. Intervals are 95 %.
  """
  heads = (
    'task',
    'native vine, env steps/s',
    '/ bare physics (bar >= 0.97)',
    'with recorded steps / bare physics (bar >= 0.96)',
    '/ mujoco.batch in lock-step (bar > 1)',
    '/ Gymnasium loop (bar >= 4 on Hopper)',
    'update per env step / single path (bar <= 1.1)',
    'time of a clone, us (of mj_copyData)',
  )
  rows = []
  for found in read(directory):
    rivals, clone = found['rivals'], found['clone']
    loop_bar = 4 if found['task'] == 'Hopper-v5' else None
    cells = (
      found['task'],
      f'{found["native_env_steps_per_second"]:,.0f}',
      ratios.at_least(found['native_over_physics'], 0.97),
      ratios.at_least(found['recorded']['native_over_physics'], 0.96),
      ratios.at_least(rivals['mujoco_batch']['native_over'], 1),
      ratios.at_least(rivals['gymnasium']['native_over'], loop_bar),
      ratios.at_most(found['update']['vine_over_single_path'], 1.1),
      f'{clone["native"]:.2f} ({clone["mj_copyData"]:.1f})',
    )
    rows.append(cells)
  return tables.grid(heads, rows)


def variance(directory: pathlib.Path) -> str:
  """Renders the variance with common random numbers over that without.

  Args:
    directory: JSON files of bench_vine.

  Returns:
    The Markdown text, with a row for each task and policy. A cell has the
    median over states with its 95 % interval, the factor of steps saved, and
    the ratio of the mean variances.
  """
  rows, heads = [], []
  for result in read(directory):
    for policy, horizons in result['crn_variance_ratio'].items():
      heads = [f'L = {horizon}' for horizon in horizons]
      rows.append(
        [f'{result["task"]}, {policy}', *map(_variance, horizons.values())]
      )
  return tables.grid(['task, policy', *heads], rows)


def _variance(found: dict[str, Any]) -> str:
  if not found['states']:
    return 'no variance in any state'
  low, high = found['ci95']
  saved = found['simulator_steps_saved']
  times = f'{saved:.3g} x' if saved else 'all'
  return (
    f'{found["median"]:.3g} ({low:.2g} to {high:.2g}): {times}; '
    f'of means {found["pooled"]:.2g}'
  )
