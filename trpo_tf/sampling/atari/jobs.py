"""What the processes that play an Atari game are asked for, and give.

A job is a function of what is in it and of theta alone: whichever process does
it, and however often, the result is the same.
"""

from typing import NamedTuple

import numpy as np

from trpo_tf.sampling.batch import Path
from trpo_tf.tasks.atari import Game

__all__ = [
  'BranchJob',
  'PathJob',
  'PathResult',
  'SlotState',
  'StateBranches',
  'WorkerConfig',
]


class WorkerConfig(NamedTuple):
  """What a process is told at its start.

  Attributes:
    game: what is played.
    seed: the run's.
    filters: of the policy's convolutions.
    hidden_sizes: its units.
    activation: number of its activation.
  """

  game: Game
  seed: int
  filters: tuple[int, ...]
  hidden_sizes: tuple[int, ...]
  activation: int


class SlotState(NamedTuple):
  """Where a slot stands between two batches.

  Attributes:
    emulator: its state; empty before the first episode.
    stack: uint8 [H, W, 4], the observation.
    timestep: env steps of the running episode.
    episode_return: raw, of the running episode.
  """

  emulator: bytes
  stack: np.ndarray
  timestep: int
  episode_return: float


class PathJob(NamedTuple):
  """The env steps of a slot in a batch.

  Attributes:
    slot: its number.
    start: where it stands.
    iteration: key of the noise.
    num_steps: env steps, at least.
    whole_episodes: go on to the end of a game.
    deterministic: act by the likeliest choices.
    saved: steps before which the emulator's state is wanted.
  """

  slot: int
  start: SlotState
  iteration: int
  num_steps: int
  whole_episodes: bool
  deterministic: bool
  saved: frozenset[int]

  def __str__(self) -> str:
    return f'slot {self.slot}'


class PathResult(NamedTuple):
  """What a slot did.

  Attributes:
    path: its steps. Observations are rows int32 [..., 4] of frames; row 0 is
      black, row i is frames[i - 1].
    frames: uint8 [F, H, W], each once, in order.
    states: the emulator's state before each step of PathJob.saved.
    end: where the slot stands after the last step.
  """

  path: Path
  frames: np.ndarray
  states: dict[int, bytes]
  end: SlotState


class BranchJob(NamedTuple):
  """The branches from a state.

  Attributes:
    state: of the emulator, its generator included.
    stack: uint8 [H, W, 4], the observation.
    first_actions: int32 [K, factors].
    noise: float64 [M, L, factors]; row m belongs to all K branches, and its
      first entry is not used.
    gamma: discount per env step.
    time_limit: whether the game's time limit ends a branch.
  """

  state: bytes
  stack: np.ndarray
  first_actions: np.ndarray
  noise: np.ndarray
  gamma: float
  time_limit: bool

  def __str__(self) -> str:
    return 'branches of a state'


class StateBranches(NamedTuple):
  """What the branches from a state earned.

  Attributes:
    returns: float64 [K, M], discounted.
    lengths: int32 [K, M], env steps.
    ends: uint8 [K, M], bits of End.
    finals: the newest frames, uint8 [n, H, W] with n up to 4, that a branch
      that did not terminate has seen; by its k and m.
  """

  returns: np.ndarray
  lengths: np.ndarray
  ends: np.ndarray
  finals: dict[tuple[int, int], np.ndarray]
