"""Reads the directories of runs; nothing in them is locked or changed."""

import os
import pathlib
from collections.abc import Callable

from trpo_tf import config as config_lib
from trpo_tf import errors
from trpo_tf.experiment import checkpoint, run_record, trust

__all__ = [
  'BEST',
  'expanded',
  'has_checkpoint',
  'load_checkpoint',
  'read_config',
  'read_trusted',
]

BEST = 'best.npz'  # the state with the highest evaluated return


def expanded(run_dir: str | os.PathLike[str]) -> pathlib.Path:
  """Replaces the ~ of a directory's name.

  Raises:
    UserError: there is no such user, or no home directory.
  """
  try:
    return pathlib.Path(run_dir).expanduser()
  except RuntimeError as error:
    raise errors.UserError(
      f'--run_dir={run_dir}: {error}: write the whole path'
    ) from None


def has_checkpoint(run_dir: str | os.PathLike[str]) -> bool:
  """Returns whether a directory holds a run with a checkpoint."""
  return checkpoint.newest_iteration(expanded(run_dir) / 'checkpoints') > 0


def read_config(
  run_dir: str | os.PathLike[str],
) -> config_lib.ExperimentConfig:
  """Reads the settings of a run.

  Args:
    run_dir: the directory of the run; it is not locked or changed.

  Returns:
    The settings with which the run was last started.

  Raises:
    UserError: there is no such directory, it is not that of a run, or its
      run.json is damaged.
  """
  path = expanded(run_dir)
  return run_record.settings_of(_existing(path), path)


def read_trusted(
  run_dir: str | os.PathLike[str], trust_task: bool
) -> config_lib.ExperimentConfig:
  """Reads the settings of a run whose task is to be loaded.

  Args:
    run_dir: the directory of the run; it is not locked or changed.
    trust_task: whether the user trusts a task that is Python code; see trust.

  Returns:
    The settings with which the run was last started.

  Raises:
    UserError: as `read_config`; or the task is code that is not trusted.
  """
  path = expanded(run_dir)
  record = _existing(path)
  config = run_record.settings_of(record, path)
  signed = record.get('signature')
  trust.require(path, record['settings'], signed, trust_task)
  return config


def load_checkpoint(
  run_dir: str | os.PathLike[str],
  accept: Callable[[checkpoint.Checkpoint], None] | None = None,
  name: str = 'newest',
) -> checkpoint.Checkpoint:
  """Reads a checkpoint of a run.

  Args:
    run_dir: the directory of the run.
    accept: see `checkpoint.load_newest`.
    name: 'newest'; 'best', by the return of evaluations in training; or the
      name of a file of checkpoints/.

  Raises:
    UserError: there is no such checkpoint, or it cannot be used.
  """
  path = expanded(run_dir)
  if name == 'best':
    if not (path / BEST).exists():
      raise errors.UserError(
        f'{path} has no {BEST}: train with --eval_every_env_steps, or take '
        '--checkpoint=newest'
      )
    return checkpoint.load(path / BEST, accept)
  if name != 'newest':
    return checkpoint.load(_named(path, name), accept)
  saved = checkpoint.load_newest(path / 'checkpoints', accept)
  if saved is None:
    raise errors.UserError(
      f'{path} has no checkpoint yet: let it train for longer'
    )
  return saved


def _named(run_dir: pathlib.Path, name: str) -> pathlib.Path:
  """Returns the file of checkpoints/ with a name."""
  folder = run_dir / 'checkpoints'
  names = sorted(p.name for p in folder.glob('*.npz'))
  if name in names:
    return folder / name
  raise errors.UserError(
    f'--checkpoint={name} is not in {folder}: choose best, newest or one of '
    f'{", ".join(names) or "none"}'
  )


def _existing(path: pathlib.Path) -> run_record.RunRecord:
  """Reads the record of a directory that must be that of a run."""
  if not path.is_dir():
    raise errors.UserError(f'{path} is not a directory')
  record = run_record.read(path)
  if record is None:
    runs = [p.parent.name for p in sorted(path.glob('*/run.json'))]
    hint = f', but has runs in it: {path}/{runs[0]}, ...' if runs else ''
    raise errors.UserError(f'{path} is not the directory of a run{hint}')
  return record
