"""The processes that play an Atari game, and how their crashes are handled.

They are started as commands of their own, not by `multiprocessing`, whose
children import the program that was started (and with it TensorFlow).
"""

import collections
import math
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from trpo_tf.errors import UserError
from trpo_tf.sampling.atari import messages
from trpo_tf.sampling.atari.jobs import WorkerConfig

__all__ = ['Pool']

_MODULE = 'trpo_tf.sampling.atari.worker'
_PATIENCE = 10.0  # seconds for a process that has hung up to be gone
_MAX_DEATHS = 2  # in one batch, beside one of each worker
_MAX_JOBS = 4  # that a worker has before it: more are held up by the first


class _WorkerDied(Exception):
  """A worker is gone; says which and why."""

  def __init__(self, worker: '_Worker', cause: str):
    super().__init__(f'worker process {worker.process.pid} {cause}')
    self.worker = worker


class _Worker:
  """One process: its connection and its cause of death.

  Attributes:
    connection: to it.
    process: it.
  """

  def __init__(self, config: WorkerConfig):
    self.connection, theirs = Pipe()
    with theirs:
      self.process = subprocess.Popen(
        [sys.executable, '-m', _MODULE, str(theirs.fileno())],
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        env=dict(
          os.environ,
          PYTHONPATH=os.pathsep.join(sys.path),
          OMP_NUM_THREADS='1',
          OPENBLAS_NUM_THREADS='1',
        ),
      )
    # without its worker a sampler is nothing, and the other way round
    self.close = weakref.finalize(self, _end, self.connection, self.process)
    self.send(config)

  def send(self, message: Any) -> None:
    """Raises _WorkerDied."""
    try:
      self.connection.send(message)
    except OSError as error:
      raise self._death() from error

  def receive(self) -> Any:
    """The next answer; raises _WorkerDied."""
    try:
      return messages.receive(self.connection)
    except (EOFError, OSError) as error:  # between messages, within one
      raise self._death() from error

  def _death(self) -> _WorkerDied:
    code = self.process.wait(_PATIENCE)
    cause = (
      f'was killed by {signal.Signals(-code).name}'
      if code < 0
      else f'exited with code {code}'
    )
    return _WorkerDied(self, cause)


def _end(connection: Connection, process: subprocess.Popen) -> None:
  connection.close()  # which ends the process, unless it hangs
  try:
    process.wait(_PATIENCE)
  except subprocess.TimeoutExpired:
    process.kill()
    process.wait()


class _JobQueue:
  """The jobs of a batch: those that wait, who does which, what came of them.

  Attributes:
    doing: numbers and jobs that a worker has before it, in order.
    results: of jobs, by number.
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
    """Gives out jobs and waits for a result; raises _WorkerDied."""
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
    """Jobs of a dead worker wait again; returns the one that it died with."""
    undone = self.doing.pop(dead)
    self._waiting.extendleft(reversed(undone))
    self._idle.append(fresh)
    return undone[0][1]


class Pool:
  """Processes that do jobs; a dead one's job is done anew by a fresh one."""

  def __init__(self, config: WorkerConfig, num_workers: int):
    """Starts the workers.

    Args:
      config: the game and the policy's shape.
      num_workers: processes; the results do not depend on it.
    """
    self._config = config
    self._workers = [_Worker(config) for _ in range(num_workers)]

  @property
  def process_ids(self) -> list[int]:
    """Of the workers."""
    return [worker.process.pid for worker in self._workers]

  def close(self) -> None:
    """Ends the workers."""
    for worker in self._workers:
      worker.close()
    self._workers = []

  def run(
    self, name: str, theta: np.ndarray, jobs: Sequence[Any], deaths: list[str]
  ) -> Iterator[Any]:
    """Does jobs.

    Args:
      name: of the method of Player that does one.
      theta: float32 [P], the policy.
      jobs: what is to be done.
      deaths: gets the causes of the deaths of workers.

    Yields:
      The results, in the order of the jobs.

    Raises:
      UserError: a state is of another game or version of ale_py; or workers
        died again and again, with the causes.
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
    finally:  # nobody waits for what is still being done
      for worker in batch.doing:
        self._replace(worker)

  def _given_up(self, deaths: Sequence[str]) -> str:
    return (
      f'--task=atari/{self._config.game.name}: {"; ".join(deaths)}: given up. '
      'If memory was short, take a smaller --sampler_threads; the same command '
      'continues'
    )

  def _replace(self, worker: _Worker) -> _Worker:
    """Ends a worker and starts another one."""
    worker.close()
    fresh = _Worker(self._config)
    self._workers[self._workers.index(worker)] = fresh
    return fresh
