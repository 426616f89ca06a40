"""Distances between policies, one number a state."""

import numpy as np
from scipy import special

__all__ = ['kl', 'total_variation']


def total_variation(old: np.ndarray, new: np.ndarray) -> np.ndarray:
  """D_TV(old(.|s) || new(.|s)) = 1/2 sum_a |old - new|, [..., S]."""
  return 0.5 * np.abs(old - new).sum(axis=-1)


def kl(old: np.ndarray, new: np.ndarray) -> np.ndarray:
  """D_KL(old(.|s) || new(.|s)) [..., S] in nats; infinite off new's support."""
  # x log(x/y) - x + y: each term is >= 0, so that tiny divergences are exact.
  return special.kl_div(old, new).sum(axis=-1)
