"""Weighted means and squared deviations that can be merged.

The moments of two batches give those of both together (Chan et al. 1979), so
statistics of a batch that is spread over machines need no second pass.
"""

from typing import Any, NamedTuple

import numpy as np

__all__ = ['Moments']


class Moments(NamedTuple):
  """The moments of some values.

  Attributes:
    weight: float64 [], sum of the weights: the number of values, unless they
      count differently.
    mean: float64 [...], 0 without values.
    m2: float64 [...], weighted sum of squared deviations from the mean.
  """

  weight: Any
  mean: Any
  m2: Any

  @classmethod
  def of(
    cls, values: np.ndarray, weights: np.ndarray | None = None
  ) -> 'Moments':
    """Computes the moments over the first axis.

    Args:
      values: [N, ...].
      weights: float64 [N] of mean 1, for values [N]; None: all are 1.

    Returns:
      The moments, of weight N.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
      zeros = np.zeros(values.shape[1:])
      return cls(np.zeros(()), zeros, zeros)
    mean = (values if weights is None else weights * values).mean(axis=0)
    squares = np.square(values - mean)
    m2 = (squares if weights is None else weights * squares).sum(axis=0)
    return cls(np.float64(len(values)), mean, m2)

  def merge(self, other: 'Moments') -> 'Moments':
    """Returns the moments of both sets of values together."""
    weight = self.weight + other.weight
    if not weight:
      return self
    shift = other.mean - self.mean
    return Moments(
      np.float64(weight),
      self.mean + shift * (other.weight / weight),
      self.m2
      + other.m2
      + np.square(shift) * (self.weight * other.weight / weight),
    )

  def reweighted(self, factor: float) -> 'Moments':
    """Returns the moments of the same values with all weights multiplied."""
    return Moments(factor * self.weight, self.mean, factor * self.m2)

  @property
  def variance(self) -> Any:
    """The variance [...]; 0 without values."""
    return self.m2 / self.weight if self.weight else 0.0 * self.m2

  @property
  def std(self) -> Any:
    """The standard deviation [...]."""
    return np.sqrt(self.variance)
