"""Gives up worker processes that somebody stopped (SIGSTOP) and left so."""

import collections
import pathlib
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

__all__ = ['Watched', 'watch']

_TICK = 1.0  # seconds between two looks
_PATIENCE = 20  # looks at a stopped process before it is given up


class Watched(Protocol):
  """What has a process."""

  @property
  def process_id(self) -> int:
    """The process's id."""

  def give_up(self) -> None:
    """Kills the process."""


def watch(workers: Callable[[], Sequence[Watched]]) -> Callable[[], None]:
  """Watches processes in the background.

  The pool replaces a process that ended, but would wait for ever for one that
  is stopped. Looks are counted, not seconds, so that a program that was itself
  stopped with its workers gives them time to go on. The state of a process is
  only known on Linux; elsewhere nothing happens.

  Args:
    workers: returns those to look at.

  Returns:
    A function that ends the watch.
  """
  done = threading.Event()

  def look() -> None:
    looks = collections.Counter[int]()
    while not done.wait(_TICK):
      stopped = [w for w in workers() if _is_stopped(w.process_id)]
      looks = collections.Counter(
        {w.process_id: looks[w.process_id] + 1 for w in stopped}
      )
      for worker in stopped:
        if looks[worker.process_id] >= _PATIENCE:
          worker.give_up()

  threading.Thread(target=look, daemon=True, name='watchdog').start()
  return done.set


def _is_stopped(process_id: int) -> bool:
  try:
    text = pathlib.Path(f'/proc/{process_id}/stat').read_text()
  except OSError:  # not Linux, or the process has ended
    return False
  return text.rpartition(')')[2].split()[0] in 'Tt'
