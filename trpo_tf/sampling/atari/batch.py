"""The experience of one iteration in an Atari game; frames are stored once."""

import dataclasses
import functools

import numpy as np

from trpo_tf.policies import stacks as stacks_lib
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.stacks import FrameStacks
from trpo_tf.sampling.batch import Batch, VineBatch

__all__ = ['AtariBatch', 'AtariVineBatch']


@dataclasses.dataclass(frozen=True, kw_only=True)
class AtariBatch(Batch):
  """A Batch whose observations are rows of a store of frames.

  An observation is the four newest frames, the oldest first. Row 0 is black and
  stands for frames before the first one of an episode.

  Attributes:
    frames: uint8 [F, H, W].
    observations: int32 [S, T, 4], rows of `frames`, before each action.
    last_observations: int32 [S, 4].
    boundary_observations: int32 [B, 4].
    actions: int32 [S, T, factors].
    rewards: float64 [S, T], raw or their signs, see AtariConfig.
    ends: also TERMINATED at the loss of a life, if --life_loss_ends_return.
    timesteps: env steps since the game began; lost lives do not reset them.
    episode_returns: float64 [E], raw scores of whole games.
  """

  frames: np.ndarray

  def inputs(
    self, observations: np.ndarray, normalizer: Normalizer
  ) -> FrameStacks:
    """Returns the inputs for N observations, rows [..., 4]; see Batch."""
    del normalizer
    return FrameStacks(
      self.tiled, observations.reshape(-1, observations.shape[-1])
    )

  @functools.cached_property
  def tiled(self) -> np.ndarray:
    """The frames as the networks see them, see `stacks.tiled`."""
    return stacks_lib.tiled(self.frames)

  def stacks(self, rows: np.ndarray) -> np.ndarray:
    """Returns the pixels uint8 [..., H, W, 4] of rows int32 [..., 4]."""
    return np.moveaxis(self.frames[rows], -3, -1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AtariVineBatch(AtariBatch, VineBatch):
  """A VineBatch of an Atari game: trunks, and branches that share the frames.

  Attributes:
    first_actions: int32 [N, K, factors].
    branch_returns: returns of raw rewards or their signs, as `rewards`.
    branch_ends: also TERMINATED at the loss of a life, as `ends`.
    final_observations: int32 [N, K, M, 4], rows of `frames`; black where the
      branch terminated.
  """
