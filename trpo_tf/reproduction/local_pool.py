"""Runs processes on this machine."""

import time
from collections import deque
from collections.abc import Sequence

from trpo_tf.reproduction.plan import PlannedRun
from trpo_tf.reproduction.process import LoggedProcess
from trpo_tf.reproduction.runner import Ending, log_file

__all__ = ['LocalPool']

_POLL_SECONDS = 0.05


class LocalPool:
  """A Pool of processes on this machine; see runner.Pool.

  Attributes:
    size: the number of processes that run side by side.
  """

  def __init__(self, size: int):
    self.size = size
    self._waiting = deque[tuple[PlannedRun, Sequence[str]]]()
    self._running: dict[PlannedRun, LoggedProcess] = {}

  @property
  def busy(self) -> bool:
    """Whether runs are waiting or running."""
    return bool(self._waiting or self._running)

  def submit(self, run: PlannedRun, arguments: Sequence[str]) -> None:
    """See runner.Pool."""
    self._waiting.append((run, arguments))

  def endings(self) -> list[Ending]:
    """See runner.Pool."""
    while self._waiting and len(self._running) < self.size:
      run, arguments = self._waiting.popleft()
      self._running[run] = LoggedProcess(arguments, log_file(run))
    ended = [r for r, p in self._running.items() if p.poll() is not None]
    if not ended:
      time.sleep(_POLL_SECONDS)
    processes = [(run, self._running.pop(run)) for run in ended]
    return [Ending(run, p.seconds, p.failure()) for run, p in processes]

  def stop(self) -> None:
    """See runner.Pool; train saves at one SIGTERM and ends at the next."""
    self._waiting.clear()
    for process in self._running.values():
      process.terminate()
