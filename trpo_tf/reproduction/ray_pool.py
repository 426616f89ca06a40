"""Runs processes as the tasks of a Ray cluster, one core each."""

import contextlib
import fcntl
import os
import pathlib
import platform
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trpo_tf import errors
from trpo_tf.distributed.ray_cluster import Cluster
from trpo_tf.reproduction.plan import PlannedRun
from trpo_tf.reproduction.process import LoggedProcess
from trpo_tf.reproduction.runner import Ending, log_file

__all__ = ['RayPool']

_WAIT_SECONDS = 0.2
_POLL_SECONDS = 0.1
_RETRIES = 5  # of a run whose process or node dies
# A file server frees the locks of a dead node after a minute or two.
_LOCK_SECONDS = 150.0
_BEGUN = '--- begun on '  # the first line of each process in the log
# What changes the bits of a run is set as it is here; Ray sets the first one.
_VARIABLES = 'OMP_NUM_THREADS', 'TF_ENABLE_ONEDNN_OPTS', 'PYTHONPATH'


class RayPool:
  """A Pool of Ray tasks; see runner.Pool.

  Ray starts the tasks, runs those of dead processes and nodes again, and asks
  its autoscaler for nodes, so all of them are submitted at once.

  Attributes:
    size: the number of cores that the cluster had when it was joined.
  """

  def __init__(self, cluster: Cluster):
    """Prepares the pool.

    Args:
      cluster: the cluster that this process is connected to.
    """
    import ray

    self.size = max(1, cluster.cores)
    self._ray, self._stops = ray, 0
    self._task = ray.remote(
      num_cpus=1, max_retries=_RETRIES, retry_exceptions=[ChildProcessError]
    )(_run)
    # by reference to a task's result: the run and where its log begins
    self._running: dict[Any, tuple[PlannedRun, int]] = {}

  @property
  def busy(self) -> bool:
    """Whether runs are waiting or running."""
    return bool(self._running)

  def submit(self, run: PlannedRun, arguments: Sequence[str]) -> None:
    """See runner.Pool."""
    log = log_file(run)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, 'ab') as file:
      begin = file.tell()
    task = self._task.remote(
      tuple(arguments),
      os.getcwd(),
      run.directory.absolute(),
      log.absolute(),
      {name: os.environ.get(name) for name in _VARIABLES},
    )
    self._running[task] = run, begin

  def endings(self) -> list[Ending]:
    """See runner.Pool."""
    ready, _ = self._ray.wait([*self._running], timeout=_WAIT_SECONDS)
    # Ray ignores a cancel that soon follows another one. One that meets a task
    # as it ends may abort this process (a check in Ray 2.60's task_manager.cc).
    if self._stops > 1 and not ready:
      self._cancel()
    return [self._ending(task) for task in ready]

  def stop(self) -> None:
    """See runner.Pool; each call interrupts the tasks, see `_wait`."""
    self._stops += 1
    self._cancel()

  def _cancel(self) -> None:
    for task in self._running:
      self._ray.cancel(task)

  def _ending(self, task: Any) -> Ending:
    run, begin = self._running.pop(task)
    try:
      seconds, failure = self._ray.get(task)
    except ChildProcessError as error:  # raised by _run
      seconds, failure = 0.0, str(getattr(error, 'cause', error))
    except self._ray.exceptions.RayError as error:
      seconds, failure = 0.0, errors.quoted(error)
    processes = log_file(run).read_bytes()[begin:].count(_BEGUN.encode())
    return Ending(run, seconds, failure, processes)


def _run(
  arguments: Sequence[str],
  folder: str,
  directory: pathlib.Path,
  log: pathlib.Path,
  environment: Mapping[str, str | None],
) -> tuple[float, str]:
  """Runs a process on a node; see Ending for what it returns.

  Args:
    arguments: of Python.
    folder: working directory of the process.
    directory: directory of the run.
    log: file of its output; its folder exists where it is shared.
    environment: variables to set, or with None to remove.

  Raises:
    ChildProcessError: something killed the process, so Ray tries again.
  """
  for path in (folder, log.parent):
    if not os.path.isdir(path):
      return 0.0, (
        f'node {platform.node()} does not see {path}: all nodes have to mount '
        'the same file system there'
      )
  with _noted_stop() as stops:
    _await_lock(directory, stops)
    process = _start(arguments, folder, log, environment)
    _wait(process, stops)
    failure = process.failure()
  if process.poll() == -signal.SIGKILL and not stops:
    raise ChildProcessError(
      f'process killed on node {platform.node()}: see whether it has enough '
      'memory'
    )
  return process.seconds, failure


def _wait(process: LoggedProcess, stops: Sequence[int]) -> None:
  """Waits for a process, which the first stop ends and the second kills.

  Args:
    process: the process.
    stops: see `_noted_stop`.
  """
  asked = False
  while process.poll() is None:
    if len(stops) > 1:
      process.kill()
    elif stops and not asked:
      process.terminate()
      asked = True
    time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def _noted_stop() -> Iterator[list[int]]:
  """Notes Ray's cancel in a list, so that it interrupts nothing."""
  stops: list[int] = []
  before = signal.signal(signal.SIGINT, lambda number, _: stops.append(number))
  try:
    yield stops
  finally:
    signal.signal(signal.SIGINT, before)


def _start(
  arguments: Sequence[str],
  folder: str,
  log: pathlib.Path,
  environment: Mapping[str, str | None],
) -> LoggedProcess:
  with open(log, 'a') as file:
    file.write(f'{_BEGUN}{platform.node()}\n')
  variables = dict(os.environ)
  for name, value in environment.items():
    variables.pop(name, None)
    if value is not None:
      variables[name] = value
  return LoggedProcess(arguments, log, cwd=folder, env=variables)


def _await_lock(directory: pathlib.Path, stops: Sequence[int]) -> None:
  """Waits while another process holds a run; train says so if it goes on.

  Args:
    directory: of the run.
    stops: see `_noted_stop`.

  Raises:
    KeyboardInterrupt: a stop was noted.
  """
  try:
    lock = open(directory / 'run.lock')
  except FileNotFoundError:
    return
  end = time.monotonic() + _LOCK_SECONDS
  with lock:
    while time.monotonic() < end:
      if stops:
        raise KeyboardInterrupt
      try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return
      except BlockingIOError:
        time.sleep(_POLL_SECONDS)
