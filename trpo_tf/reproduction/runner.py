"""Runs the processes of planned runs side by side, each with a log file."""

import dataclasses
import pathlib
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from trpo_tf.reproduction.plan import PlannedRun

__all__ = ['Ending', 'execute', 'log_file']

_POLL_SECONDS = 0.05


@dataclasses.dataclass(frozen=True)
class Ending:
  """How a run's process ended.

  Attributes:
    run: the run.
    seconds: wall-clock time of the process.
    failure: empty if the process succeeded. Otherwise its last line of output,
      or, without output, its exit code, which is negative after a signal.
  """

  run: PlannedRun
  seconds: float
  failure: str


@dataclasses.dataclass(frozen=True)
class _Job:
  run: PlannedRun
  process: subprocess.Popen
  began: float
  log_begin: int  # offset in the log file, behind what earlier processes wrote


def log_file(run: PlannedRun) -> pathlib.Path:
  """Returns the path of the output of a run's process, beside its directory."""
  return run.directory.with_name(run.directory.name + '.log')


def execute(
  runs: Iterable[PlannedRun],
  command: Callable[[PlannedRun], Sequence[str]],
  jobs: int,
  on_end: Callable[[Ending], Iterable[PlannedRun]],
  stops: Callable[[], int] = lambda: 0,
) -> bool:
  """Runs the processes of runs in the given order, `jobs` at a time.

  Each process is in a process group of its own, so that Ctrl-C reaches only
  this process. When a process fails, the others continue.

  Args:
    runs: the runs to begin with.
    command: returns the command line of a run.
    jobs: number of processes that run side by side.
    on_end: called after each ending, except after a stop was requested; returns
      further runs, which are started after those that are waiting.
    stops: returns the number of requests to stop so far. No run is started
      after the first request. Each request is passed on to the processes as
      SIGTERM.

  Returns:
    True if all runs ended, False if a stop was requested.
  """
  waiting, running = deque(runs), list[_Job]()
  passed_on = 0
  try:
    while running or (waiting and not stops()):
      while passed_on < stops():
        passed_on += 1
        _terminate(running)
      while waiting and len(running) < jobs and not stops():
        running.append(_start(waiting.popleft(), command))
      for job in [j for j in running if j.process.poll() is not None]:
        running.remove(job)
        if not stops():
          waiting.extend(on_end(_ending(job)))
      if running:
        time.sleep(_POLL_SECONDS)
  finally:  # no process outlives an error
    _terminate(running)
    for job in running:
      job.process.wait()
  return not stops()


def _start(
  run: PlannedRun, command: Callable[[PlannedRun], Sequence[str]]
) -> _Job:
  log_file(run).parent.mkdir(parents=True, exist_ok=True)
  with open(log_file(run), 'ab') as log:
    begin = log.tell()
    process = subprocess.Popen(
      command(run),
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      process_group=0,
    )
  return _Job(run, process, time.monotonic(), begin)


def _terminate(jobs: Iterable[_Job]) -> None:
  for job in jobs:
    job.process.terminate()


def _ending(job: _Job) -> Ending:
  code, failure = job.process.returncode, ''
  if code:
    output = log_file(job.run).read_bytes()[job.log_begin :]
    lines = output.decode(errors='replace').split('\n')
    failure = next(
      (line.strip() for line in reversed(lines) if line.strip()),
      f'exit code {code}',
    )
  return Ending(job.run, time.monotonic() - job.began, failure)
