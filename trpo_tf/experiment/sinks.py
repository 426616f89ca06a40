"""Sinks that write the record of an iteration to files and TensorBoard.

The histograms that come with a record are arrays by name (returns, actions and
those of the method), of any shape. console.py has the sink that people watch,
and trackers.py those of tracking services.
"""

import json
import math
import os
import pathlib
import time
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.histogram import summary_v2 as histogram_summary
from tensorboard.plugins.scalar import summary_v2 as scalar_summary
from tensorboard.summary.writer import record_writer

from trpo_tf import errors
from trpo_tf.experiment import line_file, progress
from trpo_tf.experiment.evaluations import Evaluated
from trpo_tf.methods import record as record_lib
from trpo_tf.methods.record import COLUMNS, IterationRecord

__all__ = [
  'COLUMNS',
  'CsvSink',
  'Entry',
  'Histograms',
  'JsonLinesSink',
  'Sink',
  'TensorBoardSink',
  'Terms',
  'scalars',
]

Histograms = Mapping[str, np.ndarray]
# by name of a reward term: mean of its sums over the episodes that ended
Terms = Mapping[str, float]
_NOTHING: Mapping[str, Any] = types.MappingProxyType({})


class Entry(NamedTuple):
  """What a sink receives of an iteration.

  Attributes:
    record: the numbers of the iteration.
    histograms: arrays by name, of any shape.
    terms: means of the reward's terms.
    evaluated: the evaluation after the iteration, if there was one.
  """

  record: IterationRecord
  histograms: Histograms = _NOTHING
  terms: Terms = _NOTHING
  evaluated: Evaluated | None = None


class Sink(Protocol):
  """A consumer of iteration records."""

  def write(self, entry: Entry) -> None:
    """Receives the record of the next iteration.

    Args:
      entry: what is known of the iteration.
    """

  def close(self) -> None:
    """Finishes whatever was begun."""


class CsvSink:
  """A sink that appends one row for each iteration under a fixed header.

  Floats are written so that they read back bit for bit.
  """

  def __init__(self, path: str | os.PathLike[str], last_iteration: int | None):
    """Opens the file at the iteration that the run has reached.

    Args:
      path: the file; it is created if it is missing.
      last_iteration: iteration of the checkpoint that the run resumes from.
        Later rows are cut off. None: the run starts anew, and all rows are cut
        off.

    Raises:
      UserError: the file has other columns, or lacks or has damaged rows up to
        the iteration of the checkpoint. The file is unchanged. (A file of an
        older version, which had fewer columns, gets NaN in the new ones.)
    """
    self._path, self._last = pathlib.Path(path), last_iteration
    content = progress.read(path).content(last_iteration or 0)
    self._file = line_file.LineFile(path, content)

  def write(self, entry: Entry) -> None:
    """Appends a row.

    Args:
      entry: of which the record is written.

    Raises:
      ValueError: the iteration does not follow the one before.
      OSError: the disk is full; a partial row is cut off on resume.
    """
    record = entry.record
    if self._last is not None and record.iteration != self._last + 1:
      raise ValueError(
        f'iteration {record.iteration} after {self._last} in {self._path}'
      )
    self._last = record.iteration
    self._file.append(','.join(_cells(record)) + '\n')

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


def _cells(record: IterationRecord) -> list[str]:
  return [_cell(getattr(record, name)) for name in COLUMNS]


def _cell(value: Any) -> str:
  if isinstance(value, str):
    return value
  if isinstance(value, float | np.floating):
    return repr(float(value))
  return str(int(value))


class JsonLinesSink:
  """A sink that appends one JSON object for each iteration.

  An object holds the cells of a row of progress.csv by column. A number that is
  not finite is null, because JSON has no such numbers.
  """

  def __init__(
    self, path: str | os.PathLike[str], rows: Iterable[Sequence[str]]
  ):
    """Opens the file at the iteration that the run has reached.

    Args:
      path: the file. It is created with all rows if it is missing or lacks
        some, and later lines are cut off.
      rows: the cells of progress.csv up to that iteration.
    """
    content = ''.join(map(_json_line, rows)).encode()
    self._file = line_file.LineFile(path, content)

  def write(self, entry: Entry) -> None:
    """Appends a line.

    Args:
      entry: of which the record is written.

    Raises:
      OSError: the disk is full; a partial line is cut off on resume.
    """
    self._file.append(_json_line(_cells(entry.record)))

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


def _json_line(cells: Sequence[str]) -> str:
  return json.dumps(progress.values(cells), allow_nan=False) + '\n'


def scalars(entry: Entry) -> dict[str, float]:
  """Returns the finite numbers of an iteration by tag, such as step/mean_kl.

  Args:
    entry: what is known of the iteration.
  """
  found: dict[str, Any] = {
    f'{group}/{name}': getattr(entry.record, name)
    for group, names in record_lib.groups().items()
    for name in names
  }
  found |= {f'terms/{name}': mean for name, mean in entry.terms.items()}
  for name in ('return_mean', 'return_std', 'length_mean'):
    found[f'evaluation/{name}'] = getattr(entry.evaluated, name, math.nan)
  return {
    tag: float(value)
    for tag, value in found.items()
    if not isinstance(value, str) and math.isfinite(value)
  }


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

  def write(self, entry: Entry) -> None:
    """Adds a point to each curve; leaves out numbers that are not finite.

    Args:
      entry: what is known of the iteration.

    Raises:
      OSError: the disk is full; TensorBoard can still read earlier points.
    """
    with errors.naming(self._file.name):
      self._write(entry)

  def _write(self, entry: Entry) -> None:
    step = entry.record.env_steps
    for tag, value in scalars(entry).items():
      self._add(step, summary=scalar_summary.scalar_pb(tag, value))
    for name, values in entry.histograms.items():
      finite = values[np.isfinite(values)]
      if finite.size:
        summary = histogram_summary.histogram_pb(f'histogram/{name}', finite)
        self._add(step, summary=summary)
    self._file.flush()

  def close(self) -> None:
    """Closes the event file."""
    with errors.naming(self._file.name):
      self._file.close()

  def _add(self, step: int, **content: Any) -> None:
    event = event_pb2.Event(wall_time=time.time(), step=step, **content)
    self._writer.write(event.SerializeToString())
