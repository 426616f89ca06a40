"""Sinks that write the record of an iteration to a CSV file and TensorBoard.

The histograms that come with a record are arrays by name (returns, actions and
those of the method), of any shape. console.py has the sink that people watch.
"""

import csv
import io
import math
import os
import pathlib
import time
import types
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.histogram import summary_v2 as histogram_summary
from tensorboard.plugins.scalar import summary_v2 as scalar_summary
from tensorboard.summary.writer import record_writer

from trpo_tf.experiment import checkpoint, progress
from trpo_tf.experiment.evaluations import Evaluated
from trpo_tf.methods import record as record_lib
from trpo_tf.methods.record import COLUMNS, IterationRecord

__all__ = [
  'COLUMNS',
  'CsvSink',
  'Histograms',
  'NO_TERMS',
  'Sink',
  'TensorBoardSink',
  'Terms',
]

Histograms = Mapping[str, np.ndarray]
# by name of a reward term: mean of its sums over the episodes that ended
Terms = Mapping[str, float]
NO_TERMS: Terms = types.MappingProxyType({})


class Sink(Protocol):
  """A consumer of iteration records."""

  def write(
    self,
    record: IterationRecord,
    histograms: Histograms,
    terms: Terms = NO_TERMS,
    evaluated: Evaluated | None = None,
  ) -> None:
    """Receives the record of the next iteration.

    Args:
      record: the numbers of the iteration.
      histograms: arrays by name, of any shape.
      terms: means of the reward's terms.
      evaluated: the evaluation after the iteration, if there was one.
    """

  def close(self) -> None:
    """Finishes whatever was begun."""


class CsvSink:
  """A sink that appends one row for each iteration under a fixed header.

  Floats are written so that they read back bit for bit. A row is on the disk
  when `write` returns, hence before the checkpoint that follows it, so a run
  that resumes always finds the rows up to its checkpoint.
  """

  def __init__(self, path: str | os.PathLike[str], last_iteration: int | None):
    """Opens the file at the iteration that the run has reached.

    Args:
      path: the file; it is created if it is missing.
      last_iteration: iteration of the checkpoint that the run resumes from.
        Later rows (lost work, perhaps a half-written line) are cut off. None:
        the run starts anew, and all rows are cut off.

    Raises:
      UserError: the file has other columns, or lacks or has damaged rows up to
        the iteration of the checkpoint. The file is unchanged. (A file of an
        older version, which had fewer columns, gets NaN in the new ones.)
    """
    self._path, self._last = pathlib.Path(path), last_iteration
    content = progress.read(path).content(last_iteration or 0)
    found = self._path.read_bytes() if self._path.exists() else b''
    if not found.startswith(content):  # new, or of an older version
      checkpoint.write_atomically(self._path, content)
    self._file = open(self._path, 'ab')
    self._file.truncate(len(content))

  def write(
    self,
    record: IterationRecord,
    histograms: Histograms,
    terms: Terms = NO_TERMS,
    evaluated: Evaluated | None = None,
  ) -> None:
    """Appends a row.

    Args:
      record: the numbers of the iteration.
      histograms: not used.
      terms: not used.
      evaluated: not used.

    Raises:
      ValueError: the iteration does not follow the one before.
      OSError: the disk is full; a partial row is cut off on resume.
    """
    del histograms, terms, evaluated
    if self._last is not None and record.iteration != self._last + 1:
      raise ValueError(
        f'iteration {record.iteration} after {self._last} in {self._path}'
      )
    self._last = record.iteration
    text = io.StringIO()
    cells = (_cell(getattr(record, name)) for name in COLUMNS)
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


class TensorBoardSink:
  """A sink that writes scalars and histograms for TensorBoard, by env steps.

  It does not use tf.summary, which cannot mark where a resumed run starts. The
  mark makes TensorBoard discard the points of lost work. Nor does it use
  TensorBoard's EventFileWriter, whose thread would print a traceback if the
  disk is full.
  """

  def __init__(
    self, directory: str | os.PathLike[str], first_env_step: int | None
  ):
    """Opens a new event file.

    Args:
      directory: directory of the event files; created if it is missing.
      first_env_step: env steps of the checkpoint that the run resumes from;
        TensorBoard discards later points. None: the run starts anew.
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

  def write(
    self,
    record: IterationRecord,
    histograms: Histograms,
    terms: Terms = NO_TERMS,
    evaluated: Evaluated | None = None,
  ) -> None:
    """Adds a point to each curve; leaves out numbers that are not finite.

    Args:
      record: the numbers of the iteration.
      histograms: arrays by name, of any shape.
      terms: means of the reward's terms.
      evaluated: the evaluation after the iteration, if there was one.

    Raises:
      OSError: the disk is full; TensorBoard can still read earlier points.
    """
    step = record.env_steps
    for group, names in record_lib.groups().items():
      for name in names:
        value = getattr(record, name)
        if not isinstance(value, str) and math.isfinite(value):
          tag = f'{group}/{name}'
          self._add(step, summary=scalar_summary.scalar_pb(tag, float(value)))
    for name, mean in terms.items():
      self._add(step, summary=scalar_summary.scalar_pb(f'terms/{name}', mean))
    for name in ('return_mean', 'return_std', 'length_mean'):
      value = getattr(evaluated, name, math.nan)
      if math.isfinite(value):
        tag = f'evaluation/{name}'
        self._add(step, summary=scalar_summary.scalar_pb(tag, value))
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
