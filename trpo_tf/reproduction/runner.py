"""Runs planned runs side by side until each has ended."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from trpo_tf.reproduction.plan import PlannedRun

__all__ = ['Ending', 'Pool', 'execute', 'log_file']


@dataclasses.dataclass(frozen=True)
class Ending:
  """How a run's process ended.

  Attributes:
    run: the run.
    seconds: wall-clock time of its last process.
    failure: empty if the process succeeded. Otherwise its last line of output,
      or, without output, its exit code, which is negative after a signal.
    processes: number of processes that were begun for it; more than one if
      some were killed.
  """

  run: PlannedRun
  seconds: float
  failure: str
  processes: int = 1


class Pool(Protocol):
  """Runs the processes of runs, as many at a time as it has room for."""

  @property
  def size(self) -> int:
    """About how many processes run side by side."""

  @property
  def busy(self) -> bool:
    """Whether runs are waiting or running."""

  def submit(self, run: PlannedRun, arguments: Sequence[str]) -> None:
    """Starts the process of a run when there is room, in the order of calls.

    Args:
      run: the run; its process writes to the end of `log_file(run)`.
      arguments: what follows the name of the Python interpreter.
    """

  def endings(self) -> list[Ending]:
    """Waits for a moment; returns the runs that have ended since."""

  def stop(self) -> None:
    """Drops what is waiting and asks each process to save and to end.

    A second call ends the processes at once.
    """


def log_file(run: PlannedRun) -> pathlib.Path:
  """Returns the path of the output of a run's process, beside its directory."""
  return run.directory.with_name(run.directory.name + '.log')


def execute(
  runs: Iterable[PlannedRun],
  arguments: Callable[[PlannedRun], Sequence[str]],
  pool: Pool,
  on_end: Callable[[Ending], Iterable[PlannedRun]],
  stops: Callable[[], int] = lambda: 0,
) -> bool:
  """Runs the processes of runs; when one fails, the others continue.

  Args:
    runs: the runs to begin with, in their order.
    arguments: returns the arguments of Python for a run.
    pool: runs the processes.
    on_end: called after each ending, except after a stop was requested; returns
      further runs, which are started after those that are waiting.
    stops: returns the number of requests to stop so far. Each is passed on to
      the pool, and no run is started after the first.

  Returns:
    True if all runs ended, False if a stop was requested.
  """

  def submit(new: Iterable[PlannedRun]) -> None:
    for run in new:
      if not stops():
        pool.submit(run, arguments(run))

  passed_on = 0
  try:
    submit(runs)
    while pool.busy:
      while passed_on < stops():
        passed_on += 1
        pool.stop()
      for ending in pool.endings():
        if not stops():
          submit(on_end(ending))
  finally:  # no process outlives an error
    if pool.busy:
      pool.stop()
    while pool.busy:
      pool.endings()
  return not stops()
