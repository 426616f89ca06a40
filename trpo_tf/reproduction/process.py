"""A Python process whose output goes to the end of a file."""

import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

__all__ = ['LoggedProcess']

# Becomes the program, which the kernel kills when the process that started it
# dies. Ray blocks SIGINT in its workers, and the program would inherit that.
_TETHER = """
import ctypes, os, signal, sys
parent, program = int(sys.argv[1]), sys.argv[2:]
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
signal.pthread_sigmask(signal.SIG_SETMASK, ())
if os.getppid() == parent:
  os.execv(program[0], program)
"""


class LoggedProcess:
  """A running process.

  It is in a process group of its own, so that Ctrl-C does not reach it, and it
  does not outlive the thread that starts it, which has to be the main one.
  """

  def __init__(
    self, arguments: Sequence[str], log: pathlib.Path, **options: Any
  ):
    """Starts the process.

    Args:
      arguments: what follows the name of the Python interpreter.
      log: the file, which is made if it is missing.
      options: of subprocess.Popen.
    """
    tether = [sys.executable, '-S', '-c', _TETHER, str(os.getpid())]
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, 'ab') as output:
      self._log_begin = output.tell()  # behind what earlier processes wrote
      self._process = subprocess.Popen(
        [*tether, sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        process_group=0,
        **options,
      )
    self._log, self._began = log, time.monotonic()

  @property
  def seconds(self) -> float:
    """Wall-clock time since the start."""
    return time.monotonic() - self._began

  def poll(self) -> int | None:
    """Returns the exit code, negative after a signal; None while it runs."""
    return self._process.poll()

  def terminate(self) -> None:
    """Sends SIGTERM."""
    self._process.terminate()

  def kill(self) -> None:
    """Sends SIGKILL."""
    self._process.kill()

  def failure(self) -> str:
    """Says why the process failed.

    Returns:
      '' if its exit code is 0. Otherwise its last line of output, or, without
      output, the exit code.
    """
    code = self._process.wait()
    if not code:
      return ''
    output = self._log.read_bytes()[self._log_begin :]
    lines = output.decode(errors='replace').split('\n')
    return next(
      (line.strip() for line in reversed(lines) if line.strip()),
      f'exit code {code}',
    )
