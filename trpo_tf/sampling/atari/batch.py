"""The experience of one iteration in an Atari game; frames are stored once."""

import dataclasses

from trpo_tf.sampling.batch import VineBatch
from trpo_tf.sampling.frame_batch import FrameBatch

__all__ = ['AtariBatch', 'AtariVineBatch']


@dataclasses.dataclass(frozen=True, kw_only=True)
class AtariBatch(FrameBatch):
  """A FrameBatch of an Atari game.

  An observation is the four newest frames, the oldest first. Row 0 is black and
  stands for frames before the first one of an episode.

  Attributes:
    actions: int32 [S, T, factors].
    rewards: float64 [S, T], raw or their signs, see AtariConfig.
    ends: also TERMINATED at the loss of a life, if --life_loss_ends_return.
    timesteps: env steps since the game began; lost lives do not reset them.
    episode_returns: float64 [E], raw scores of whole games.
  """


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
