"""Roots of many functions at once, by Chandrupatla's method (1997)."""

from collections.abc import Callable

import numpy as np

__all__ = ['find_root']

_ITERATIONS = 200  # about 12 do; bisection alone would need 60
_TOLERANCE = 4 * np.finfo(np.float64).eps


def find_root(
  function: Callable[[np.ndarray], np.ndarray],
  low: np.ndarray,
  high: np.ndarray,
) -> np.ndarray:
  """Solves function(x) = 0 elementwise between low and high.

  Inverse quadratic interpolation where that is safe, else bisection.

  Args:
    function: of an array of the shape of low, elementwise.
    low: one end.
    high: the other end. Where the signs at both ends are equal, the end of the
      smaller value is the answer.

  Returns:
    The roots, to the last digits.
  """
  a, b = np.array(high, np.float64), np.array(low, np.float64)
  fa, fb = function(a), function(b)
  outside = np.sign(fa) * np.sign(fb) > 0
  end = np.where(np.abs(fa) < np.abs(fb), a, b)
  part = np.full(a.shape, 0.5)
  for _ in range(_ITERATIONS):
    x = a + part * (b - a)
    fx = function(x)
    same = np.sign(fx) == np.sign(fa)
    c, fc = np.where(same, a, b), np.where(same, fa, fb)
    b, fb = np.where(same, b, a), np.where(same, fb, fa)
    a, fa = x, fx
    near = np.abs(fa) < np.abs(fb)
    best = np.where(near, a, b)
    width = np.abs(b - a)
    least = _TOLERANCE * np.abs(best) / np.where(width > 0, width, 1)
    zero = np.where(near, fa, fb) == 0
    if np.all(outside | zero | (least >= 0.5) | (width == 0)):
      break
    part = _next(a, b, c, fa, fb, fc)
    part = np.clip(part, np.minimum(least, 0.5), np.maximum(1 - least, 0.5))
  return np.where(outside, end, best)


def _next(a, b, c, fa, fb, fc) -> np.ndarray:
  """Where to look next, as a fraction of the way from a to b."""
  with np.errstate(all='ignore'):
    xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
    safe = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
    part = fa / (fb - fa) * fc / (fb - fc)
    part += (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
  return np.where(safe & np.isfinite(part), part, 0.5)
