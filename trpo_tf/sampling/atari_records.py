"""What the slots of an Atari batch did, step by step, and their frames."""

import numpy as np

from trpo_tf.sampling.atari_batch import AtariBatch
from trpo_tf.sampling.atari_frames import FrameStore
from trpo_tf.sampling.numpy_policy import CategoricalActor
from trpo_tf.tasks.atari import STACK

__all__ = ['Records']


class Records:
  """The records of a batch."""

  def __init__(self, groups: list[slice], share: int, stacks: np.ndarray,
               timesteps: np.ndarray):
    """Begins with the frames that the slots' observations hold already.

    Args:
      groups: the slots that are stepped together.
      share: env steps of a slot that are expected.
      stacks: uint8 [S, H, W, 4], the observations.
      timesteps: int [S], env steps of the running episodes.
    """
    S, *shape, _ = stacks.shape
    self._groups = groups
    self._frames = FrameStore(1 + S * (STACK + share), tuple(shape))
    self._frames.add(np.zeros((1, *shape), np.uint8))  # row 0 is black
    self._rows = np.zeros((S, STACK), np.int32)
    for s in range(S):
      count = min(STACK, int(timesteps[s]) + 1)
      held = np.moveaxis(stacks[s, ..., STACK - count :], -1, 0)
      self._rows[s, STACK - count :] = self._frames.add(held)
    self._steps: list[list[list[np.ndarray]]] = [[] for _ in groups]
    self._boundaries: dict[tuple[int, int], np.ndarray] = {}
    self._episodes: dict[tuple[int, int], tuple[float, int]] = {}

  def num_steps(self, group: int) -> int:
    """Steps of a group so far."""
    return len(self._steps[group])

  def add(self, group: int, kept: np.ndarray, outputs: np.ndarray,
          actions: np.ndarray, rewards: np.ndarray, ends: np.ndarray,
          timesteps: np.ndarray) -> None:
    """Records a step of the n slots of a group, before its frames.

    Args:
      group: which.
      kept: bool [n], the slots that were stepped.
      outputs: float32 [n, M].
      actions: int32 [n, factors].
      rewards: float64 [n].
      ends: uint8 [n], bits of End.
      timesteps: int32 [n].
    """
    rows = self._rows[self._groups[group]]
    # copies: the arguments may be views of what the next step changes
    fields = [field.copy() for field in (rows, outputs, actions, rewards, ends,
                                         timesteps, kept)]
    if not kept.all():
      for field in fields:
        field[~kept] = 0
    self._steps[group].append(fields)

  def add_frames(self, group: int, kept: np.ndarray, over: np.ndarray,
                 frames: np.ndarray) -> None:
    """Records the frames that the last step of a group led to.

    Args:
      group: which.
      kept: bool [n], the slots that were stepped.
      over: bool [n], those whose game is over: their frame is the next game's
        first.
      frames: uint8 [n, H, W].
    """
    rows = self._rows[self._groups[group]]
    rows[kept, :-1] = rows[kept, 1:]
    rows[over, :-1] = 0
    rows[kept, -1] = self._frames.add(frames[kept])

  def add_end(self, group: int, place: int, episode_return: float,
              length: int) -> None:
    """Records the end of a whole episode with the last step of a group."""
    key = self._key(group, place)
    self._episodes[key] = episode_return, length

  def add_boundary(self, group: int, place: int, frame: np.ndarray) -> None:
    """Records what a truncation reached, before the next game's frame."""
    s, _ = key = self._key(group, place)
    self._boundaries[key] = np.append(
      self._rows[s, 1:], self._frames.add(frame[None])
    )

  def _key(self, group: int, place: int) -> tuple[int, int]:
    return self._groups[group].start + place, self.num_steps(group) - 1

  def batch(self, actor: CategoricalActor,
            deaths: tuple[str, ...]) -> AtariBatch:
    """The batch."""
    observations, outputs, actions, rewards, ends, timesteps, kept = (
      self._by_slot(field) for field in range(7)
    )
    log_probs = np.where(kept, actor.log_prob(outputs, actions), 0)
    cuts = sorted(self._boundaries)
    finished = [self._episodes[key] for key in sorted(self._episodes)]
    return AtariBatch(
      frames=self._frames.stored(),
      observations=observations,
      actions=actions,
      outputs=outputs,
      log_probs=log_probs.astype(np.float32),
      rewards=rewards,
      ends=ends,
      timesteps=timesteps,
      lengths=kept.sum(1, dtype=np.int32),
      kept=kept,
      last_observations=self._rows,
      boundary_index=np.array(cuts, np.int32).reshape(-1, 2),
      boundary_observations=np.array(
        [self._boundaries[key] for key in cuts], np.int32
      ).reshape(-1, STACK),
      episode_returns=np.array([r for r, _ in finished], np.float64),
      episode_lengths=np.array([n for _, n in finished], np.int32),
      deaths=deaths,
    )

  def _by_slot(self, field: int) -> np.ndarray:
    """A field of all steps as [S, T, ...]; what was not recorded is 0."""
    first = self._steps[0][0][field]
    T = max(len(steps) for steps in self._steps)
    result = np.zeros((len(self._rows), T, *first.shape[1:]), first.dtype)
    for group, steps in zip(self._groups, self._steps, strict=True):
      result[group, : len(steps)] = np.stack([s[field] for s in steps], 1)
    return result
