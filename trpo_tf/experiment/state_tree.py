"""Checks that a state from a file has the structure that a run needs."""

from collections.abc import Set
from typing import Any

import numpy as np

__all__ = ['GROWING', 'check_like', 'check_policy']

# arrays of the learners that are as long as what the run has seen
GROWING = frozenset({'state.learner.baseline.means', 'state.learner.scores'})

_NUMPY = (np.ndarray, np.generic)  # operations make scalars of arrays []


def check_like(
  found: Any, like: Any, where: str, growing: Set[str] = frozenset()
) -> None:
  """Checks that a tree has the keys, types and shapes of another.

  Args:
    found: the tree, see checkpoint.py.
    like: the other, such as that of a run that begins.
    where: name of the tree, for the error.
    growing: names of arrays whose first axis grows with the run.

  Raises:
    ValueError: it has not; the message names the place.
  """
  if isinstance(like, dict):
    if not isinstance(found, dict):
      raise ValueError(f'{where} is {_kind(found)}, not a dict')
    for name in sorted(like.keys() ^ found.keys()):
      what = 'is missing' if name in like else 'is not known'
      raise ValueError(f'{where}.{name} {what}')
    for name, value in like.items():
      check_like(found[name], value, f'{where}.{name}', growing)
    return
  if isinstance(like, _NUMPY):
    same = isinstance(found, _NUMPY) and _same_form(
      found, like, where in growing
    )
  else:
    same = _number(found) == _number(like)
  if not same:
    raise ValueError(f'{where} is {_kind(found)}, not {_kind(like)}')


def check_policy(state: dict[str, Any], like: dict[str, Any]) -> None:
  """Checks the part of a state that a policy acts by.

  Args:
    state: the tree of a state.
    like: theta and normalizer of a run that begins, among others.

  Raises:
    ValueError: a part is missing, has another form or impossible values.
  """
  parts = {name: like[name] for name in ('theta', 'normalizer')}
  parts['env_steps'] = 0
  check_like({k: v for k, v in state.items() if k in parts}, parts, 'state')
  if not 0 <= state['env_steps'] < 2**63:
    raise ValueError(f'state.env_steps is {state["env_steps"]}')
  if not np.isfinite(state['theta']).all():
    raise ValueError('state.theta is not finite')
  for name, value in like['normalizer'].items():
    found, where = state['normalizer'][name], f'state.normalizer.{name}'
    if isinstance(value, np.ndarray):
      if not np.isfinite(found).all():
        raise ValueError(f'{where} is not finite')
      if name != 'mean' and (found < 0).any():
        raise ValueError(f'{where} is negative')
    elif found != value:
      raise ValueError(f'{where} is {found}, not {value} as the settings say')


def _same_form(found: Any, like: Any, grows: bool) -> bool:
  same = found.dtype == like.dtype and found.ndim == like.ndim
  begin = 1 if grows else 0
  return same and found.shape[begin:] == like.shape[begin:]


def _number(value: Any) -> type:
  """Returns the Python type of a number, which NumPy may have made."""
  is_scalar = isinstance(value, _NUMPY) and value.ndim == 0
  return type(value.item() if is_scalar else value)


def _kind(value: Any) -> str:
  if isinstance(value, _NUMPY):
    return f'{value.dtype} {list(value.shape)}'
  return f'a {type(value).__name__}'
