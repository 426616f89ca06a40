"""Tables of trials with settings, by seed."""

import math
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from trpo_tf.experiment import tables

__all__ = ['VINE', 'Trials', 'table', 'v5']


class Trials(NamedTuple):
  """Trials that are compared.

  Attributes:
    heads: heads of the columns that describe a trial.
    trials: by name, what these columns say.
    tasks: by name of the preset, the task.
  """

  heads: tuple[str, ...]
  trials: Mapping[str, tuple[str, ...]]
  tasks: Mapping[str, str]


VINE = Trials(
  # trunks x steps of an iteration, states x actions x branch steps
  ('trunks', 'branches', 'value network fitted to'),
  {
    'single_path': ('4 x 250', 'none', 'trunks'),
    'four_trunks': ('4 x 250', '100 x 2 x 5', 'all steps'),
    'two_trunks': ('2 x 500', '100 x 2 x 5', 'all steps'),
    'long_25': ('4 x 250', '20 x 2 x 25', 'all steps'),
    'long_50': ('4 x 250', '10 x 2 x 50', 'all steps'),
    'quarter': ('6 x 250', '50 x 2 x 5', 'all steps'),
    'eighth': ('7 x 250', '25 x 2 x 5', 'all steps'),
    'quarter_long': ('3 x 250', '5 x 2 x 25', 'all steps'),
    'step_on_trunks': (
      '4 x 250',
      '100 x 2 x 5, not in the surrogate',
      'all steps',
    ),
    'fit_to_trunks': ('4 x 250', '100 x 2 x 5', 'trunks'),
    'quarter_to_trunks': ('6 x 250', '50 x 2 x 5', 'trunks'),
    'eighth_to_trunks': ('7 x 250', '25 x 2 x 5', 'trunks'),
    'single_path_220': ('8 x 220', 'none', 'trunks'),
    'long_eighth': ('8 x 220', '5 x 2 x 25', 'trunks'),
    'overlay': ('8 x 220', '24 x 2 x 5', 'trunks'),
  },
  {
    'hopper': 'Hopper-v5',
    'walker2d': 'Walker2d-v5',
    'half_cheetah': 'HalfCheetah-v5',
    'swimmer': 'Swimmer-v5',
  },
)
_PRESETS = (
  'ant',
  'half_cheetah',
  'hopper',
  'humanoid',
  'humanoid_standup',
  'inverted_double_pendulum',
  'inverted_pendulum',
  'pusher',
  'reacher',
  'swimmer',
  'walker2d',
)
# By name of a trial with single path on a v5 task, the flags that it changed.
_CHANGES = {
  'base': 'none',
  'kl02': '--max_kl=0.02',
  'kl04': '--max_kl=0.04',
  'std1': '--initial_log_std=-1',
  'std1kl02': '--initial_log_std=-1 --max_kl=0.02',
  'std1lam97': '--initial_log_std=-1 --gae_lambda=0.97',
  'std1lam90': '--initial_log_std=-1 --gae_lambda=0.9',
  'std1lam80': '--initial_log_std=-1 --gae_lambda=0.8',
  'std1lam80kl02': '--initial_log_std=-1 --gae_lambda=0.8 --max_kl=0.02',
  'std1lam80kl04': '--initial_log_std=-1 --gae_lambda=0.8 --max_kl=0.04',
  'std1lam80kl06': '--initial_log_std=-1 --gae_lambda=0.8 --max_kl=0.06',
  'std1g98lam90': '--initial_log_std=-1 --gamma=0.98 --gae_lambda=0.9',
  'std1ve5': '--initial_log_std=-1 --value_epochs=5',
  'std1ve20': '--initial_log_std=-1 --value_epochs=20',
  'std1lr3e4': '--initial_log_std=-1 --value_learning_rate=0.0003',
  'std1clip3': '--initial_log_std=-1 --observation_clip=3',
  'std15': '--initial_log_std=-1.5',
  'g95': '--gamma=0.95',
  'g95lam90': '--gamma=0.95 --gae_lambda=0.9',
  'clip3': '--observation_clip=3',
  'kl02clip3': '--max_kl=0.02 --observation_clip=3',
  'kl02g95lam90': '--max_kl=0.02 --gamma=0.95 --gae_lambda=0.9',
  's2': '--num_slots=2',
  's2kl02': '--num_slots=2 --max_kl=0.02',
  's2kl02lam90': '--num_slots=2 --max_kl=0.02 --gae_lambda=0.9',
  's2lam80kl04': '--num_slots=2 --max_kl=0.04 --gae_lambda=0.8',
  's2lam90kl02': '--num_slots=2 --max_kl=0.02 --gae_lambda=0.9',
  's2batch4000': '--num_slots=2 --max_kl=0.02 --batch_steps=4000',
  's2kl02g995lam95': '--num_slots=2 --max_kl=0.02 --gamma=0.995',
  's2kl02g995lam97': '--num_slots=2 --max_kl=0.02 --gamma=0.995 '
  '--gae_lambda=0.97',
  's2g995lam97kl04': '--num_slots=2 --max_kl=0.04 --gamma=0.995 '
  '--gae_lambda=0.97',
  'lam80kl04': '--max_kl=0.04 --gae_lambda=0.8',
  's2std1': '--num_slots=2 --initial_log_std=-1',
  's2std1lam90': '--num_slots=2 --initial_log_std=-1 --gae_lambda=0.9',
  's2std1lam80kl02': '--num_slots=2 --initial_log_std=-1 --gae_lambda=0.8 '
  '--max_kl=0.02',
  'ctrl': '--action_range=control',
  'ctrlkl02': '--action_range=control --max_kl=0.02',
  'ctrlkl02std1': '--action_range=control --max_kl=0.02 --initial_log_std=-1',
  'ctrlkl02lam90': '--action_range=control --max_kl=0.02 --gae_lambda=0.9',
  'ctrlkl02lam80': '--action_range=control --max_kl=0.02 --gae_lambda=0.8',
  'ctrllam80kl04': '--action_range=control --max_kl=0.04 --gae_lambda=0.8',
  'ctrlkl04': '--action_range=control --max_kl=0.04',
  'b1000': '--batch_steps=1000 --num_slots=4',
  'b5000': '--batch_steps=5000',
  'b8000kl02': '--batch_steps=8000 --max_kl=0.02',
  'b8000kl02damp10': '--batch_steps=8000 --max_kl=0.02 --cg_damping=10',
  'b8000kl02damp30': '--batch_steps=8000 --max_kl=0.02 --cg_damping=30',
  'damp1': '--cg_damping=1',
  'damp10': '--cg_damping=10',
  'damp10s2': '--cg_damping=10 --num_slots=2',
  'raw': '--normalize_observations=false',
  'freeze10': '--normalizer_iterations=10',
  'freeze30': '--normalizer_iterations=30',
  'freeze30kl02': '--normalizer_iterations=30 --max_kl=0.02',
  's2freeze30kl02': '--num_slots=2 --normalizer_iterations=30 --max_kl=0.02',
  'freeze': '--normalizer_iterations=100',
  'freezekl02': '--normalizer_iterations=100 --max_kl=0.02',
  'freezegamma995': '--normalizer_iterations=100 --gamma=0.995 '
  '--gae_lambda=0.97',
  'freezeb5000': '--normalizer_iterations=40 --batch_steps=5000 --max_kl=0.02',
}


def table(directory: pathlib.Path, compared: Trials) -> str:
  """Renders the return of the mean policy of each run.

  Args:
    directory: the evaluations TASK_TRIAL/SEED.
    compared: the trials.

  Returns:
    The Markdown text, with a row for each trial; a cell has SEED: RETURN.
  """
  heads = [*compared.heads, 'env steps', *compared.tasks.values()]
  rows = []
  for trial, described in compared.trials.items():
    cells, steps = [], 0
    for task in compared.tasks:
      runs = [
        tables.load_evaluation(path)
        for path in directory.glob(f'{task}_{trial}/*')
      ]
      steps = max([steps, *(run['env_steps'] for run in runs)])
      cells.append(', '.join(map(_shown, sorted(runs, key=_seed))))
    rows.append([*described, f'{steps / 1e6:.1f}M', *cells])
  return tables.grid(heads, rows)


def v5(directory: pathlib.Path) -> str:
  """Renders the trials with single path on the v5 tasks.

  Args:
    directory: the evaluations TASK_TRIAL/SEED.

  Returns:
    The Markdown text, with a row for each task and trial: what the trial
    changed, and the return of the mean policy of each run as SEED: RETURN.
  """
  rows = []
  for preset in _PRESETS:
    for trial, changed in _CHANGES.items():
      runs = [
        tables.load_evaluation(path)
        for path in directory.glob(f'{preset}_{trial}/*')
      ]
      if runs:
        steps = max(run['env_steps'] for run in runs)
        cells = (
          runs[0]['task'],
          changed if trial == 'base' else f'`{changed}`',
          f'{steps / 1e6:.1f}M',
          ', '.join(map(_shown, sorted(runs, key=_seed))),
        )
        rows.append(cells)
  return tables.grid(('task', 'changed settings', 'env steps', 'runs'), rows)


def _seed(run: tables.Evaluation) -> int:
  return run['seed']


def _shown(run: tables.Evaluation) -> str:
  mean = run['deterministic']['return']['mean']
  return f'{run["seed"]}: {tables.number(math.nan if mean is None else mean)}'
