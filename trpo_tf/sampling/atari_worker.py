"""A process that runs emulators: python -m trpo_tf.sampling.atari_worker.

The emulator's Python binding holds the interpreter's lock while it emulates,
so threads would gain nothing. The process is started by `atari_pool`, never
forked, and imports neither TensorFlow nor MuJoCo.
"""

import dataclasses
import mmap
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from trpo_tf.sampling.atari_slot import AtariSlot, Starts
from trpo_tf.tasks.atari import Game

__all__ = ['IDLE', 'Orders', 'shared_arrays', 'shared_size']

IDLE = -1  # action of a slot that is not to be stepped


@dataclasses.dataclass(frozen=True)
class Orders:
  """What a worker is told at its start.

  Attributes:
    game: what is played.
    seed: the run's.
    num_slots: of all workers.
    groups: its slots in each group of slots that is stepped together.
  """

  game: Game
  seed: int
  num_slots: int
  groups: list[list[int]]


def _layout(game: Game, num_slots: int) -> dict[str, tuple[tuple, Any]]:
  S = num_slots
  return dict(
    rewards=((S,), np.float64),
    codes=((S,), np.int32),
    frames=((S, *game.frame_shape), np.uint8),
    final_frames=((S, *game.frame_shape), np.uint8),
    ends=((S,), np.uint8),
    lives_lost=((S,), np.bool_),
  )


def shared_size(game: Game, num_slots: int) -> int:
  """Bytes of the memory that workers and sampler share."""
  return sum(int(np.prod(shape)) * np.dtype(dtype).itemsize
             for shape, dtype in _layout(game, num_slots).values())


def shared_arrays(memory: mmap.mmap, game: Game,
                  num_slots: int) -> dict[str, np.ndarray]:
  """The arrays in the shared memory, by slot.

  Returns:
    codes: int32 [S], ALE's action of the step, or IDLE.
    frames: uint8 [S, H, W], after it; the next episode's first, if one ended.
      Of a branch that was truncated, the last one.
    final_frames: uint8 [S, H, W], the last one of a truncated episode.
    rewards: float64 [S], raw.
    ends: uint8 [S], bits of End of the game.
    lives_lost: bool [S].
  """
  arrays, offset = {}, 0
  for name, (shape, dtype) in _layout(game, num_slots).items():
    arrays[name] = np.ndarray(shape, dtype, memory, offset)
    offset += arrays[name].nbytes
  return arrays


class _Worker:
  """The emulators of one process."""

  def __init__(self, orders: Orders, memory: mmap.mmap):
    self._shared = shared_arrays(memory, orders.game, orders.num_slots)
    self._groups = orders.groups
    starts = Starts(orders.game)
    self._slots = {
      s: AtariSlot(orders.game, starts, orders.seed, s)
      for s in sorted(sum(orders.groups, []))
    }
    for s, slot in self._slots.items():
      slot.begin(self._shared['frames'][s])

  def step(self, group: int, saved: list[int]) -> dict[int, bytes]:
    """Steps the slots of a group by their actions.

    Args:
      group: which.
      saved: slots; the others of the group are of no interest.

    Returns:
      The states before the step of those of the slots that are in the group.
    """
    states = {
      s: self._slots[s].save() for s in self._groups[group] if s in saved
    }
    for s in self._groups[group]:
      if self._step_slot(s):
        frame = self._shared['frames'][s]
        self._shared['final_frames'][s] = frame
        self._slots[s].begin(frame)
    return states

  def branch(self, group: int, starts: dict[int, bytes]) -> dict[int, bytes]:
    """Steps the slots of a group, of which some begin a branch from a state.

    Nothing follows the end of an episode.
    """
    for s, state in starts.items():
      self._slots[s].load(state)
    for s in self._groups[group]:
      self._step_slot(s)
    return {}

  def _step_slot(self, s: int) -> int:
    """Steps a slot, unless it is idle; returns bits of End."""
    shared = self._shared
    if shared['codes'][s] == IDLE:
      return 0
    reward, ends, life_lost = self._slots[s].step(
      int(shared['codes'][s]), shared['frames'][s]
    )
    shared['rewards'][s] = reward
    shared['ends'][s], shared['lives_lost'][s] = ends, life_lost
    return ends

  def save(self) -> list[bytes]:
    """The states of the slots, in order."""
    return [slot.save() for slot in self._slots.values()]

  def load(self, states: list[bytes]) -> None:
    """Restores what `save` returned."""
    for slot, state in zip(self._slots.values(), states, strict=True):
      slot.load(state)


def main() -> None:
  """Obeys the sampler until it is gone."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sampler's to handle
  connection, descriptor = Connection(int(sys.argv[1])), int(sys.argv[2])
  try:
    worker = _Worker(connection.recv(), mmap.mmap(descriptor, 0))
    connection.send(None)  # all slots have begun
    while True:
      name, *arguments = connection.recv()
      try:
        connection.send(getattr(worker, name)(*arguments))
      except ValueError as error:  # a state that cannot be loaded
        connection.send(error)
  except (EOFError, ConnectionError):
    pass


if __name__ == '__main__':
  main()
