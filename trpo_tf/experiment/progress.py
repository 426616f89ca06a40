"""The file progress.csv of a run: one row per iteration, from 1 without gaps.

sinks.CsvSink writes it. It may be read while a run writes: a line that is not
finished yet does not count as a row.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from trpo_tf.errors import UserError
from trpo_tf.methods.record import COLUMNS, IterationRecord

__all__ = ['HEADER', 'Progress', 'has_rows', 'read', 'read_csv', 'values']

HEADER = ','.join(COLUMNS).encode() + b'\n'
_REMEDY = 'put the file back as it was, or use a new --run_dir'
_TYPES = {
  field.name: field.type for field in dataclasses.fields(IterationRecord)
}


@dataclasses.dataclass(frozen=True)
class Progress:
  """The good rows at the beginning of a file, and what follows them.

  Attributes:
    path: the file.
    rows: the cells of iterations 1, 2, ... in the order of COLUMNS. Columns
      that an older version did not write are filled with nan.
    fault: what is wrong with the next row; '' if there is none.
  """

  path: pathlib.Path
  rows: tuple[tuple[str, ...], ...]
  fault: str

  @property
  def error(self) -> UserError:
    """The error that names the faulty row."""
    row = len(self.rows) + 1
    return UserError(f'{self.path}, row {row}: {self.fault}: {_REMEDY}')

  def require(self, iteration: int) -> None:
    """Raises UserError unless there are good rows up to an iteration."""
    if iteration <= len(self.rows):
      return
    if self.fault:
      raise self.error
    raise UserError(
      f'{self.path} ends at iteration {len(self.rows)} but the checkpoint is '
      f'of iteration {iteration}'
    )

  def require_steps(self, iteration: int, env_steps: object) -> None:
    """Raises UserError unless there is a row that goes with a checkpoint.

    Args:
      iteration: iteration of the checkpoint.
      env_steps: env steps of the checkpoint, an integer of Python or NumPy.
        Anything else is not compared, as it is refused elsewhere.
    """
    self.require(iteration)
    if isinstance(env_steps, np.ndarray | np.generic) and env_steps.ndim == 0:
      env_steps = env_steps.item()
    place = COLUMNS.index('env_steps')
    written = int(self.rows[iteration - 1][place]) if iteration else 0
    if isinstance(env_steps, int) and env_steps != written:
      raise UserError(
        f'{self.path} has {written} env steps at iteration {iteration} but the '
        f'checkpoint has {env_steps}'
      )

  def refused_steps(self, iteration: int) -> int:
    """Counts the refused steps in a row that end with an iteration."""
    place = COLUMNS.index('step_status')
    found = [row[place] for row in self.rows[:iteration]]
    count = 0
    while count < len(found) and found[-1 - count] != 'accepted':
      count += 1
    return count

  def content(self, last_iteration: int) -> bytes:
    """Returns the bytes of the file up to an iteration.

    Raises:
      UserError: the file has no good rows up to there.
    """
    self.require(last_iteration)
    lines = (','.join(row) for row in self.rows[:last_iteration])
    return HEADER + ''.join(line + '\n' for line in lines).encode()


def read(path: str | os.PathLike[str]) -> Progress:
  """Reads the rows that a run can go on from.

  Args:
    path: the file; it has no rows if it is missing.

  Raises:
    UserError: the file has other columns than this version writes.
  """
  path = pathlib.Path(path)
  try:
    content = path.read_bytes()
  except FileNotFoundError:
    content = b''
  header, *lines = content.split(b'\n')
  if not lines:  # nothing, or a header cut short
    if not HEADER.startswith(content):
      raise _other_columns(path)
    return Progress(path, (), '')
  names = header.decode(errors='replace').split(',')
  needed = {'iteration', 'env_steps'} <= set(names) <= set(COLUMNS)
  if not needed or len(set(names)) != len(names):
    raise _other_columns(path)
  rows: list[tuple[str, ...]] = []
  fault = ''
  for line in lines[:-1]:  # the last is what follows the last line break
    row, fault = _row(line, names, rows)
    if fault:
      break
    rows.append(row)
  return Progress(path, tuple(rows), fault)


def _other_columns(path: pathlib.Path) -> UserError:
  return UserError(
    f'{path} has other columns than this version writes: use a new --run_dir'
  )


def _row(
  line: bytes, names: list[str], before: list[tuple[str, ...]]
) -> tuple[tuple[str, ...], str]:
  """Returns the cells of a line, and what is wrong with them; '' if nothing."""
  cells = line.decode('ascii', errors='replace').split(',')
  if len(cells) != len(names):
    return (), f'it has {len(cells)} cells, not {len(names)}'
  given = dict(zip(names, cells, strict=True))
  row = tuple(given.get(name, 'nan') for name in COLUMNS)
  iteration, env_steps = row[:2]
  if iteration != str(len(before) + 1):
    return (), (
      f'its iteration is {iteration[:20]!r}, not {len(before) + 1}, as a row '
      'is missing, doubled or damaged'
    )
  least = int(before[-1][1]) if before else 0
  whole = env_steps.isdigit() and len(env_steps) < 19
  if not whole or int(env_steps) <= least:
    return (), f'its env_steps are {env_steps[:20]!r}, not more than {least}'
  for name, cell in zip(COLUMNS, row, strict=True):
    if not _fits(name, cell):
      return (), f'its {name} is {cell[:20]!r}'
  return row, ''


def _fits(name: str, cell: str) -> bool:
  if _TYPES[name] is str:
    return cell.isidentifier()
  try:
    float(cell)
  except ValueError:
    return False
  return True


def values(row: Sequence[str]) -> dict[str, str | int | float | None]:
  """Returns the cells of a row by column, as values for JSON.

  Args:
    row: the cells in the order of COLUMNS.

  Returns:
    Numbers and texts; None for a number that is not finite.
  """
  return {
    name: _value(_TYPES[name], cell)
    for name, cell in zip(COLUMNS, row, strict=True)
  }


def _value(kind: Any, cell: str) -> str | int | float | None:
  if kind is str:
    return cell
  number = float(cell)
  if not math.isfinite(number):
    return None
  return int(cell) if kind is int and cell.isdigit() else number


def has_rows(path: str | os.PathLike[str]) -> bool:
  """Returns whether a file has anything after its first line.

  Args:
    path: the file; it may be missing.
  """
  try:
    return b'\n' in pathlib.Path(path).read_bytes().rstrip(b'\n')
  except FileNotFoundError:
    return False


def read_csv(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads the finished rows of a run, even while they are being written.

  Args:
    path: the file.

  Returns:
    One array [rows] for each column: float64, or str for `step_status`.

  Raises:
    UserError: there is no such file, it has other columns, or a row is damaged.
  """
  if not pathlib.Path(path).exists():
    raise UserError(f'{path} does not exist')
  found = read(path)
  if found.fault:
    raise found.error
  return {
    name: np.array(
      [row[i] for row in found.rows],
      str if _TYPES[name] is str else np.float64,
    )
    for i, name in enumerate(COLUMNS)
  }
