"""Where the record of an iteration goes: a CSV file and TensorBoard.

A record is a dict with one entry for each of COLUMNS: ints, floats and, as
`step_status`, a string. A sink has `write(record, histograms)`, where the
histograms are arrays by name (returns, log_std, actions; any shape), and
`close()`. The sink that people watch is in console.py.
"""

import csv
import io
import math
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.histogram import summary_v2 as histogram_summary
from tensorboard.plugins.scalar import summary_v2 as scalar_summary
from tensorboard.summary.writer import record_writer

from trpo_tf import errors
from trpo_tf.experiment import checkpoint

__all__ = [
  'COLUMNS',
  'CsvSink',
  'Histograms',
  'Record',
  'Sink',
  'TensorBoardSink',
  'read_csv',
]

Record = Mapping[str, Any]
Histograms = Mapping[str, np.ndarray]

# By TensorBoard section, in the order of the CSV columns. Times in seconds,
# KL divergences and entropy in nats, `curvature` is s^T F s without damping.
_GROUPS = {
  'progress': ('iteration', 'env_steps', 'episodes'),
  'episode': (
    'return_mean',
    'return_std',
    'return_min',
    'return_max',
    'episode_length_mean',
  ),
  'step': (
    'mean_kl',
    'max_state_kl',
    'surrogate_before',
    'surrogate_after',
    'step_status',
    'step_fraction',
    'step_evaluations',
    'cg_iterations',
    'cg_residual',
    'gradient_norm',
    'curvature',
  ),
  'policy': ('entropy',),
  'value': ('explained_variance', 'value_loss'),
  'sampler': (
    'clipped_action_fraction',
    'sampler_output_error',
    'diverged',
    'dropped_steps',
    'branch_steps',
    'masked_states',
  ),
  'time': (
    'sample_seconds',
    'update_seconds',
    'env_steps_per_second',
    'elapsed_seconds',
  ),
}
COLUMNS = tuple(name for names in _GROUPS.values() for name in names)
_HEADER = ','.join(COLUMNS).encode() + b'\n'


class Sink(Protocol):
  """A consumer of iteration records."""

  def write(self, record: Record, histograms: Histograms) -> None:
    """Takes the record of the next iteration."""

  def close(self) -> None:
    """Finishes whatever was begun."""


class CsvSink:
  """Appends one row an iteration under a fixed header.

  Floats are written so that they read back bit for bit. A row is on the disk
  when `write` returns, hence before the checkpoint that follows it, so a run
  that resumes always finds the rows up to its checkpoint.
  """

  def __init__(self, path: str | os.PathLike[str], last_iteration: int | None):
    """Opens the file where the run stands.

    Args:
      path: the file; created when missing.
      last_iteration: iteration of the checkpoint the run resumes from: later
        rows (lost work, perhaps a half-written line) are cut off. None starts
        from nothing: all rows are.

    Raises:
      UserError: the file has other columns, or lacks rows of iterations up to
        the checkpoint's; it stays as it was. (Columns of an older version,
        which had fewer, are no obstacle: NaN stands in the new ones.)
    """
    self._path = pathlib.Path(path)
    found = self._path.read_bytes() if self._path.exists() else b''
    content = _upgraded(found)
    if content != found:
      checkpoint.write_atomically(self._path, content)
    end, self._last = _kept(content, last_iteration, self._path)
    self._file = open(self._path, 'ab')
    self._file.truncate(end)
    if not end:
      self._append(_HEADER)

  def write(self, record: Record, histograms: Histograms) -> None:
    """Appends a row.

    Raises:
      ValueError: a missing or unknown entry, or an iteration that does not
        follow the one before.
      OSError: the disk is full; what was written is cut off on resume.
    """
    del histograms
    if record.keys() != set(COLUMNS):
      wrong = sorted(record.keys() ^ set(COLUMNS))
      raise ValueError(f'record lacks or does not know {", ".join(wrong)}')
    if self._last is not None and record['iteration'] != self._last + 1:
      raise ValueError(
        f'iteration {record["iteration"]} after {self._last} in {self._path}'
      )
    self._last = record['iteration']
    text = io.StringIO()
    cells = (_cell(record[name]) for name in COLUMNS)
    csv.writer(text, lineterminator='\n').writerow(cells)
    self._append(text.getvalue().encode())

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def _append(self, line: bytes) -> None:
    self._file.write(line)
    self._file.flush()
    os.fsync(self._file.fileno())


def _cell(value: Any) -> str:
  if isinstance(value, str):
    return value
  if isinstance(value, float | np.floating):
    return repr(float(value))
  return str(int(value))


def _upgraded(content: bytes) -> bytes:
  """The file with today's columns, if an older version wrote it.

  Columns that it lacks are NaN. A file of other columns stays as it is.
  """
  header = content[: content.find(b'\n') + 1]
  names = header.decode(errors='replace').strip().split(',')
  if header in (b'', _HEADER) or not set(names) < set(COLUMNS):
    return content
  whole = content[: content.rfind(b'\n') + 1].decode()
  text = io.StringIO()
  writer = csv.DictWriter(text, COLUMNS, restval='nan', lineterminator='\n')
  writer.writeheader()
  writer.writerows(csv.DictReader(io.StringIO(whole)))
  return text.getvalue().encode()


def _kept(
  content: bytes, last_iteration: int | None, path: pathlib.Path
) -> tuple[int, int | None]:
  """Returns the bytes of a file to keep and the iteration they end with."""
  if not content.startswith(_HEADER) and not _HEADER.startswith(content):
    raise errors.UserError(
      f'{path} has other columns than this version writes: use a new --run_dir'
    )
  content = content[: content.rfind(b'\n') + 1]  # a crash cut the rest short
  if last_iteration is None:
    return min(len(content), len(_HEADER)), None
  end, last = len(_HEADER), None
  for row in content[end:].splitlines(keepends=True):
    iteration = int(row.split(b',', 1)[0])
    if iteration > last_iteration:
      break
    end, last = end + len(row), iteration
  if last != last_iteration:
    raise errors.UserError(
      f'{path} ends at iteration {last} but the checkpoint is of iteration '
      f'{last_iteration}: put the file back as it was, or use a new --run_dir'
    )
  return end, last


def read_csv(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads the finished rows of a CsvSink, also while it is being written.

  Args:
    path: the file.

  Returns:
    One array [rows] a column: float64, or str for `step_status`.

  Raises:
    UserError: no such file, or other columns.
  """
  try:
    content = _upgraded(pathlib.Path(path).read_bytes())
  except FileNotFoundError:
    raise errors.UserError(f'{path} does not exist') from None
  end, _ = _kept(content, None, pathlib.Path(path))
  text = content[end : content.rfind(b'\n') + 1].decode()
  rows = list(csv.reader(io.StringIO(text)))
  columns = zip(*rows, strict=True) if rows else ((),) * len(COLUMNS)
  return {
    name: np.array(column, str if name == 'step_status' else np.float64)
    for name, column in zip(COLUMNS, columns, strict=True)
  }


class TensorBoardSink:
  """Writes scalars and histograms for TensorBoard, by env steps.

  Without tf.summary, because only so can a resumed run mark where it starts:
  TensorBoard then forgets the points of the work that was lost. And without
  TensorBoard's EventFileWriter, whose thread would print a traceback where a
  disk is full.
  """

  def __init__(
    self, directory: str | os.PathLike[str], first_env_step: int | None
  ):
    """Opens a new event file.

    Args:
      directory: where the event files are; created when missing.
      first_env_step: env steps of the checkpoint the run resumes from; points
        beyond are forgotten. None starts from nothing.
    """
    path = pathlib.Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    # TensorBoard reads the files in the order of their names.
    name = f'events.out.tfevents.{time.time():.6f}.{os.getpid()}'
    self._file = open(path / name, 'xb')
    self._writer = record_writer.RecordWriter(self._file)
    self._add(0, file_version='brain.Event:2')
    step = -1 if first_env_step is None else first_env_step
    status = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._add(step + 1, session_log=status)

  def write(self, record: Record, histograms: Histograms) -> None:
    """Adds a point to each curve; numbers that are not finite are left out.

    Raises:
      OSError: the disk is full; TensorBoard reads what came before.
    """
    step = record['env_steps']
    for group, names in _GROUPS.items():
      for name in names:
        value = record[name]
        if not isinstance(value, str) and math.isfinite(value):
          tag = f'{group}/{name}'
          self._add(step, summary=scalar_summary.scalar_pb(tag, float(value)))
    for name, values in histograms.items():
      finite = values[np.isfinite(values)]
      if finite.size:
        summary = histogram_summary.histogram_pb(f'histogram/{name}', finite)
        self._add(step, summary=summary)
    self._file.flush()

  def close(self) -> None:
    """Closes the event file."""
    self._file.close()

  def _add(self, step: int, **content: Any) -> None:
    event = event_pb2.Event(wall_time=time.time(), step=step, **content)
    self._writer.write(event.SerializeToString())
