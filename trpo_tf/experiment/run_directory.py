"""The directory of a run: its lock, and the record that repeats the run.

run.json      settings, command, versions, git commit, host, resumes
flags.txt     the flagfile that repeats the run
progress.csv  one row per iteration (sinks.CsvSink)
tensorboard/  the same, and histograms (sinks.TensorBoardSink)
checkpoints/  the newest states (checkpoint.py)
run.lock      held by the process that trains
"""

import dataclasses
import fcntl
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Self

from trpo_tf import config as config_lib
from trpo_tf import errors
from trpo_tf.experiment import checkpoint, provenance

__all__ = [
  'FREE_SETTINGS',
  'RunDirectory',
  'flag_text',
  'read_run',
  'flagfile',
  'read_config',
]

# Settings that may differ when a run resumes: they do not change its results.
FREE_SETTINGS = frozenset(
  {
    'total_env_steps',
    'total_iterations',
    'run_dir',
    'sampler_threads',
    'tf_threads',
    'tensorboard',
    'checkpoint_seconds',
    'keep_checkpoints',
    'resume',
  }
)
_FORMAT = 'trpo_tf run 1'
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
  _lock: int

  @property
  def progress_csv(self) -> pathlib.Path:
    """File of the iteration records."""
    return self.path / 'progress.csv'

  @property
  def tensorboard(self) -> pathlib.Path:
    """Directory of the event files."""
    return self.path / 'tensorboard'

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
    """Creates the directory of a run, or opens it to resume.

    Args:
      config: settings of the run, with its run_dir.
      resolved: what the settings resolve to, which is added to run.json.

    Returns:
      The open directory, with run.json and flags.txt written.

    Raises:
      UserError: run_dir is not given; it holds something else, a run with other
        settings, or any run under resume=never; or another process trains in
        it. Nothing in it has been changed.
    """
    if not config.run.run_dir:
      raise errors.UserError('--run_dir is missing: name the directory to use')
    flags_text = flagfile(config)
    path = pathlib.Path(config.run.run_dir).expanduser()
    _refuse_foreign(path)
    try:
      path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise errors.UserError(
        f'--run_dir={path} cannot be created: {error.strerror}'
      ) from None
    lock = _lock(path)
    try:
      record, messages = _record(path, config)
      record |= dict(resolved=resolved) if resolved else {}
      # run.json marks the directory as that of a run, so it is written first.
      _write(path / 'run.json', json.dumps(record, indent=2) + '\n')
      _write(path / 'flags.txt', flags_text)
    except BaseException:
      os.close(lock)
      raise
    return cls(path, bool(record['resumes']), messages, lock)

  def close(self) -> None:
    """Lets other processes open the directory."""
    os.close(self._lock)

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *unused_exception) -> None:
    self.close()


def read_config(
  run_dir: str | os.PathLike[str],
) -> config_lib.ExperimentConfig:
  """Reads the settings of a run.

  Args:
    run_dir: the directory of the run; it is not locked or changed.

  Returns:
    The settings with which the run was last started.

  Raises:
    UserError: there is no such directory, or it is not that of a run.
  """
  path = pathlib.Path(run_dir).expanduser()
  if not path.is_dir():
    raise errors.UserError(f'{path} is not a directory')
  record = _read_record(path)
  if record is None:
    runs = [p.parent.name for p in sorted(path.glob('*/run.json'))]
    hint = f', but has runs in it: {path}/{runs[0]}, ...' if runs else ''
    raise errors.UserError(f'{path} is not the directory of a run{hint}')
  return _config(record, path)


def read_run(
  run_dir: str | os.PathLike[str],
) -> tuple[config_lib.ExperimentConfig, checkpoint.Checkpoint]:
  """Reads the settings and the newest checkpoint of a run.

  Args:
    run_dir: the directory of the run; it is not locked or changed.

  Returns:
    The settings with which the run was last started, and the checkpoint.

  Raises:
    UserError: there is no such run, or it has no intact checkpoint.
  """
  path = pathlib.Path(run_dir).expanduser()
  config = read_config(path)
  saved = checkpoint.load_newest(path / 'checkpoints')
  if saved is None:
    raise errors.UserError(
      f'{path} has no checkpoint yet: let it train for longer'
    )
  return config, saved


def flagfile(config: config_lib.ExperimentConfig) -> str:
  """Writes all settings as an absl flagfile.

  Args:
    config: the settings.

  Returns:
    The text, which parses to the same settings.

  Raises:
    UserError: a string that a line of a flagfile cannot hold.
  """
  lines = [
    '# All settings of this run. To repeat it:',
    '#   python -m trpo_tf.bin.train --flagfile=THIS_FILE --run_dir=NEW_DIR',
  ]
  for name, value in config_lib.settings(config).items():
    line = f'--{name}={flag_text(value)}'
    if line != line.rstrip() or len(line.splitlines()) != 1:
      raise errors.UserError(
        f'--{name}={value!r}: no line breaks, and no spaces at the end'
      )
    lines.append(line)
  return '\n'.join(lines) + '\n'


def flag_text(value: Any) -> str:
  """Formats the value of a setting for a flag, such as true, 64,64 or 0.01."""
  if isinstance(value, bool):
    return str(value).lower()
  if isinstance(value, tuple):
    return ','.join(map(str, value))
  return str(value)


def _write(path: pathlib.Path, text: str) -> None:
  checkpoint.write_atomically(path, text.encode())


def _read_record(path: pathlib.Path) -> dict[str, Any] | None:
  """Returns run.json, or None if the directory is not that of a run."""
  try:
    record = json.loads((path / 'run.json').read_bytes())
  except (FileNotFoundError, ValueError):
    return None
  ours = isinstance(record, dict) and record.get('format') == _FORMAT
  return record if ours else None


def _refuse_foreign(path: pathlib.Path) -> None:
  """Refuses a directory with other files than those of a run."""
  if not path.exists():
    return
  if not path.is_dir():
    raise errors.UserError(f'--run_dir={path} is a file, not a directory')
  if set(os.listdir(path)) <= {_LOCK, 'run.json.tmp'}:
    return
  if _read_record(path) is None:
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
    raise errors.UserError(
      f'another process (id {holder}) trains in --run_dir={path}: wait for it '
      'or use another directory'
    ) from None
  os.truncate(lock, 0)
  os.write(lock, str(os.getpid()).encode())
  return lock


def _config(
  record: dict[str, Any], path: pathlib.Path
) -> config_lib.ExperimentConfig:
  values = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in record['settings'].items()
  }
  try:
    return config_lib.from_settings(values)
  except ValueError as error:
    raise errors.UserError(
      f'{path}/run.json was written by another version of trpo_tf: {error}'
    ) from None


def _record(
  path: pathlib.Path, config: config_lib.ExperimentConfig
) -> tuple[dict[str, Any], tuple[str, ...]]:
  """Returns the new run.json and the warnings of a resume."""
  session, settings = provenance.session(), config_lib.settings(config)
  before = _read_record(path)
  if before is None:
    return dict(format=_FORMAT, settings=settings, **session, resumes=[]), ()
  if config.run.resume == 'never':
    raise errors.UserError(
      f'--run_dir={path} holds a run already: add --resume=auto to continue '
      'it, or use a new directory'
    )
  old = config_lib.settings(_config(before, path))
  differing = [
    f'--{name}={flag_text(old[name])} there, --{name}={flag_text(value)} here'
    for name, value in settings.items()
    if name not in FREE_SETTINGS and old[name] != value
  ]
  if differing:
    raise errors.UserError(
      f'--run_dir={path} holds a run with other settings: '
      f'{"; ".join(differing)}'
    )
  last = (before['resumes'] or [before])[-1]
  record = before | dict(
    settings=settings, resumes=before['resumes'] + [session]
  )
  return record, provenance.differences(last, session)
