"""The file evaluations.csv: one row per evaluation during a run.

A row is on the disk before the checkpoint of its iteration, as in progress.csv.
A run that resumes cuts off the rows of lost work and writes them again.
"""

import dataclasses
import math
import os
import pathlib
import typing

from trpo_tf.errors import UserError
from trpo_tf.experiment import line_file

__all__ = ['Evaluated', 'EvaluationsFile', 'best_return', 'is_due', 'read']

_REMEDY = 'put the file back as it was, or use a new --run_dir'


@dataclasses.dataclass(frozen=True)
class Evaluated:
  """One evaluation of the mean policy in whole episodes.

  Attributes:
    iteration: iterations done before it.
    env_steps: env steps trained before it; its own steps do not count.
    return_mean: mean undiscounted return; NaN if all episodes diverged.
    return_std: standard deviation of the returns (n - 1); NaN for fewer than
      two.
    episodes: number of episodes that ended without diverging.
    length_mean: their mean length in env steps; NaN if there are none.
    diverged: number of episodes that diverged.
  """

  iteration: int
  env_steps: int
  return_mean: float
  return_std: float
  episodes: int
  length_mean: float
  diverged: int


_TYPES = typing.get_type_hints(Evaluated)
_HEADER = ','.join(_TYPES) + '\n'


def is_due(every: int, before: int, after: int) -> bool:
  """Returns whether an iteration passes a multiple of a number of env steps.

  It depends on nothing else, so a run that resumes evaluates where it would
  have anyway.

  Args:
    every: the number of env steps; 0: never.
    before: env steps before the iteration.
    after: env steps after the iteration.
  """
  return every > 0 and after // every > before // every


def best_return(rows: list[Evaluated]) -> float:
  """Returns the highest mean return of the rows; -inf if there is none."""
  found = [r.return_mean for r in rows if not math.isnan(r.return_mean)]
  return max(found, default=-math.inf)


def read(
  path: str | os.PathLike[str], last_iteration: int | None = None
) -> list[Evaluated]:
  """Reads the finished rows of a file.

  Args:
    path: the file; it has no rows if it is missing.
    last_iteration: last iteration to read; None: all.

  Raises:
    UserError: the file has other columns, or a row is damaged.
  """
  try:
    content = pathlib.Path(path).read_bytes().decode(errors='replace')
  except FileNotFoundError:
    return []
  header, newline, body = content.partition('\n')
  if header + '\n' != _HEADER and (newline or not _HEADER.startswith(header)):
    raise UserError(f'{path} has other columns than this version: {_REMEDY}')
  rows: list[Evaluated] = []
  for number, line in enumerate(body.split('\n')[:-1], 1):
    try:
      row = _row(line)
    except ValueError:
      raise UserError(f'{path}, row {number} is damaged: {_REMEDY}') from None
    if rows and row.iteration <= rows[-1].iteration:
      raise UserError(f'{path}, row {number} is out of order: {_REMEDY}')
    if last_iteration is not None and row.iteration > last_iteration:
      break  # lost work
    rows.append(row)
  return rows


class EvaluationsFile:
  """The open file, to which a run appends."""

  def __init__(self, path: pathlib.Path, rows: list[Evaluated]):
    """Opens the file, which is created if it is missing.

    Args:
      path: the file.
      rows: what it holds up to the iteration that the run has reached; later
        rows are cut off.
    """
    content = (_HEADER + ''.join(map(_line, rows))).encode()
    self._file = line_file.LineFile(path, content)

  def write(self, row: Evaluated) -> None:
    """Appends a row, which is on the disk afterwards."""
    self._file.append(_line(row))

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


def _line(row: Evaluated) -> str:
  return ','.join(repr(value) for value in dataclasses.astuple(row)) + '\n'


def _row(line: str) -> Evaluated:
  cells = line.split(',')
  kinds = zip(_TYPES.values(), cells, strict=True)
  return Evaluated(*(kind(cell) for kind, cell in kinds))
