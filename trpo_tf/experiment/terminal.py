"""The standard output of a program that must outlive whoever reads it."""

import os
import sys
from typing import IO, Any, TextIO, cast

import rich.console

__all__ = ['Terminal']


class _Output:
  """A stream until its reader has gone, and nothing afterwards."""

  def __init__(self, stream: TextIO):
    self._stream = stream
    self.closed_by_reader = False

  def write(self, text: str) -> int:
    return self._guard(self._stream.write, text)

  def flush(self) -> None:
    self._guard(self._stream.flush)

  def _guard(self, function: Any, *arguments: Any) -> Any:
    try:
      return function(*arguments)
    except OSError:  # EPIPE of a pipe, EIO of a terminal
      self.closed_by_reader = True
      # Python flushes what is left in the buffer when the program ends
      nowhere = os.open(os.devnull, os.O_WRONLY)
      os.dup2(nowhere, self._stream.fileno())
      os.close(nowhere)

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)


class Terminal(rich.console.Console):
  """A console that notes that its reader has gone, instead of failing."""

  def __init__(self, stream: TextIO | None = None, **options: Any):
    """Opens the console.

    Args:
      stream: where to write; None: standard output as it is now, which a live
        display replaces by its own.
      options: of rich.console.Console.
    """
    self._output = _Output(stream or sys.stdout)
    super().__init__(
      file=cast(IO[str], self._output), highlight=False, **options
    )

  @property
  def closed(self) -> bool:
    """Whether nobody reads any more, as after `train | head -1`."""
    return self._output.closed_by_reader

  def say(self, message: str) -> None:
    """Prints a line as it is, without markup, above a live display."""
    self.print(message, markup=False, soft_wrap=True)
