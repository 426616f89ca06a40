"""The experience of one iteration in an Atari game; frames are stored once."""

import dataclasses

import numpy as np

from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.stacks import FrameStacks
from trpo_tf.sampling.batch import Batch, VineBatch

__all__ = ['AtariBatch', 'AtariVineBatch', 'FrameStore', 'extend']

_MORE = 4096  # frames by which a store grows


@dataclasses.dataclass(frozen=True, kw_only=True)
class AtariBatch(Batch):
  """A Batch whose observations are rows of a store of frames.

  An observation is the four newest frames, the oldest first; row 0, black,
  stands for those before an episode's first.

  Attributes:
    frames: uint8 [F, H, W].
    observations: int32 [S, T, 4], rows of `frames`, before each action.
    last_observations: int32 [S, 4].
    boundary_observations: int32 [B, 4].
    actions: int32 [S, T, factors].
    rewards: float64 [S, T], raw or their signs, see AtariConfig.
    ends: TERMINATED at the loss of a life too, if that is to end a return.
    timesteps: env steps of the game, which a lost life does not begin anew.
    episode_returns: float64 [E], raw scores of whole games.
  """

  frames: np.ndarray

  def inputs(
    self, observations: np.ndarray, normalizer: Normalizer
  ) -> FrameStacks:
    """What the networks see of observations, rows [..., 4]: N of them."""
    del normalizer
    return FrameStacks(
      self.frames, observations.reshape(-1, observations.shape[-1])
    )

  def stacks(self, rows: np.ndarray) -> np.ndarray:
    """Observations as pixels.

    Args:
      rows: int32 [..., 4], of `frames`.

    Returns:
      uint8 [..., H, W, 4].
    """
    return np.moveaxis(self.frames[rows], -3, -1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AtariVineBatch(AtariBatch, VineBatch):
  """A VineBatch of an Atari game: trunks, and branches that share the frames.

  Attributes:
    first_actions: int32 [N, K, factors].
    branch_returns: of raw rewards or their signs, as `rewards`.
    branch_ends: TERMINATED at the loss of a life too, as `ends`.
    final_observations: int32 [N, K, M, 4], rows of `frames`; black where the
      branch terminated.
  """


class FrameStore:
  """Frames by row; grows without a second copy of them.

  Attributes:
    shape: height H and width W of a frame.
  """

  def __init__(self, capacity: int, shape: tuple[int, ...], first_row: int = 0):
    """Makes an empty store.

    Args:
      capacity: frames that are expected; memory is used as they come.
      shape: height H and width W of a frame.
      first_row: the row of the first frame, if others lie before it elsewhere.
    """
    self.shape = shape
    self._frames = np.empty((capacity, *shape), np.uint8)
    self._size, self._first_row = 0, first_row

  def add(self, frames: np.ndarray) -> np.ndarray:
    """Appends uint8 [n, H, W]; returns their rows, int32 [n]."""
    start, end = self._size, self._size + len(frames)
    if end > len(self._frames):
      _resize(self._frames, end + _MORE)
    self._frames[start:end] = frames
    self._size = end
    return np.arange(start, end, dtype=np.int32) + np.int32(self._first_row)

  def stored(self) -> np.ndarray:
    """uint8 [F, H, W], the store itself: nothing is added afterwards."""
    _resize(self._frames, self._size)
    return self._frames


def extend(frames: np.ndarray, more: np.ndarray) -> None:
  """Appends [n, H, W] to what `stored` returned, in place."""
  count = len(frames)
  _resize(frames, count + len(more))
  frames[count:] = more


def _resize(frames: np.ndarray, size: int) -> None:
  # realloc: arrays of this size move by their page table
  frames.resize((size, *frames.shape[1:]), refcheck=False)
