"""The actions of a running episode, in an array that grows."""

import numpy as np

__all__ = ['Taken']


class Taken:
  """The actions that an environment received since its reset."""

  def __init__(self):
    """Begins with none."""
    self._array, self._size = np.empty(0), 0

  def __len__(self) -> int:
    return self._size

  def append(self, action: np.ndarray) -> None:
    """Appends a copy of an action; all have the same shape and dtype."""
    if self._size == 0:
      self._array = np.empty((64, *action.shape), action.dtype)
    elif self._size == len(self._array):  # what `array` returned stays as it is
      self._array = np.concatenate([self._array, np.empty_like(self._array)])
    self._array[self._size] = action
    self._size += 1

  @property
  def array(self) -> np.ndarray:
    """The actions so far, [n, ...]; later ones do not change it."""
    return self._array[: self._size]
