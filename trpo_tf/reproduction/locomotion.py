"""Describes Figure 4 of the paper: eight methods on four continuous tasks."""

import json
import pathlib
from collections.abc import Mapping

import numpy as np

from trpo_tf.config import POPULATION_METHODS, ExperimentConfig
from trpo_tf.reproduction.table import Budget, Curve, Sweep, Table, carried
from trpo_tf.tasks import registry

__all__ = ['TABLE', 'reward_per_step']

_TASKS = {
  'cartpole': (
    'vine',
    'single_path',
    'natural_gradient',
    'max_kl',
    'empirical_fisher',
    'cem',
    'cma',
    'rwr',
    'rwr_exponential',
  ),
  'swimmer': (
    'vine',
    'single_path',
    'natural_gradient',
    'empirical_fisher',
    'cem',
    'cma',
    'rwr',
  ),
  'hopper': ('vine', 'single_path', 'natural_gradient', 'cem', 'rwr'),
  'walker': ('vine', 'single_path', 'natural_gradient', 'cem', 'rwr'),
}
_LABELS = {
  'cartpole': 'cart-pole',
  'single_path': 'single path',
  'natural_gradient': 'natural gradient',
  'max_kl': 'max KL',
  'empirical_fisher': 'empirical FIM',
  'cem': 'CEM',
  'cma': 'CMA',
  'rwr': 'RWR',
  'rwr_exponential': 'RWR, exponential weights',
}
_ABSENT = {
  'max_kl': 'Figure 4 has it on the cart-pole alone; train it with '
  '--method=max_kl --fisher_fraction=1',
  'empirical_fisher': 'Figure 4 does not have it on hopper and walker; train '
  'it with --method=empirical_fisher',
  'rwr_exponential': 'the paper does not have it; it is there to see whether '
  'RWR solves the cart-pole at all',
  'cma': 'the covariance of thousands of parameters is too large',
}
# The paper sweeps the step size in factors of three. The authors' code does so
# with these multipliers.
_MULTIPLIERS = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
# An iteration takes about a 50th of the 1M env steps of Table 2. Candidates are
# paths; there are a 25th as many of them.
_SHORT = {
  'vine': ('--num_slots=5', '--batch_steps=5000', '--rollout_set_size=88'),
  'paths': ('--num_slots=20', '--batch_steps=20000'),
  'candidates': ('--num_slots=40', '--batch_steps=40'),
}
_SMOKE = {
  # the trunks are long enough for an episode to end in them
  'vine': (
    '--num_slots=2',
    '--batch_steps=2000',
    '--rollout_set_size=8',
    '--branch_length=20',
  ),
  'paths': ('--num_slots=20', '--batch_steps=20', '--fit_evaluations=5'),
  'candidates': ('--num_slots=20', '--batch_steps=20'),
}


def _kind(method: str) -> str:
  if method == 'vine':
    return 'vine'
  return 'candidates' if method in POPULATION_METHODS else 'paths'


def _paper(task: str, method: str) -> tuple[str, ...]:
  del task, method
  return ()  # the flagfiles as they are


def _short(task: str, method: str) -> tuple[str, ...]:
  if task in ('cartpole', 'swimmer'):
    return ()
  return '--total_iterations=100', *_SHORT[_kind(method)]


def _smoke(task: str, method: str) -> tuple[str, ...]:
  del task
  return '--total_iterations=2', *_SMOKE[_kind(method)]


def _sweep(values: tuple[float, ...]) -> dict[str, Sweep]:
  return {'natural_gradient': Sweep('lagrange_multiplier', values)}


def reward_per_step(
  progress: Mapping[str, np.ndarray], config: ExperimentConfig
) -> np.ndarray:
  """Computes the mean reward per env step over the fixed horizon.

  There is no reward after the end of an episode. An iteration in which no
  episode ended, which can happen in the vine's trunks, has the value of the
  iteration before it.

  Args:
    progress: columns of progress.csv, [iterations] each; see progress.read_csv.
    config: settings of the run.

  Returns:
    float64 [iterations]; NaN before the first episode has ended.

  Raises:
    ValueError: the task has no time limit.
  """
  task = registry.find_task(config.task.task)
  horizon = config.task.time_limit or (task.time_limit if task else 0)
  if not horizon:
    raise ValueError(f'{config.task.task} needs a --time_limit')
  return carried(progress['return_mean']) / horizon


def _curves() -> dict[str, dict[str, Curve]]:
  path = pathlib.Path(__file__).with_name('figure4.json')
  panels = json.loads(path.read_text())['panels']
  return {
    task: {
      method: Curve(*(np.array(curve[key], float) for key in ('x', 'y', 'err')))
      for method, curve in curves.items()
    }
    for task, curves in panels.items()
  }


TABLE = Table(
  name='locomotion',
  tasks=_TASKS,
  labels=_LABELS,
  absent=_ABSENT,
  flagfiles='configs/paper',
  budgets={
    'smoke': Budget(_smoke, _sweep((1.0, 0.3)), seeds=1),
    'short': Budget(_short, _sweep(_MULTIPLIERS), seeds=5),
    'paper': Budget(_paper, _sweep(_MULTIPLIERS), seeds=5),
  },
  # medians over the published runs, two at a time on two cores
  speeds={'cartpole': 150e3, 'swimmer': 9e3, 'hopper': 5e3, 'walker': 5e3},
  metric=reward_per_step,
  metric_name='reward_per_step',
  metric_text='reward per env step over the fixed horizon (1000 steps; '
  'swimmer 500), where a fallen episode earns 0 for the rest, of actions as '
  'they are sampled (CEM and CMA: mean actions)',
  reference=_curves(),
  families={
    'TRPO': ('vine', 'single_path'),
    'other gradient steps': ('natural_gradient', 'max_kl', 'empirical_fisher'),
    'gradient-free': ('cem', 'cma', 'rwr', 'rwr_exponential'),
  },
  figure_text='ours: mean over seeds and its 95 % bootstrap interval; paper: '
  'mean of its five runs, error bars',
  reference_text='Figure 4 of Schulman et al. 2015 (arXiv 1502.05477v5), '
  'digitised from its vector graphics: means of five runs. Its natural '
  "gradient on the walker is left out, being a copy of the hopper's curve",
)
