"""The jobs of the processes that play an Atari game, and their results.

The result of a job depends only on its fields and on theta, not on which
process does it or how often.
"""

from typing import NamedTuple

import numpy as np

from trpo_tf.sampling.batch import Path
from trpo_tf.tasks.atari import Game

__all__ = [
  'BranchJob',
  'BranchPath',
  'PathJob',
  'PathResult',
  'SlotState',
  'StateBranches',
  'WorkerConfig',
]


class WorkerConfig(NamedTuple):
  """What a process receives at its start.

  Attributes:
    game: the game.
    seed: seed of the run.
    filters: numbers of filters of the policy's convolutions.
    hidden_sizes: numbers of units of its hidden layers.
    activation: number of its activation.
  """

  game: Game
  seed: int
  filters: tuple[int, ...]
  hidden_sizes: tuple[int, ...]
  activation: int


class SlotState(NamedTuple):
  """The state of a slot between two batches.

  Attributes:
    emulator: packed state of its emulator; empty before the first episode.
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
    slot: number of the slot.
    start: state of the slot.
    iteration: key of the noise.
    num_steps: minimum number of env steps.
    whole_episodes: whether to continue to the end of a game.
    deterministic: whether to act by the likeliest choices.
    saved: steps before which the emulator's state is saved.
    keeps_frames: whether the result has frames; without them, all its
      observations are row 0.
    first_limit: env steps after which the slot's first episode is truncated.
  """

  slot: int
  start: SlotState
  iteration: int
  num_steps: int
  whole_episodes: bool
  deterministic: bool
  saved: frozenset[int]
  keeps_frames: bool
  first_limit: int

  def __str__(self) -> str:
    return f'slot {self.slot}'


class PathResult(NamedTuple):
  """The result of a PathJob.

  Attributes:
    path: the steps. Observations are rows int32 [..., 4] of frames; row 0 is
      black, row i is frames[i - 1].
    frames: uint8 [F, H, W], each once, in order.
    states: the emulator's state before each step of PathJob.saved.
    end: state of the slot after the last step.
  """

  path: Path
  frames: np.ndarray
  states: dict[int, bytes]
  end: SlotState


class BranchJob(NamedTuple):
  """The branches from a state.

  Attributes:
    state: state of the emulator, including its generator.
    stack: uint8 [H, W, 4], the observation.
    first_actions: int32 [K, factors].
    noise: float64 [M, L, factors]; row m belongs to all K branches, and its
      first entry is not used.
    gamma: discount per env step.
    time_limit: whether the game's time limit ends a branch.
    keeps_steps: whether the result has the steps.
  """

  state: bytes
  stack: np.ndarray
  first_actions: np.ndarray
  noise: np.ndarray
  gamma: float
  time_limit: bool
  keeps_steps: bool

  def __str__(self) -> str:
    return 'branches of a state'


class BranchPath(NamedTuple):
  """The n env steps of a branch; those after the first are the policy's.

  Attributes:
    frames: uint8 [F, H, W], those of the state's observation first.
    observations: int32 [n - 1, 4], before each step after the first. Row i is
      frames[i - 1].
    outputs: float32 [n - 1, M], of the policy.
    actions: int32 [n - 1, factors].
    rewards: float64 [n], raw or their signs.
  """

  frames: np.ndarray
  observations: np.ndarray
  outputs: np.ndarray
  actions: np.ndarray
  rewards: np.ndarray


class StateBranches(NamedTuple):
  """The results of the branches from a state.

  Attributes:
    returns: float64 [K, M], discounted.
    lengths: int32 [K, M], env steps.
    ends: uint8 [K, M], bits of End.
    finals: the newest frames, uint8 [n, H, W] with n up to 4, of each branch
      (k, m) that did not terminate.
    paths: the steps of each branch (k, m), if the job keeps them.
  """

  returns: np.ndarray
  lengths: np.ndarray
  ends: np.ndarray
  finals: dict[tuple[int, int], np.ndarray]
  paths: dict[tuple[int, int], BranchPath]
