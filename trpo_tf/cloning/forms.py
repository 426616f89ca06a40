"""Checks what a snapshot hands to code that trusts it.

NumPy's setter of a generator's state takes any position as an index, and the
emulator writes its screen into whatever array a wrapper holds.
"""

import collections
from typing import Any

import numpy as np

__all__ = ['check_form', 'restore_generator']


_CONTAINERS = list | tuple | dict | collections.deque


def check_form(value: Any, like: Any) -> None:
  """Refuses a value that does not have the form of another one.

  Lists and deques may differ in length, numbers in type, and a value may be
  None, as attributes of wrappers are between a reset and a step.

  Args:
    value: plain value.
    like: what it is to replace.

  Raises:
    ValueError: arrays differ in shape or dtype, or containers in kind.
  """
  if value is None:
    return
  if isinstance(like, np.ndarray):
    found = getattr(value, 'dtype', None), np.shape(value)
    if type(value) is not np.ndarray or found != (like.dtype, like.shape):
      raise ValueError(f'an array {found}, not {(like.dtype, like.shape)}')
  elif like is not None and not isinstance(like, _CONTAINERS):
    if isinstance(value, np.ndarray | _CONTAINERS):
      raise ValueError(f'a {type(value).__name__}, not a number')
  elif like is not None:
    if type(value) is not type(like):
      raise ValueError(f'a {type(value).__name__}, not {type(like).__name__}')
    if isinstance(like, dict) and isinstance(value, dict):
      value, like = tuple(value.values()), tuple(like.values())
    if isinstance(like, tuple):
      for one, other in zip(value, like, strict=True):
        check_form(one, other)
    elif like:
      for one in value:
        check_form(one, like[0])


def restore_generator(generator: np.random.BitGenerator, state: Any) -> None:
  """Sets a generator's state.

  Args:
    generator: the generator.
    state: the state of another one of its kind.

  Raises:
    ValueError: the state is not one.
  """
  words = state['state']
  place = words.get('pos', 0), state.get('buffer_pos', 0)
  if not (0 <= place[0] <= 624 and 0 <= place[1] <= 4):  # MT19937, Philox
    raise ValueError(f'a generator at word {max(place)}')
  generator.state = state
