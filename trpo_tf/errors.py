"""The error that is addressed to the person who typed the command."""

import contextlib
import math
import operator
from collections.abc import Iterator
from typing import Any

_LONGEST = 300  # characters of another's message that are quoted


class UserError(ValueError):
  """An error that the user can mend; its message says how, in one line.

  Binaries print the message without a traceback and exit with code 2.
  """


def require_whole(
  name: str, value: Any, low: int, high: float = math.inf
) -> int:
  """Returns a whole number that a caller gives.

  Args:
    name: its name, for the error.
    value: the number, of any integer type.
    low: smallest value allowed.
    high: largest value allowed.

  Raises:
    UserError: it is no whole number, or outside.
  """
  with contextlib.suppress(TypeError):
    number = operator.index(value)
    if low <= number <= high:
      return number
  most = ' or more' if high == math.inf else f' to {high:,}'
  raise UserError(f'{name}={value!r:.80}: take a whole number, {low}{most}')


class TaskError(UserError):
  """A failure of the environment or of its process, not of a file.

  A checkpoint that is being read when it happens is as good as before.
  """


class RemoteError(Exception):
  """An exception of another process; its text is the traceback there.

  Attributes:
    line: the exception in one line.
  """

  def __init__(self, line: str, text: str):
    """Takes the line and the traceback.

    Args:
      line: the exception in one line.
      text: its traceback.
    """
    super().__init__(f'\n{text.rstrip()}')
    self.line = line


@contextlib.contextmanager
def naming(path: object) -> Iterator[None]:
  """Names the file in the OSErrors of a block that writes it.

  The system says which file cannot be opened, but not which one is full.

  Args:
    path: the file.
  """
  try:
    yield
  except OSError as error:
    error.filename = error.filename or str(path)
    raise


def quoted(error: BaseException) -> str:
  """Formats in one line what a user's code raised; it may be any exception."""
  if isinstance(error, RemoteError):
    return error.line
  try:
    text = ' '.join(str(error).split())
  except Exception:  # its __str__ is the user's code too
    text = 'its message cannot be shown'
  if len(text) > _LONGEST:
    text = f'{text[:_LONGEST]}...'
  name = type(error).__name__
  return f'{name}: {text}' if text else name


def cause(error: BaseException) -> str:
  """Formats what ended a program, and says how to see where it was raised."""
  return f'{quoted(error)}; --verbosity=1 shows its traceback'
