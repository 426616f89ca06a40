"""Branches of an Atari game from states of its emulators (section 5.2).

The slots' emulators run them in two groups, as in single-path sampling: each
slot goes from branch to branch. A branch is a function of its state, which
holds the emulator's generator, its first action, noise and policy alone: it
does not matter which slot runs it.
"""

from typing import NamedTuple

import numpy as np

from trpo_tf.sampling.atari_frames import FrameStore
from trpo_tf.sampling.atari_pool import Pool
from trpo_tf.sampling.atari_stacks import PixelStacks, PolicyOutputs
from trpo_tf.sampling.atari_worker import IDLE
from trpo_tf.sampling.batch import End
from trpo_tf.sampling.numpy_policy import CategoricalActor
from trpo_tf.tasks.atari import STACK, Game

__all__ = ['BranchInputs', 'BranchRecords', 'BranchRun']


class BranchInputs(NamedTuple):
  """What N x K x M branches are a function of.

  Attributes:
    theta: float32 [P], the policy.
    states: N, of emulators.
    frames: uint8 [F, H, W].
    rows: int32 [N, 4], the observations in these states, rows of `frames`.
    first_actions: int32 [N, K, factors].
    noise: float64 [N, M, L, factors]; row [n, m] belongs to all K branches of
      state n, and its first entry is not used.
    gamma: discount per env step.
    time_limit: whether the game's time limit ends a branch.
  """

  theta: np.ndarray
  states: list[bytes]
  frames: np.ndarray
  rows: np.ndarray
  first_actions: np.ndarray
  noise: np.ndarray
  gamma: float
  time_limit: bool


class BranchRecords:
  """What the branches earned; [N, K, M] fields of AtariVineBatch.

  Attributes:
    lengths: int32 [N, K, M], env steps so far.
  """

  def __init__(self, inputs: BranchInputs):
    self._inputs = inputs
    branches = (*inputs.first_actions.shape[:2], inputs.noise.shape[1])
    self._returns = np.zeros(branches)
    self.lengths = np.zeros(branches, np.int32)
    self._ends = np.zeros(branches, np.uint8)
    self._finals = np.zeros((*branches, STACK), np.int32)
    count, *shape = inputs.frames.shape
    self._frames = FrameStore(STACK * self._ends.size, tuple(shape), count)

  def add(self, where: tuple[np.ndarray, ...], rewards: np.ndarray,
          ends: np.ndarray) -> np.ndarray:
    """Adds one step of the branches `where`.

    Args:
      where: states, actions and trials, int [n] each.
      rewards: float64 [n].
      ends: bits of End, uint8 [n].

    Returns:
      bool [n], which of them are over.
    """
    self._returns[where] += self._inputs.gamma ** self.lengths[where] * rewards
    self.lengths[where] += 1
    self._ends[where] = ends
    return (ends != 0) | (self.lengths[where] == self._inputs.noise.shape[2])

  def add_final(self, branch: tuple[int, ...], stack: np.ndarray) -> None:
    """Records the last observation, uint8 [H, W, 4], of a branch.

    Nobody asks for that of a terminated one, and the emulator gave none.
    """
    if self._ends[branch] & End.TERMINATED:
      return
    count = min(STACK, int(self.lengths[branch]))
    new = self._frames.add(np.moveaxis(stack[..., STACK - count :], -1, 0))
    old = self._inputs.rows[branch[0], count:]
    self._finals[branch] = np.append(old, new)

  def fields(self) -> dict[str, np.ndarray]:
    """By their names in AtariVineBatch."""
    return dict(
      branch_returns=self._returns, branch_lengths=self.lengths,
      branch_ends=self._ends, final_observations=self._finals,
    )

  def new_frames(self) -> np.ndarray:
    """uint8 [n, H, W], those that belong after the frames of the inputs."""
    return self._frames.stored()


class BranchRun:
  """The branches of a batch under way."""

  def __init__(self, game: Game, pool: Pool, outputs: PolicyOutputs,
               inputs: BranchInputs):
    """Begins with all slots idle.

    Args:
      game: what is played.
      pool: its emulators, whatever state they are in.
      outputs: the policy.
      inputs: of the branches.
    """
    self._game, self._pool, self._outputs = game, pool, outputs
    self._actor = CategoricalActor(game.factors)
    self._inputs, self._records = inputs, BranchRecords(inputs)
    self._waiting = np.ndindex(self._records.lengths.shape)
    S = pool.groups[-1].stop
    self._stacks = PixelStacks(S, game.frame_shape)
    self._branches = np.zeros((S, 3), int)  # that the slots run, or ran
    self._busy = np.zeros(S, bool)

  def run(self) -> BranchRecords:
    """Runs every branch to its end or its length; raises WorkerDied."""
    self._pool.alternate(self._act, self._finish)
    return self._records

  def _act(self, group: int) -> bool:
    slots, inputs = self._pool.groups[group], self._inputs
    starts = self._begin(slots)
    busy = self._busy[slots]
    if not busy.any():
      return False
    n, k, m = self._branches[slots].T
    t = np.where(busy, self._records.lengths[n, k, m], 0)
    outputs = self._outputs(inputs.theta, slots, self._stacks.view(slots))
    actions = self._actor.act(outputs, inputs.noise[n, m, t])
    first = t == 0
    actions[first] = inputs.first_actions[n[first], k[first]]
    codes = self._game.codes[tuple(actions.T)]
    self._pool.shared['codes'][slots] = np.where(busy, codes, IDLE)
    self._pool.branch(group, starts)
    return True

  def _begin(self, slots: slice) -> dict[int, bytes]:
    """Begins waiting branches in idle slots; returns their states, by slot."""
    starts, inputs = {}, self._inputs
    idle = slots.start + np.flatnonzero(~self._busy[slots])
    for s, branch in zip(idle.tolist(), self._waiting, strict=False):
      self._branches[s], self._busy[s] = branch, True
      # as stored: a restored emulator's screen is that of another state
      frames = inputs.frames[inputs.rows[branch[0]]]
      self._stacks.view()[s] = np.moveaxis(frames, 0, -1)
      starts[s] = inputs.states[branch[0]]
    return starts

  def _finish(self, group: int, states: dict[int, bytes]) -> None:
    del states
    slots = self._pool.groups[group]
    busy = self._busy[slots]
    rewards, ends = self._pool.outcomes(group)
    if not self._inputs.time_limit:
      ends &= ~np.uint8(End.TRUNCATED)
    frames = self._pool.shared['frames'][slots]
    self._stacks.push(slots, frames, busy, np.zeros_like(busy))
    where = tuple(self._branches[slots][busy].T)
    over = self._records.add(where, rewards[busy], ends[busy])
    stacks = self._stacks.view()
    for s in (slots.start + np.flatnonzero(busy)[over]).tolist():
      self._records.add_final(tuple(self._branches[s]), stacks[s])
      self._busy[s] = False
