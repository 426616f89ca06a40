"""The processes that play an Atari game, and how their crashes are handled.

They are started as separate commands, not by `multiprocessing`, whose children
import the program that was started (and with it TensorFlow).
"""

import collections
import math
import signal
import subprocess
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from trpo_tf import children
from trpo_tf.errors import UserError
from trpo_tf.sampling.atari import messages, watchdog
from trpo_tf.sampling.atari.jobs import WorkerConfig

__all__ = ['Pool']

_MODULE = 'trpo_tf.sampling.atari.worker'
_PATIENCE = 10.0  # seconds in which a process must end once disconnected
_MAX_DEATHS = 2  # crashes tolerated in a batch, besides one per worker
_MAX_JOBS = 4  # jobs queued at one worker, which wait for the first of them


class _WorkerDied(Exception):
  """A worker process has ended; names the worker and the cause."""

  def __init__(self, worker: '_Worker', cause: str):
    super().__init__(f'worker process {worker.process.pid} {cause}')
    self.worker = worker


class _Worker:
  """One worker process.

  Attributes:
    connection: connection to the process.
    process: the process.
  """

  def __init__(self, config: WorkerConfig):
    self.connection, theirs = Pipe()
    with theirs:
      self.process = subprocess.Popen(
        children.command('-m', _MODULE, str(theirs.fileno())),
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        process_group=0,  # so that Ctrl-C stops the program alone
        env=children.environment(OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1'),
      )
    self._given_up = False
    # the process is ended when this object is deleted or the program exits
    self.close = weakref.finalize(self, _end, self.connection, self.process)
    self.send(config)

  @property
  def process_id(self) -> int:
    """The process's id."""
    return self.process.pid

  def give_up(self) -> None:
    """Kills the process, which somebody stopped."""
    self._given_up = True
    self.process.kill()

  def send(self, message: Any) -> None:
    """Sends a message; raises _WorkerDied."""
    try:
      self.connection.send(message)
    except OSError as error:
      raise self._death() from error

  def receive(self) -> Any:
    """Returns the next answer; raises _WorkerDied."""
    try:
      return messages.receive(self.connection)
    except (EOFError, OSError) as error:  # ended between or within messages
      raise self._death() from error

  def _death(self) -> _WorkerDied:
    code = self.process.wait(_PATIENCE)
    if self._given_up:
      cause = 'was stopped by a signal, did not go on and was killed'
    elif code < 0:
      cause = f'was killed by {signal.Signals(-code).name}'
    else:
      cause = f'exited with code {code}'
    return _WorkerDied(self, cause)


def _end(connection: Connection, process: subprocess.Popen) -> None:
  connection.close()  # which ends the process, unless it hangs
  try:
    process.wait(_PATIENCE)
  except subprocess.TimeoutExpired:
    process.kill()
    process.wait()


class _JobQueue:
  """The jobs of a batch: those that wait, those in progress and their results.

  Attributes:
    doing: (number, job) of the jobs given to each worker, in order.
    results: results by number of the job.
  """

  def __init__(
    self,
    workers: Sequence[_Worker],
    name: str,
    theta: np.ndarray,
    jobs: Sequence[Any],
  ):
    self._idle, self._num_workers = [*workers], len(workers)
    self._name, self._theta = name, theta
    self._waiting = collections.deque(enumerate(jobs))
    self._informed = set[_Worker]()
    self.doing = dict[_Worker, collections.deque[tuple[int, Any]]]()
    self.results = dict[int, Any]()

  def step(self) -> None:
    """Hands out jobs and waits for a result; raises _WorkerDied."""
    while self._idle and self._waiting:
      self._give(self._idle.pop())
    ready = wait([worker.connection for worker in self.doing])
    worker = next(w for w in self.doing if w.connection in ready)
    answer = worker.receive()
    if isinstance(answer, Exception):
      raise answer
    self.results[self.doing[worker].popleft()[0]] = answer
    if not self.doing[worker]:
      del self.doing[worker]
      self._idle.append(worker)

  def _give(self, worker: _Worker) -> None:
    """Gives a worker several jobs, so that it need not wait between them."""
    share = math.ceil(len(self._waiting) / (2 * self._num_workers))
    jobs = [self._waiting.popleft() for _ in range(min(share, _MAX_JOBS))]
    self.doing[worker] = collections.deque(jobs)
    if worker not in self._informed:
      worker.send(('set_parameters', [self._theta]))
      self._informed.add(worker)
    worker.send((self._name, [job for _, job in jobs]))

  def replace(self, dead: _Worker, fresh: _Worker) -> Any:
    """Queues a dead worker's jobs again; returns the one that it died with."""
    undone = self.doing.pop(dead)
    self._waiting.extendleft(reversed(undone))
    self._idle.append(fresh)
    return undone[0][1]


class Pool:
  """Processes that do jobs; if one dies, a new process repeats its jobs."""

  def __init__(self, config: WorkerConfig, num_workers: int):
    """Starts the workers.

    Args:
      config: the game and the policy's shape.
      num_workers: number of processes; results do not depend on it.
    """
    self._config = config
    self._workers = [_Worker(config) for _ in range(num_workers)]
    this = weakref.ref(self)  # so that the watch does not keep the pool

    def workers() -> list[_Worker]:
      pool = this()
      return [*pool._workers] if pool else []

    self._end_watch = weakref.finalize(self, watchdog.watch(workers))

  @property
  def process_ids(self) -> list[int]:
    """Process ids of the workers."""
    return [worker.process_id for worker in self._workers]

  def close(self) -> None:
    """Ends the workers."""
    self._end_watch()
    for worker in self._workers:
      worker.close()
    self._workers = []

  def run(
    self, name: str, theta: np.ndarray, jobs: Sequence[Any], deaths: list[str]
  ) -> Iterator[Any]:
    """Runs jobs.

    Args:
      name: name of the method of Player that does a job.
      theta: float32 [P], the policy.
      jobs: arguments of the method.
      deaths: list to which the causes of worker crashes are appended.

    Yields:
      The results, in the order of the jobs.

    Raises:
      UserError: a state is of another game or version of ale_py; or workers
        died repeatedly, with the causes.
    """
    batch = _JobQueue(self._workers, name, theta, jobs)
    try:
      for index in range(len(jobs)):
        while index not in batch.results:
          try:
            batch.step()
          except _WorkerDied as death:
            job = batch.replace(death.worker, self._replace(death.worker))
            deaths.append(f'{death}, with {job}')
            if len(deaths) >= len(self._workers) + _MAX_DEATHS:
              raise UserError(self._given_up(deaths)) from death
        yield batch.results.pop(index)
    finally:  # stops work whose results are no longer wanted
      for worker in batch.doing:
        self._replace(worker)

  def _given_up(self, deaths: Sequence[str]) -> str:
    return (
      f'--task=atari/{self._config.game.name}: {"; ".join(deaths)}: given up. '
      'If memory was short, take a smaller --sampler_threads; the same command '
      'continues'
    )

  def _replace(self, worker: _Worker) -> _Worker:
    """Ends a worker and starts a new one in its place."""
    worker.close()
    fresh = _Worker(self._config)
    self._workers[self._workers.index(worker)] = fresh
    return fresh
