"""The processes that play an Atari game, and what becomes of their deaths.

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

from trpo_tf.sampling.atari_jobs import Orders

__all__ = ['Pool']

_MODULE = 'trpo_tf.sampling.atari_worker'
_PATIENCE = 10.0  # seconds for a process that has hung up to be gone
_MOST_DEATHS = 3  # of workers in one batch
_MOST_JOBS = 4  # that a worker has before it: more are held up by the first


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

  def __init__(self, orders: Orders):
    self.connection, theirs = Pipe()
    with theirs:
      self.process = subprocess.Popen(
        [sys.executable, '-m', _MODULE, str(theirs.fileno())],
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path),
                 OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1'),
      )
    # without its worker a sampler is nothing, and the other way round
    self.close = weakref.finalize(self, _end, self.connection, self.process)
    self.send(orders)

  def send(self, message: Any) -> None:
    """Raises _WorkerDied."""
    try:
      self.connection.send(message)
    except ConnectionError as error:
      raise self._death() from error

  def receive(self) -> Any:
    """The next answer; raises _WorkerDied."""
    try:
      return self.connection.recv()
    except (EOFError, ConnectionError) as error:
      raise self._death() from error

  def _death(self) -> _WorkerDied:
    code = self.process.wait(_PATIENCE)
    cause = (f'was killed by {signal.Signals(-code).name}' if code < 0
             else f'exited with code {code}')
    return _WorkerDied(self, cause)


def _end(connection: Connection, process: subprocess.Popen) -> None:
  connection.close()  # which ends the process, unless it hangs
  try:
    process.wait(_PATIENCE)
  except subprocess.TimeoutExpired:
    process.kill()
    process.wait()


class Pool:
  """Processes that do jobs; a dead one's job is done anew by a fresh one."""

  def __init__(self, orders: Orders, num_workers: int):
    """Starts the workers.

    Args:
      orders: the game and the policy's shape.
      num_workers: processes; the results do not depend on it.
    """
    self._orders = orders
    self._workers = [_Worker(orders) for _ in range(num_workers)]

  @property
  def process_ids(self) -> list[int]:
    """Of the workers."""
    return [worker.process.pid for worker in self._workers]

  def close(self) -> None:
    """Ends the workers."""
    for worker in self._workers:
      worker.close()
    self._workers = []

  def run(self, name: str, theta: np.ndarray, jobs: Sequence[Any],
          deaths: list[str]) -> Iterator[Any]:
    """Does jobs.

    Args:
      name: of the method of Player that does one.
      theta: float32 [P], the policy.
      jobs: what is to be done.
      deaths: gets the causes of the deaths of workers.

    Yields:
      The results, in the order of the jobs.

    Raises:
      RuntimeError: workers died again and again; with the causes.
      UserError: a state is of another game or version of ale_py.
    """
    waiting = collections.deque(enumerate(jobs))
    idle = [*self._workers]
    doing = dict[_Worker, collections.deque[tuple[int, Any]]]()
    informed, results = set[_Worker](), dict[int, Any]()

    def give() -> None:
      """Gives out jobs, several at once so that a worker need not wait."""
      while idle and waiting:
        worker = idle.pop()
        share = math.ceil(len(waiting) / (2 * len(self._workers)))
        mine = [waiting.popleft() for _ in range(min(share, _MOST_JOBS))]
        doing[worker] = collections.deque(mine)
        if worker not in informed:
          worker.send(('set_parameters', [theta]))
          informed.add(worker)
        worker.send((name, [job for _, job in mine]))

    def step() -> None:
      """Gives out jobs and waits for a result."""
      give()
      ready = wait([worker.connection for worker in doing])
      worker = next(w for w in doing if w.connection in ready)
      answer = worker.receive()
      if isinstance(answer, Exception):
        raise answer
      results[doing[worker].popleft()[0]] = answer
      if not doing[worker]:
        del doing[worker]
        idle.append(worker)

    try:
      for index in range(len(jobs)):
        while index not in results:
          try:
            step()
          except _WorkerDied as death:
            undone = doing.pop(death.worker)
            deaths.append(f'{death}, with {undone[0][1]}')
            idle.append(self._replace(death.worker))
            waiting.extendleft(reversed(undone))
            if len(deaths) == _MOST_DEATHS:
              game = self._orders.game.name
              raise RuntimeError(
                f'--task=atari/{game}: {"; ".join(deaths)}'
              ) from death
        yield results.pop(index)
    finally:  # nobody waits for what is still being done
      for worker in doing:
        self._replace(worker)

  def _replace(self, worker: _Worker) -> _Worker:
    """Ends a worker and starts another one."""
    worker.close()
    fresh = _Worker(self._orders)
    self._workers[self._workers.index(worker)] = fresh
    return fresh
