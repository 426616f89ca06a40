"""Observations that are images, as convolutions see them."""

import dataclasses
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from trpo_tf.errors import UserError

__all__ = ['Images', 'find', 'looks_like_one']


@dataclasses.dataclass(frozen=True)
class Images:
  """The images that an environment observes.

  Attributes:
    own_shape: of an observation as the environment gives it: (H, W, C),
      (C, H, W) or (H, W).
  """

  own_shape: tuple[int, ...]

  @property
  def channels_first(self) -> bool:
    """Whether it is C x H x W: C is less than W, and no side of a square."""
    if len(self.own_shape) == 2:
      return False
    first, middle, last = self.own_shape
    return first != middle and first < last

  @property
  def shape(self) -> tuple[int, int, int]:
    """Height H, width W and number C of channels."""
    own: Any = self.own_shape
    return (*own[1:], own[0]) if self.channels_first else (*own, 1)[:3]

  def planes(self, images: np.ndarray) -> np.ndarray:
    """Puts the channels first: [N, *own_shape] becomes [N, C, H, W]."""
    if len(self.own_shape) == 2:
      return images[:, np.newaxis]
    return images if self.channels_first else np.moveaxis(images, -1, 1)

  def batch(self, observation: Any) -> tuple[np.ndarray, bool]:
    """Checks one image, or N of them.

    Args:
      observation: as the environment gives it, or N of them in an array.

    Returns:
      uint8 [N, *own_shape], and whether N images were given.

    Raises:
      UserError: it is no such image.
    """
    found = np.asarray(observation)
    batched = found.ndim > len(self.own_shape)
    if found.dtype != np.uint8 or found.shape[batched:] != self.own_shape:
      raise UserError(
        f'observation {found.dtype} {list(found.shape)}: the environment has '
        f'images, uint8 {list(self.own_shape)}, or N of them'
      )
    return found.reshape(-1, *self.own_shape), batched


def find(space: gymnasium.Space) -> Images | None:
  """Returns the images of a space; None if its observations are no images."""
  if looks_like_one(space) and space.dtype == np.uint8:
    shape: Any = space.shape
    return Images(shape) if len(shape) < 4 and min(shape) > 0 else None
  return None


def looks_like_one(space: gymnasium.Space) -> bool:
  """Whether a space is of rows and columns of pixels, or of stacks of them."""
  if not isinstance(space, spaces.Box) or len(space.shape) < 2:
    return False
  return len(space.shape) > 2 or space.dtype == np.uint8
