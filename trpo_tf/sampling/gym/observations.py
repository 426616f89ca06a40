"""The observations of a batch, as they are recorded: vectors, or images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trpo_tf.policies import stacks
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.stacks import FrameStacks, FrameStore
from trpo_tf.sampling.batch import Batch
from trpo_tf.sampling.frame_batch import FrameBatch
from trpo_tf.tasks.images import Images

__all__ = ['ImageRecord', 'VectorRecord']


class VectorRecord:
  """Observations float32 [O]."""

  batch_type: type[Batch] = Batch
  fields: dict[str, Any] = {}  # further fields of the batch

  def inputs(
    self, observations: np.ndarray, normalizer: Normalizer
  ) -> np.ndarray:
    """Returns the inputs of the policy's network, float32 [S, O].

    Args:
      observations: [S, O].
      normalizer: normaliser of observations.
    """
    return normalizer(observations)

  def keep(
    self, observations: np.ndarray, chosen: Sequence[int] | slice = slice(None)
  ) -> np.ndarray:
    """Returns what the batch holds for observations: a copy of them.

    Args:
      observations: [S, O].
      chosen: those of them that matter.
    """
    del chosen
    return observations.copy()


class ImageRecord:
  """Observations that are images, whose channels go into a store of frames."""

  batch_type = FrameBatch

  def __init__(self, images: Images, count: int):
    """Makes an empty record.

    Args:
      images: form of the observations.
      count: about how many there will be.
    """
    height, width, self._channels = images.shape
    self._images = images
    self._frames = FrameStore(count * self._channels, (height, width))

  def inputs(
    self, observations: np.ndarray, normalizer: Normalizer
  ) -> FrameStacks:
    """Returns the inputs of the policy's network.

    Args:
      observations: uint8 [S, *own_shape].
      normalizer: not used, as images are not normalised.
    """
    del normalizer
    return stacks.of_planes(self._images.planes(observations))

  def keep(
    self, observations: np.ndarray, chosen: Sequence[int] | slice = slice(None)
  ) -> np.ndarray:
    """Stores images; returns their rows in the store, int32 [S, C].

    Args:
      observations: uint8 [S, *own_shape].
      chosen: those that are stored; the rows of the others mean nothing.
    """
    rows = np.zeros((len(observations), self._channels), np.int32)
    planes = self._images.planes(observations[chosen])
    stored = self._frames.add(planes.reshape(-1, *self._frames.shape))
    rows[chosen] = stored.reshape(-1, self._channels)
    return rows

  @property
  def fields(self) -> dict[str, Any]:
    """The store, as a field of the batch; nothing is kept afterwards."""
    return dict(frames=self._frames.stored())
