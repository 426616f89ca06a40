"""A file of lines that a run appends to, such as progress.csv."""

import os
import pathlib

from trpo_tf import errors
from trpo_tf.experiment import checkpoint

__all__ = ['LineFile']


class LineFile:
  """The open file; a line is on the disk when `append` returns.

  A run appends its lines before it saves the checkpoint that follows them, so
  a run that resumes always finds the lines up to its checkpoint.
  """

  def __init__(self, path: str | os.PathLike[str], content: bytes):
    """Opens the file, which is created if it is missing.

    Args:
      path: the file.
      content: its lines up to where the run stands. What follows them in the
        file (lost work, perhaps a half-written line) is cut off.

    Raises:
      OSError: the file could not be written.
    """
    path = pathlib.Path(path)
    found = path.read_bytes() if path.exists() else b''
    if not found.startswith(content):  # new, or of an older version
      checkpoint.write_atomically(path, content)
    self._file = open(path, 'ab')
    self._file.truncate(len(content))

  def append(self, line: str) -> None:
    """Appends a line, which ends with a line break.

    Raises:
      OSError: the disk is full; a partial line is cut off on resume.
    """
    with errors.naming(self._file.name):
      self._file.write(line.encode())
      self._file.flush()
      os.fsync(self._file.fileno())

  def close(self) -> None:
    """Closes the file."""
    with errors.naming(self._file.name):
      self._file.close()
