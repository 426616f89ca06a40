"""Distances between policies, one number for each state."""

import numpy as np
from scipy import special

__all__ = ['kl', 'total_variation']


def total_variation(old: np.ndarray, new: np.ndarray) -> np.ndarray:
  """Computes D_TV(old(.|s) || new(.|s)) = 1/2 sum_a |old(a|s) - new(a|s)|.

  Args:
    old: [..., S, A] old policy.
    new: [..., S, A] new policy.

  Returns:
    float64 [..., S], in [0, 1].
  """
  return 0.5 * np.abs(old - new).sum(axis=-1)


def kl(old: np.ndarray, new: np.ndarray) -> np.ndarray:
  """Computes D_KL(old(.|s) || new(.|s)).

  Args:
    old: [..., S, A] old policy.
    new: [..., S, A] new policy.

  Returns:
    float64 [..., S], in nats; infinite where old takes an action that new
    never takes.
  """
  # The terms x log(x/y) - x + y are >= 0, so that tiny divergences are exact.
  return special.kl_div(old, new).sum(axis=-1)
