"""The experience of one iteration whose observations are frames or images."""

import dataclasses
import functools

import numpy as np

from trpo_tf.policies import stacks as stacks_lib
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.stacks import FrameStacks
from trpo_tf.sampling.batch import Batch

__all__ = ['FrameBatch']


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameBatch(Batch):
  """A Batch whose observations are rows of a store of frames.

  Attributes:
    frames: uint8 [F, H, W].
    observations: int32 [S, T, C], rows of `frames`, before each action.
    last_observations: int32 [S, C].
    boundary_observations: int32 [B, C].
  """

  frames: np.ndarray

  def inputs(
    self, observations: np.ndarray, normalizer: Normalizer
  ) -> FrameStacks:
    """Returns the inputs for N observations, rows [..., C]; see Batch."""
    del normalizer
    return FrameStacks(
      self.tiled, observations.reshape(-1, observations.shape[-1])
    )

  @functools.cached_property
  def tiled(self) -> np.ndarray:
    """The frames as the networks see them, see `stacks.tiled`."""
    return stacks_lib.tiled(self.frames)

  def stacks(self, rows: np.ndarray) -> np.ndarray:
    """Returns the pixels uint8 [..., H, W, C] of rows int32 [..., C]."""
    return np.moveaxis(self.frames[rows], -3, -1)
