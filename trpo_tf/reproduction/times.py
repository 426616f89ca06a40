"""Tables of how long the runs at one million env steps take."""

import math
import pathlib
from collections.abc import Mapping

import numpy as np

from trpo_tf.experiment import progress, tables

__all__ = ['median_seconds', 'of_runs', 'to_reach']

_SMOOTHED = 5


def median_seconds(directory: pathlib.Path) -> dict[str, float]:
  """Finds how long the runs TASK/SEED below a directory took, by task."""
  found = {}
  for group in sorted(path for path in directory.iterdir() if path.is_dir()):
    runs = sorted(group.glob('*/progress.csv'))
    task = tables.load_evaluation(runs[0].parent)['task']
    seconds = [progress.read_csv(p)['elapsed_seconds'][-1] for p in runs]
    found[task] = float(np.median(seconds))
  return found


def of_runs(seconds: Mapping[str, float], env_steps: int) -> str:
  """Renders how long runs took.

  Args:
    seconds: by task, the median seconds of a run.
    env_steps: env steps of a run.

  Returns:
    The Markdown text, with a row for each task.
  """
  rows = [
    (task, f'{median:.0f}', f'{env_steps / median:,.0f}')
    for task, median in seconds.items()
  ]
  return tables.grid(('task', 'median seconds of a run', 'env steps/s'), rows)


def to_reach(directory: pathlib.Path, target: float) -> str:
  """Renders when the training return first reached a target.

  Args:
    directory: the runs SEED of one task, with progress.csv.
    target: the return that the mean of five iterations should reach.

  Returns:
    The Markdown text, with a row for each seed and one for the medians, in
    which a run that never reached the target counts as infinitely long.
  """
  found = {
    path.parent.name: _first(progress.read_csv(path), target)
    for path in sorted(directory.glob('*/progress.csv'))
  }
  rows = [(seed, *_shown(first)) for seed, first in found.items()]
  medians = np.median(list(found.values()), axis=0)
  rows.append((f'median of {len(found)}', *_shown(medians)))
  return tables.grid(('seed', 'env steps', 'seconds'), rows)


def _first(run: Mapping[str, np.ndarray], target: float) -> tuple[float, float]:
  """Env steps and seconds after which a run first reached the target."""
  window = np.ones(_SMOOTHED) / _SMOOTHED
  means = np.convolve(run['return_mean'], window, 'valid')
  reached = np.flatnonzero(means >= target)
  if reached.size == 0:
    return math.inf, math.inf
  last = reached[0] + _SMOOTHED - 1
  return float(run['env_steps'][last]), float(run['elapsed_seconds'][last])


def _shown(first: tuple[float, float] | np.ndarray) -> tuple[str, str]:
  steps, seconds = first
  if math.isinf(steps):
    return 'never', '-'
  return f'{steps:,.0f}', f'{seconds:.1f}'
