"""Finds roots of many functions at once by Chandrupatla's method (1997)."""

from collections.abc import Callable

import numpy as np

__all__ = ['find_root']

_ITERATIONS = 200  # about 12 suffice; bisection alone would need 60
_TOLERANCE = 4 * np.finfo(np.float64).eps


def find_root(
  function: Callable[[np.ndarray], np.ndarray],
  low: np.ndarray,
  high: np.ndarray,
) -> np.ndarray:
  """Solves function(x) = 0 elementwise between low and high.

  The method takes inverse quadratic interpolation where that is safe, and
  bisection elsewhere.

  Args:
    function: maps an array of low's shape to one of the same shape,
      elementwise.
    low: float64 [...], one end of each interval.
    high: float64 [...], the other end. Where the function has the same sign at
      both ends, the result is the end with the smaller absolute value.

  Returns:
    The roots float64 [...], accurate to the last digits.
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
  """Returns where to look next, as a fraction of the way from a to b."""
  with np.errstate(all='ignore'):
    xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
    safe = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
    part = fa / (fb - fa) * fc / (fb - fc)
    part += (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
  return np.where(safe & np.isfinite(part), part, 0.5)
