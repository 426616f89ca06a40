"""Describes Table 1 and Figure 5 of the paper: seven Atari games."""

import json
import pathlib
from collections.abc import Mapping

import numpy as np

from trpo_tf.config import ExperimentConfig
from trpo_tf.reproduction.table import Budget, Curve, Table
from trpo_tf.tasks.atari import PAPER_GAMES

__all__ = ['TABLE', 'score', 'score_error']

_METHODS = 'random', 'single_path', 'vine', 'gae', 'gae84'
_LABELS = {
  'beam_rider': 'Beam Rider',
  'breakout': 'Breakout',
  'enduro': 'Enduro',
  'pong': 'Pong',
  'qbert': 'Q*bert',
  'seaquest': 'Seaquest',
  'space_invaders': 'Space Invaders',
  'single_path': 'single path',
  'gae': 'value network',
  'gae84': 'value network, 84 x 84',
}
_EPISODES = 100  # the mean score of so many last episodes is shown
_RANDOM = 'random (paper)'
# These are the rows of Table 1 of the paper and two more. Mnih et al. 2015
# measured random play again, with an action every six frames (Nature 518,
# extended data table 2). OpenAI Baselines published curves of its TRPO, whose
# ends are the last row (Atari10M, 10M env steps, six runs).
_PUBLISHED = {
  _RANDOM: (354, 1.2, 0, -20.4, 157, 110, 179),
  'random (Mnih et al. 2015)': (363.9, 1.7, 0, -20.7, 163.9, 68.4, 148.0),
  'human (Mnih et al. 2013)': (7456, 31.0, 368, -3.0, 18900, 28010, 3690),
  'deep Q learning (Mnih et al. 2013)': (
    4092,
    168.0,
    470,
    20.0,
    1952,
    1705,
    581,
  ),
  'UCC-I (Guo et al. 2014)': (5702, 380, 741, 21, 20025, 2995, 692),
  'TRPO, single path (paper, 50M env steps)': (
    1425.2,
    10.8,
    534.6,
    20.9,
    1973.5,
    1908.6,
    568.4,
  ),
  'TRPO, vine (paper, 200M env steps)': (
    859.5,
    34.2,
    430.8,
    20.9,
    7732.5,
    788.4,
    450.2,
  ),
  'TRPO (OpenAI Baselines, 10M env steps)': (
    814,
    23.1,
    20.8,
    15.6,
    3579,
    824,
    544,
  ),
}
# Env steps of an iteration (Table 3).
_PAPER_STEPS = {'single_path': 100e3, 'vine': 400e3}
_SHORT_STEPS = {
  ('pong', 'gae'): 10_000_000,
  ('breakout', 'gae'): 10_000_000,
  ('enduro', 'gae'): 5_000_000,
}
_SHORT = {
  # The paper's iterations take 100K and 400K env steps. There are few slots
  # here, so that each still plays games to their end.
  'single_path': ('--num_slots=8', '--batch_steps=20480'),
  'vine': ('--num_slots=4', '--batch_steps=2048', '--rollout_set_size=180'),
}
# What single games change in the flagfiles with a value network; docs/atari.md
# says why.
_OF_GAME = {
  (game, method): settings
  for method in ('gae', 'gae84')
  for game, settings in {
    'breakout': ('--value_epochs=2',),
    'enduro': ('--atari_actions=joystick', '--stagger_steps=3328'),
  }.items()
}
_SMOKE = {
  'random': (),
  'vine': (
    '--num_slots=4',
    '--batch_steps=64',
    '--rollout_set_size=8',
    '--branch_length=8',
  ),
}


def _paper(game: str, method: str) -> tuple[str, ...]:
  return _OF_GAME.get((game, method), ())  # else the flagfiles as they are


def _short(game: str, method: str) -> tuple[str, ...]:
  if method == 'random':
    return ()
  steps = _SHORT_STEPS.get((game, method), 2_000_000)
  settings = *_OF_GAME.get((game, method), ()), *_SHORT.get(method, ())
  return *settings, '--total_iterations=0', f'--total_env_steps={steps}'


def _smoke(game: str, method: str) -> tuple[str, ...]:
  sizes = _SMOKE.get(method, ('--num_slots=4', '--batch_steps=64'))
  short = '--total_iterations=2', '--time_limit=40'
  return *_OF_GAME.get((game, method), ()), *short, *sizes


def _recent(progress: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
  """Number, mean and variance of the last episodes, [iterations] each."""
  episodes = progress['episodes']
  counts = np.diff(episodes, prepend=0)
  means, deviations = (
    np.where(counts > 0, progress[name], 0)
    for name in ('return_mean', 'return_std')
  )
  moments = np.stack(
    [counts, counts * means, counts * (means**2 + deviations**2)]
  )
  sums = np.pad(moments.cumsum(axis=1), [(0, 0), (1, 0)])
  # the smallest number of whole iterations that have that many episodes
  begin = np.searchsorted(sums[0], sums[0, 1:] - _EPISODES, side='right') - 1
  number, total, square = sums[:, 1:] - sums[:, np.maximum(begin, 0)]
  with np.errstate(invalid='ignore'):
    mean = total / number
    return number, mean, square / number - mean**2


def score(
  progress: Mapping[str, np.ndarray], config: ExperimentConfig
) -> np.ndarray:
  """Computes the mean raw score of the last 100 episodes.

  It averages over whole iterations: the smallest number of them that have 100
  episodes, or all of them while there are fewer episodes.

  Args:
    progress: columns of progress.csv, [iterations] each; see progress.read_csv.
    config: settings of the run, which are not used.

  Returns:
    float64 [iterations]; NaN before the first episode has ended.
  """
  del config
  return _recent(progress)[1]


def score_error(
  progress: Mapping[str, np.ndarray], config: ExperimentConfig
) -> np.ndarray:
  """Computes the standard errors of `score`, as if episodes were independent.

  Args:
    progress: columns of progress.csv, [iterations] each; see progress.read_csv.
    config: settings of the run, which are not used.

  Returns:
    float64 [iterations]; NaN before the second episode has ended.
  """
  del config
  number, _, variance = _recent(progress)
  with np.errstate(invalid='ignore'):
    error = np.sqrt(np.maximum(variance, 0) / np.maximum(number - 1, 1))
  return np.where(number > 1, error, np.nan)


def _curves() -> dict[str, dict[str, Curve]]:
  path = pathlib.Path(__file__).with_name('figure5.json')
  panels = json.loads(path.read_text())['panels']
  return {
    game: {
      method: Curve(
        _PAPER_STEPS[method] * np.array(curve['x'], float),
        np.array(curve['y'], float),
        np.zeros((0, 3)),
      )
      for method, curve in curves.items()
    }
    for game, curves in panels.items()
  }


TABLE = Table(
  name='atari',
  tasks=dict.fromkeys(PAPER_GAMES, _METHODS),
  labels=_LABELS,
  absent={},
  flagfiles='configs/atari',
  base_flags=('--flagfile={flagfiles}/{method}.flags', '--task=atari/{task}'),
  budgets={
    'smoke': Budget(_smoke, {}, seeds=1),
    'short': Budget(_short, {}, seeds=1),
    'paper': Budget(_paper, {}, seeds=1),
  },
  # measured in training on one core of an Intel Xeon of 2 GHz
  speeds=dict.fromkeys(PAPER_GAMES, 700),
  metric=score,
  metric_name='score',
  metric_text=f'mean raw score of the last {_EPISODES} episodes',
  reference=_curves(),
  reference_text='Figure 5 of Schulman et al. 2015 (arXiv 1502.05477v5), '
  'digitised from its vector graphics: one run each, smoothed',
  figure_text='ours: mean of the last 100 episodes (at first, of the shortest '
  'games, which end first) and, where it is known, its 95 % interval, with '
  'several seeds that of their mean; paper: one run, smoothed, up to where '
  'ours ends',
  error=score_error,
  by_env_steps=True,
  window=0.0,
  published={
    name: dict(zip(PAPER_GAMES, row, strict=True))
    for name, row in _PUBLISHED.items()
  },
  counterparts={'random': _RANDOM},
)
