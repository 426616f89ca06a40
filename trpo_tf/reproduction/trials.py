"""Tables of trials with settings, by seed."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from trpo_tf.experiment import tables

__all__ = ['V5', 'VINE', 'Trials', 'table']


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
V5 = Trials(
  ('changed settings',),
  {
    'b1000': ('`--batch_steps=1000 --num_slots=4`',),
    'raw': ('`--normalize_observations=false`',),
  },
  {
    'half_cheetah': 'HalfCheetah-v5',
    'hopper': 'Hopper-v5',
    'walker2d': 'Walker2d-v5',
    'ant': 'Ant-v5',
    'inverted_double_pendulum': 'InvertedDoublePendulum-v5',
  },
)


def table(directory: pathlib.Path, compared: Trials) -> str:
  """Renders the return of the mean policy of each run.

  Args:
    directory: the evaluations TASK_TRIAL/SEED.
    compared: the trials.

  Returns:
    The Markdown text, with a row for each trial; a cell has SEED: RETURN.
  """
  heads = [*compared.heads, 'env steps', *compared.tasks.values()]
  lines = [f'| {" | ".join(heads)} |', '|---' * len(heads) + '|']
  for trial, described in compared.trials.items():
    cells, steps = [], 0
    for task in compared.tasks:
      runs = [
        tables.load_evaluation(path)
        for path in directory.glob(f'{task}_{trial}/*')
      ]
      steps = max([steps, *(run['env_steps'] for run in runs)])
      cells.append(', '.join(map(_shown, sorted(runs, key=_seed))))
    cells = [*described, f'{steps / 1e6:.1f}M', *cells]
    lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join(lines)


def _seed(run: tables.Evaluation) -> int:
  return run['seed']


def _shown(run: tables.Evaluation) -> str:
  return f'{run["seed"]}: {run["deterministic"]["return"]["mean"]:.0f}'
