"""Runs processes side by side, each with its log file."""

import dataclasses
import pathlib
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from trpo_tf.reproduction.plan import Run

__all__ = ['Ending', 'execute', 'log_file']

_POLL_SECONDS = 0.05


@dataclasses.dataclass(frozen=True)
class Ending:
  """How a run's process ended.

  Attributes:
    run: the run.
    seconds: how long the process took.
    failure: the last line that it wrote, or its exit code (negative: the
      signal that ended it); empty if it ended well.
  """

  run: Run
  seconds: float
  failure: str


@dataclasses.dataclass(frozen=True)
class _Job:
  run: Run
  process: subprocess.Popen
  began: float
  log_begin: int  # before it are the lines of earlier processes


def log_file(run: Run) -> pathlib.Path:
  """Where the output of a run's process is, beside its directory."""
  return run.directory.with_name(run.directory.name + '.log')


def execute(
  runs: Iterable[Run],
  command: Callable[[Run], Sequence[str]],
  jobs: int,
  on_end: Callable[[Ending], Iterable[Run]],
  stops: Callable[[], int] = lambda: 0,
) -> bool:
  """Runs processes, `jobs` at a time, in the order given.

  Each has a process group of its own, so that a Ctrl-C reaches this process
  alone. A process that fails is told of and the others go on.

  Args:
    runs: the runs.
    command: of a run.
    jobs: processes side by side.
    on_end: told of every ending but those after a stop; returns runs that can
      be started now.
    stops: number of requests to stop so far. After the first no run is
      started; each is passed on to the processes as SIGTERM.

  Returns:
    Whether all runs ended, as opposed to a stop.
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
  finally:  # nothing runs on behind an error
    _terminate(running)
    for job in running:
      job.process.wait()
  return not stops()


def _start(run: Run, command: Callable[[Run], Sequence[str]]) -> _Job:
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
