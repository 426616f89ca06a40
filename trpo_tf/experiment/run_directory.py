"""The directory of a run: its lock, and the record that repeats the run.

run.json      settings, command, versions, git commit, host (run_record.py)
flags.txt     the flagfile that repeats the run
progress.csv  one row per iteration (progress.py)
progress.jsonl  the same as JSON objects, with --json_lines
evaluations.csv  one row per evaluation in training (evaluations.py)
best.npz      the state with the highest evaluated return
tensorboard/  the same, and histograms (sinks.TensorBoardSink)
checkpoints/  the newest states (checkpoint.py)
before_1/     what a run left that began anew without a checkpoint
run.lock      held by the process that trains
"""

import dataclasses
import fcntl
import itertools
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Self

from trpo_tf import config as config_lib
from trpo_tf import errors
from trpo_tf.experiment import (
  checkpoint,
  flagfiles,
  progress,
  provenance,
  run_record,
  saved_runs,
  trust,
)

__all__ = [
  'FREE_SETTINGS',
  'RunDirectory',
  'preview',
]

# Settings that may differ when a run resumes. They do not change its results,
# except that tf_threads changes the rounding of TensorFlow's sums.
FREE_SETTINGS = frozenset(
  {
    'total_env_steps',
    'total_iterations',
    'run_dir',
    'sampler_threads',
    'env_workers',
    'tf_threads',
    'tensorboard',
    'json_lines',
    'wandb',
    'mlflow',
    'checkpoint_seconds',
    'keep_checkpoints',
    'eval_every_env_steps',
    'eval_episodes',
    'stop_at_return',
    'max_refused_steps',
    'resume',
    'check_env',
  }
)
_LOCK = 'run.lock'


@dataclasses.dataclass(frozen=True)
class RunDirectory:
  """An open run; no other process can open it until it is closed.

  Attributes:
    path: the directory.
    resumed: whether the directory held this run already.
    messages: lines that the user should see.
  """

  path: pathlib.Path
  resumed: bool
  messages: tuple[str, ...]
  _record: run_record.RunRecord
  _flags: str
  _lock: int

  @property
  def id(self) -> str:
    """Name of the run among all runs, 32 hexadecimal digits."""
    return self._record['id']

  @property
  def progress_csv(self) -> pathlib.Path:
    """File of the iteration records."""
    return self.path / 'progress.csv'

  @property
  def progress_jsonl(self) -> pathlib.Path:
    """File of the same records as JSON objects."""
    return self.path / 'progress.jsonl'

  @property
  def tensorboard(self) -> pathlib.Path:
    """Directory of the event files."""
    return self.path / 'tensorboard'

  @property
  def evaluations_csv(self) -> pathlib.Path:
    """File of the evaluations in training."""
    return self.path / 'evaluations.csv'

  @property
  def best(self) -> pathlib.Path:
    """The state with the highest evaluated return."""
    return self.path / saved_runs.BEST

  @property
  def checkpoints(self) -> pathlib.Path:
    """Directory of the checkpoints."""
    return self.path / 'checkpoints'

  @classmethod
  def open(
    cls,
    config: config_lib.ExperimentConfig,
    resolved: Mapping[str, object] | None = None,
  ) -> Self:
    """Locks the directory of a run, which is created if it is missing.

    Nothing else is written before `begin`. A run that never finished an
    iteration has nothing to lose, so another run may take its directory over.

    Args:
      config: settings of the run, with its run_dir.
      resolved: what the settings resolve to, which is added to run.json.

    Returns:
      The open directory.

    Raises:
      UserError: run_dir is not given; it holds something else, a run with other
        settings, any run under resume=never, or a damaged run.json; or another
        process trains in it. Nothing in it has been changed.
    """
    if not config.run.run_dir:
      raise errors.UserError('--run_dir is missing: name the directory to use')
    flags_text = flagfiles.flagfile(config)
    path = saved_runs.expanded(config.run.run_dir)
    _refuse_foreign(path)
    try:
      path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise errors.UserError(
        f'--run_dir={path} cannot be created: {error.strerror}'
      ) from None
    lock = _lock(path)
    try:
      record, messages = _record(path, config, resolved or {})
    except BaseException:
      os.close(lock)
      raise
    record.setdefault('id', run_record.new_id())
    record['signature'] = trust.signature(record['settings'])
    if resolved:
      record['resolved'] = dict(resolved)
    resumed = bool(record['resumes'])
    return cls(path, resumed, messages, record, flags_text, lock)

  def begin(self) -> None:
    """Writes run.json and flags.txt: from now on the directory is this run's.

    A run that resumes calls it once its checkpoint and progress.csv have been
    read, so that nothing is changed if they are refused.
    """
    # run.json marks the directory as that of a run, so it is written first.
    _write(self.path / 'run.json', json.dumps(self._record, indent=2) + '\n')
    _write(self.path / 'flags.txt', self._flags)
    self.checkpoints.mkdir(exist_ok=True)  # empty: no state is saved yet

  def set_aside(self) -> pathlib.Path | None:
    """Moves what a run without a checkpoint left to a folder of its own.

    Returns:
      The folder, before_1 or the next number; None if nothing was left.
    """
    if not (progress.has_rows(self.progress_csv) or self.best.exists()):
      return None
    names = (self.path / f'before_{n}' for n in itertools.count(1))
    folder = next(path for path in names if not path.exists())
    folder.mkdir()
    for path in (
      self.progress_csv,
      self.progress_jsonl,
      self.evaluations_csv,
      self.best,
    ):
      if path.exists():
        path.rename(folder / path.name)
    return folder

  def close(self) -> None:
    """Lets other processes open the directory."""
    os.close(self._lock)

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *unused_exception) -> None:
    self.close()


def preview(config: config_lib.ExperimentConfig) -> str:
  """Says what `open` would do with a run's directory, or raises its error."""
  path = saved_runs.expanded(config.run.run_dir)
  _refuse_foreign(path)
  before = run_record.read(path) if path.exists() else None
  if before is None:
    return f'directory: {path} is new'
  refusal = _refusal(path, config, run_record.settings_of(before, path))
  if refusal and _has_work(path):
    raise errors.UserError(refusal)
  if refusal:
    return f'directory: {path} holds a run without any iteration, to replace'
  newest = checkpoint.newest_iteration(path / 'checkpoints')
  return (
    f'directory: {path} holds this run, which goes on after iteration {newest}'
  )


def require_usable(config: config_lib.ExperimentConfig) -> None:
  """Raises the errors of `open` that need no Training, which takes seconds."""
  preview(config)
  path = saved_runs.expanded(config.run.run_dir)
  if path.exists():
    os.close(_lock(path))
    return
  parent = next(folder for folder in path.absolute().parents if folder.exists())
  if not os.access(parent, os.W_OK):
    raise errors.UserError(
      f'--run_dir={path} cannot be created: {parent} cannot be written to'
    )


def _write(path: pathlib.Path, text: str) -> None:
  checkpoint.write_atomically(path, text.encode())


def _refuse_foreign(path: pathlib.Path) -> None:
  """Refuses a directory with other files than those of a run."""
  if not path.exists():
    return
  if not path.is_dir():
    raise errors.UserError(f'--run_dir={path} is a file, not a directory')
  if set(os.listdir(path)) <= {_LOCK, 'run.json.tmp'}:
    return
  if run_record.read(path) is None:
    raise errors.UserError(
      f'--run_dir={path} holds other files and no run of trpo_tf: use a new '
      'directory'
    )


def _lock(path: pathlib.Path) -> int:
  """Returns the open lock, which the system drops when the process ends."""
  lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    holder = os.read(lock, 20).decode() or 'unknown'
    os.close(lock)
    if holder == str(os.getpid()):
      raise errors.UserError(
        f'--run_dir={path} is in use by another run of this process: use all '
        'of its iterator, or close() it'
      ) from None
    raise errors.UserError(
      f'another process (id {holder}) trains in --run_dir={path}: wait for it '
      'or use another directory'
    ) from None
  os.truncate(lock, 0)
  os.write(lock, str(os.getpid()).encode())
  return lock


def _record(
  path: pathlib.Path,
  config: config_lib.ExperimentConfig,
  resolved: Mapping[str, object],
) -> tuple[run_record.RunRecord, tuple[str, ...]]:
  """Returns the new run.json and the lines that the user should see."""
  session, settings = provenance.session(), config_lib.settings(config)
  session['contents'] = trust.contents(settings)
  if 'fingerprint' in resolved:
    session['contents'][f'{config.task.task} with its model'] = str(
      resolved['fingerprint']
    )
  new = run_record.new(settings, session)
  before = run_record.read(path)
  if before is None:
    return new, ()
  old = run_record.settings_of(before, path)
  refusal = _refusal(path, config, old)
  if refusal and _has_work(path):
    raise errors.UserError(refusal)
  if refusal:
    return new, (f'{path} held a run without any iteration: it is replaced',)
  last = (before['resumes'] or [before])[-1]
  resumes = [*before['resumes'], session]
  record = before | dict(settings=settings, resumes=resumes)
  threads = old.run.tf_threads, config.run.tf_threads
  return record, provenance.differences(last, session, threads)


def _refusal(
  path: pathlib.Path,
  config: config_lib.ExperimentConfig,
  before: config_lib.ExperimentConfig,
) -> str:
  """Returns why a run may not go on in the directory of another; '' if so."""
  if config.run.resume == 'never':
    return (
      f'--run_dir={path} holds a run already: add --resume=auto to continue '
      'it, or use a new directory'
    )
  old, flag_text = config_lib.settings(before), flagfiles.flag_text
  differing = [
    f'--{name}={flag_text(old[name])} there, --{name}={flag_text(value)} here'
    for name, value in config_lib.settings(config).items()
    if name not in FREE_SETTINGS and old[name] != value
  ]
  if differing:
    return (
      f'--run_dir={path} holds a run with other settings: '
      f'{"; ".join(differing)}'
    )
  saved = checkpoint.newest(path / 'checkpoints')
  if saved and not (path / 'progress.csv').exists():
    return (
      f'--run_dir={path} holds {saved.name} without a progress.csv, as an '
      'exported policy does: no training can continue it; put a lost file '
      f'back, or begin in a new directory with --init_from={path}'
    )
  return ''


def _has_work(path: pathlib.Path) -> bool:
  """Returns whether a run has a checkpoint or a row of progress.csv."""
  saved = path / 'checkpoints'
  return progress.has_rows(path / 'progress.csv') or (
    saved.exists() and any(saved.iterdir())
  )
