"""The observations of a policy: the four newest frames of every slot."""

from collections.abc import Callable

import numpy as np

from trpo_tf.tasks.atari import STACK

__all__ = ['PixelStacks', 'PolicyOutputs']

_NEWEST = 8 * (STACK - 1)  # bits below the newest of a pixel's frames

# (theta [P], slots, their stacks uint8 [n, H, W, 4] with the oldest frame
# first) -> logits float32 [n, M]. The stacks are a view: they change with the
# next step.
PolicyOutputs = Callable[[np.ndarray, slice, np.ndarray], np.ndarray]


class PixelStacks:
  """The stacks of all slots, black at first.

  A pixel's four frames are the bytes of one number: a shift makes room.
  """

  def __init__(self, num_slots: int, frame_shape: tuple[int, int]):
    self._pixels = np.zeros((num_slots, *frame_shape), '<u4')

  def view(self, slots: slice = slice(None)) -> np.ndarray:
    """The stacks themselves, uint8 [n, H, W, 4], the oldest frame first."""
    pixels = self._pixels[slots]
    return pixels.view(np.uint8).reshape(*pixels.shape, STACK)

  def push(self, slots: slice, frames: np.ndarray, moved: np.ndarray,
           fresh: np.ndarray) -> None:
    """Appends a frame to the stacks of slots.

    Args:
      slots: n of them.
      frames: uint8 [n, H, W].
      moved: bool [n], which of them get their frame.
      fresh: bool [n], whose older frames become black.
    """
    pixels, still = self._pixels[slots], ~moved
    before = pixels[still]
    pixels >>= 8
    pixels[fresh] = 0
    pixels |= frames.astype('<u4') << _NEWEST
    pixels[still] = before
