"""The memory that a call takes."""

import pathlib
from collections.abc import Callable
from typing import Any


def _status(name: str) -> int:
  """Returns a field of /proc/self/status, in bytes."""
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith(name + ':'):
      return 1024 * int(line.split()[1])
  raise OSError(f'/proc/self/status has no {name}')


def growth(function: Callable[[], Any]) -> int | None:
  """Returns the growth of peak resident memory in bytes; None if unknown."""
  try:
    pathlib.Path('/proc/self/clear_refs').write_text('5')  # resets the peak
    before = _status('VmRSS')
    function()
    return _status('VmHWM') - before
  except OSError:  # not Linux, or forbidden
    return None
