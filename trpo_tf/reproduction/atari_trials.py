"""The table of trials with the settings of Atari games."""

import pathlib

from trpo_tf import config as config_lib
from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.experiment import flagfiles, progress, saved_runs, tables
from trpo_tf.reproduction import atari

__all__ = ['table']

_BASE, _NONE = 'base', 'none'
_SHOWN = 'task', 'seed', 'run_dir', 'total_env_steps'  # in other columns
_HEADS = (
  'game',
  'changed settings',
  'env steps',
  'seed',
  'score (95 % interval)',
)


def table(directory: pathlib.Path) -> str:
  """Renders the score at the end of each trial.

  Args:
    directory: the runs GAME/TRIAL/SEED, with run.json and progress.csv. The
      trial "base" of any game has the settings that the others change.

  Returns:
    The Markdown text, with a row for each run. The score is the mean of the
    last 100 episodes, as in the table of Atari scores, and its interval counts
    these episodes as independent.

  Raises:
    UserError: a run.json or progress.csv is damaged, or there is no base.
  """
  configs = {
    record.parent: saved_runs.read_config(record.parent)
    for record in sorted(directory.glob('*/*/*/run.json'))
  }
  bases = [c for path, c in configs.items() if path.parts[-2] == _BASE]
  if not bases:
    raise UserError(f'{directory}: the trial {_BASE!r} is missing')
  rows = [
    (
      atari.TABLE.labels[path.parts[-3]],
      _changes(bases[0], config),
      *_result(path, config),
    )
    for path, config in configs.items()
  ]
  rows.sort(key=lambda row: (row[0], row[1] != _NONE))
  return tables.grid(_HEADS, rows)


def _changes(base: ExperimentConfig, config: ExperimentConfig) -> str:
  """Writes the flags of a trial that the base does not have."""
  before = config_lib.settings(base)
  flags = [
    f'--{name}={flagfiles.flag_text(value)}'
    for name, value in config_lib.settings(config).items()
    if name not in _SHOWN and value != before[name]
  ]
  return f'`{" ".join(flags)}`' if flags else _NONE


def _result(path: pathlib.Path, config: ExperimentConfig) -> tuple[str, ...]:
  run = progress.read_csv(path / 'progress.csv')
  score = atari.score(run, config)[-1]
  reach = 1.96 * atari.score_error(run, config)[-1]
  return (
    f'{run["env_steps"][-1] / 1e6:.1f}M',
    f'{config_lib.settings(config)["seed"]}',
    f'{score:.1f} ({score - reach:.1f} to {score + reach:.1f})',
  )
