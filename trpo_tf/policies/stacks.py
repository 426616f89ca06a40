"""Observations as stacks of frames that are stored once.

Consecutive observations of four frames each share three of them. A store that
holds every frame once, and rows of it for each observation, take a quarter of
the memory. The channels of an image are frames too, which nobody shares.

The networks see cells of 2 x 2 pixels. Where the first convolution has kernels
of 4 x 4 with stride 2, it has kernels of 2 x 2 cells without a stride, which
take half the time on a CPU.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

__all__ = [
  'FrameStacks',
  'FrameStore',
  'assembled',
  'cells',
  'extend',
  'of_planes',
  'rows',
  'take',
  'tiled',
]

ASSEMBLED_BYTES = 2**28
_MORE = 4096  # frames by which a store grows


class FrameStacks(NamedTuple):
  """N observations of C frames each, the input of a `ConvNet`.

  Attributes:
    frames: int32 [F, H // 2, W // 2], every frame once, `tiled`.
    rows: int32 [N, C], rows of `frames` in each observation, oldest first.
  """

  frames: Any
  rows: Any


def take(x: Any, states: tf.Tensor) -> Any:
  """Selects the inputs of some states.

  Args:
    x: inputs of N states, [N, ...] or FrameStacks.
    states: int [n], rows of the inputs.

  Returns:
    The inputs of those n states, in x's form.
  """
  if isinstance(x, FrameStacks):
    return x._replace(rows=tf.gather(x.rows, states))
  return tf.gather(x, states)


def rows(x: Any, first: Any, end: Any) -> Any:
  """Returns the inputs of the states from `first` to before `end`.

  Args:
    x: inputs of N states, [N, ...] or FrameStacks.
    first: int, or int32 [].
    end: likewise.
  """
  if isinstance(x, FrameStacks):
    return x._replace(rows=x.rows[first:end])
  return x[first:end]


def assembled(x: Any, num_states: int) -> Any:
  """Assembles observations that are seen several times, if memory allows.

  Args:
    x: inputs of N states.
    num_states: about N.

  Returns:
    The `cells` of FrameStacks if they take no more than ASSEMBLED_BYTES; else
    x.
  """
  if not isinstance(x, FrameStacks):
    return x
  values = 4 * num_states * np.prod([*x.frames.shape[1:], x.rows.shape[1]])
  return cells(x) if values <= ASSEMBLED_BYTES else x


def tiled(frames: np.ndarray) -> np.ndarray:
  """Turns frames of pixels into frames of cells of 2 x 2 pixels.

  A cell is the number whose bytes are its pixels, so that a stack of frames is
  assembled from a quarter of the numbers. An odd last row or column is left
  out, as convolutions of 4 x 4 with stride 2 do not see it.

  Args:
    frames: uint8 [F, H, W].

  Returns:
    int32 [F, H // 2, W // 2].
  """
  F, height, width = frames.shape
  H, W = height // 2, width // 2
  even = np.ascontiguousarray(frames[:, : 2 * H, : 2 * W])
  pairs = even.view(np.uint16).reshape(F, H, 2, W).swapaxes(2, 3)
  return np.ascontiguousarray(pairs).view(np.int32)[..., 0]


def cells(x: Any) -> tf.Tensor:
  """Assembles the observations.

  Args:
    x: N observations of frames [F, H, W], or what this returned.

  Returns:
    uint8 [N, H, W, 4 * C]; the last dimension is the frame, the row and the
    column of a pixel in its cell.
  """
  if not isinstance(x, FrameStacks):
    return x
  _, H, W = x.frames.shape
  frames = tf.gather(tf.reshape(x.frames, [-1, H * W]), x.rows)
  # Where oneDNN cannot transpose whole numbers, it prints an error.
  frames = tf.bitcast(frames, tf.float32)
  stacks = tf.bitcast(tf.transpose(frames, [0, 2, 1]), tf.uint8)
  return tf.reshape(stacks, [-1, H, W, 4 * x.rows.shape[1]])


def of_planes(planes: np.ndarray) -> FrameStacks:
  """Makes the stacks of observations that share no frame.

  Args:
    planes: uint8 [N, C, H, W].
  """
  count, channels = planes.shape[:2]
  frames = planes.reshape(-1, *planes.shape[2:])
  rows = np.arange(len(frames), dtype=np.int32).reshape(count, channels)
  return FrameStacks(tf.constant(tiled(frames)), tf.constant(rows))


class FrameStore:
  """A store of frames that grows without a second copy of them.

  Attributes:
    shape: height H and width W of a frame.
  """

  def __init__(self, capacity: int, shape: tuple[int, ...], first_row: int = 0):
    """Makes an empty store.

    Args:
      capacity: number of expected frames; memory is used as they come.
      shape: height H and width W of a frame.
      first_row: row number of the first frame, if earlier rows are stored
        elsewhere.
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
    """Returns the store itself, uint8 [F, H, W]; do not `add` to it later."""
    _resize(self._frames, self._size)
    return self._frames


def extend(frames: np.ndarray, more: np.ndarray) -> None:
  """Appends frames in place to an array that `stored` returned.

  Args:
    frames: uint8 [F, H, W], which grows to [F + n, H, W].
    more: uint8 [n, H, W].
  """
  count = len(frames)
  _resize(frames, count + len(more))
  frames[count:] = more


def _resize(frames: np.ndarray, size: int) -> None:
  # realloc moves arrays of this size by their page table, without a copy.
  frames.resize((size, *frames.shape[1:]), refcheck=False)
