"""A store of frames, in which every frame is held once."""

import numpy as np

__all__ = ['FrameStore', 'extend']

_MORE = 4096  # frames by which a store grows


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
