"""The processes that run the emulators, and what they share with the sampler.

They are started as commands of their own, not by `multiprocessing`, whose
children import the program that was started (and with it TensorFlow).
"""

import mmap
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import numpy as np

from trpo_tf.sampling.atari_worker import Orders, shared_arrays, shared_size
from trpo_tf.sampling.batch import End
from trpo_tf.tasks.atari import Game

__all__ = ['Pool', 'WorkerDied']

_MODULE = 'trpo_tf.sampling.atari_worker'
_PATIENCE = 10.0  # seconds for a process that has hung up to be gone
_MOST_DEATHS = 3  # of workers in one batch

_T = TypeVar('_T')


class WorkerDied(Exception):
  """A worker is gone; says which and why."""


class _Worker:
  """One process: its connection and its cause of death."""

  def __init__(self, orders: Orders, memory: int):
    self.slots = sorted(sum(orders.groups, []))
    self._connection, theirs = Pipe()
    with theirs:
      self.process = subprocess.Popen(
        [sys.executable, '-m', _MODULE, str(theirs.fileno()), str(memory)],
        pass_fds=(theirs.fileno(), memory),
        stdin=subprocess.DEVNULL,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path),
                 OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1'),
      )
    # without its worker a sampler is nothing, and the other way round
    self.close = weakref.finalize(self, _end, self._connection, self.process)
    self.send(orders)

  def send(self, message: Any) -> None:
    """Raises WorkerDied."""
    try:
      self._connection.send(message)
    except ConnectionError as error:
      raise self._death() from error

  def receive(self) -> Any:
    """The next answer; raises WorkerDied."""
    try:
      return self._connection.recv()
    except (EOFError, ConnectionError) as error:
      raise self._death() from error

  def _death(self) -> WorkerDied:
    code = self.process.wait(_PATIENCE)
    cause = (f'was killed by {signal.Signals(-code).name}' if code < 0
             else f'exited with code {code}')
    return WorkerDied(
      f'worker process {self.process.pid}, with slots '
      f'{", ".join(map(str, self.slots))}, {cause}'
    )


def _end(connection: Connection, process: subprocess.Popen) -> None:
  connection.close()  # which ends the process, unless it hangs
  try:
    process.wait(_PATIENCE)
  except subprocess.TimeoutExpired:
    process.kill()
    process.wait()


class Pool:
  """The emulators of all slots, each at the start of its first episode.

  Attributes:
    groups: the slots that are stepped together.
    shared: the arrays of `shared_arrays`; a group's belong to the workers
      while they step it.
  """

  def __init__(self, game: Game, seed: int, num_slots: int, num_workers: int):
    """Starts the workers.

    Args:
      game: what is played.
      seed: the run's.
      num_slots: S.
      num_workers: processes; the results do not depend on it.

    Raises:
      WorkerDied: one did not come to its first episode.
    """
    self._game, self._seed, self._num_slots = game, seed, num_slots
    self._num_workers = min(num_workers, num_slots)
    half = -(-num_slots // 2)
    self.groups = [slice(0, half), slice(half, num_slots)][:num_slots]
    size = shared_size(game, num_slots)
    self._descriptor = os.memfd_create('trpo_tf_atari')
    weakref.finalize(self, os.close, self._descriptor)
    os.ftruncate(self._descriptor, size)
    memory = mmap.mmap(self._descriptor, size)
    self.shared = shared_arrays(memory, game, num_slots)
    self._workers: list[_Worker] = []
    self.restart()

  @property
  def process_ids(self) -> list[int]:
    """Of the workers."""
    return [worker.process.pid for worker in self._workers]

  def restart(self) -> None:
    """Ends the workers, if there are any, and starts fresh ones.

    Raises:
      WorkerDied: one did not come to its first episode.
    """
    self.close()
    # the second group backwards: what is left over when a group is divided
    # goes to other workers than in the first
    parts = [
      np.array_split(np.r_[group], self._num_workers)[:: 1 - 2 * g]
      for g, group in enumerate(self.groups)
    ]
    self._workers = [
      _Worker(
        Orders(self._game, self._seed, self._num_slots,
               [part[w].tolist() for part in parts]),
        self._descriptor,
      )
      for w in range(self._num_workers)
    ]
    self._receive()

  def close(self) -> None:
    """Ends the workers."""
    for worker in self._workers:
      worker.close()
    self._workers = []

  def step(self, group: int, saved: Sequence[int] = ()) -> None:
    """Has the slots of a group stepped by their codes.

    Args:
      group: which.
      saved: slots; `alternate` gives the states before the step of those of
        them that are in the group.

    Raises:
      WorkerDied: a worker did.
    """
    for worker in self._workers:
      worker.send(('step', group, list(saved)))

  def branch(self, group: int, starts: dict[int, bytes]) -> None:
    """Has the slots of a group stepped, in branches.

    Args:
      group: which.
      starts: states, by slot, of the branches that begin; of the group.

    Raises:
      WorkerDied: a worker did.
    """
    for worker in self._workers:
      own = {s: starts[s] for s in worker.slots if s in starts}
      worker.send(('branch', group, own))

  def alternate(self, act: Callable[[int], bool],
                finish: Callable[[int, dict[int, bytes]], None]) -> None:
    """Steps the groups in turn, one while the policy acts for the other.

    Args:
      act: has a group stepped, or returns False: it is not to be any more.
      finish: takes what a step of a group gave: the arrays in `shared` and the
        states that were to be saved, by slot.

    Raises:
      WorkerDied: a worker did.
      UserError: a branch's state is of another game or version of ale_py.
    """
    stepped = [group for group in range(len(self.groups)) if act(group)]
    while stepped:
      going_on = []
      for group in stepped:
        states: dict[int, bytes] = {}
        for part in self._receive():  # of the group that was stepped first
          states |= part
        finish(group, states)
        if act(group):
          going_on.append(group)
      stepped = going_on

  def _receive(self) -> list[Any]:
    """The next answer of every worker; raises what one of them raised."""
    answers = [worker.receive() for worker in self._workers]
    for answer in answers:
      if isinstance(answer, Exception):
        raise answer
    return answers

  def outcomes(self, group: int) -> tuple[np.ndarray, np.ndarray]:
    """What a step of a group is to be learned from, by the game's settings.

    Args:
      group: which.

    Returns:
      Rewards, float64 [n], raw or their signs, and bits of End, uint8 [n], of
      the game or, TERMINATED, of a life.
    """
    slots, config = self.groups[group], self._game.config
    rewards, ends = self.shared['rewards'][slots], self.shared['ends'][slots]
    ends = ends.copy()
    if config.life_loss_ends_return:
      ends[self.shared['lives_lost'][slots]] |= int(End.TERMINATED)
    return np.sign(rewards) if config.clip_rewards else rewards.copy(), ends

  def persist(self, work: Callable[[], _T],
              recover: Callable[[], None]) -> tuple[_T, tuple[str, ...]]:
    """Does work, and does it anew with fresh workers when one has died.

    Args:
      work: what is done; may raise WorkerDied.
      recover: brings fresh workers to where the work begins.

    Returns:
      What the work gave, and the causes of the deaths.

    Raises:
      RuntimeError: workers died again and again; with the causes.
    """
    deaths: list[str] = []
    while True:
      try:
        if deaths:
          self.restart()
          recover()
        return work(), tuple(deaths)
      except WorkerDied as death:
        deaths.append(str(death))
        if len(deaths) == _MOST_DEATHS:
          raise RuntimeError(
            f'--task=atari/{self._game.name}: {"; ".join(deaths)}'
          ) from death

  def save(self) -> list[bytes]:
    """The states of all slots; raises WorkerDied."""
    states = [b''] * self._num_slots
    for worker in self._workers:
      worker.send(('save',))
    for worker, answer in zip(self._workers, self._receive(), strict=True):
      for s, state in zip(worker.slots, answer, strict=True):
        states[s] = state
    return states

  def load(self, states: Sequence[bytes]) -> None:
    """Restores what `save` returned.

    Raises:
      WorkerDied: a worker did.
      UserError: the states are of another game or version of ale_py.
    """
    for worker in self._workers:
      worker.send(('load', [states[s] for s in worker.slots]))
    self._receive()
