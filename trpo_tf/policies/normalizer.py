"""Running mean and deviation of observations."""

import dataclasses
import functools
import math

import numpy as np

__all__ = ['Normalizer', 'initial_normalizer']

# Added to the variance, so that an entry that never moved divides by 1e-4.
_VARIANCE_FLOOR = 1e-8


@dataclasses.dataclass(frozen=True, eq=False)
class Normalizer:
  """Statistics of the observations seen so far: a value, never modified.

  A normalised observation is, all in float32 (the native sampler repeats
  these very operations),
    clip((observation - mean32) * inv_std32, -clip, clip).

  Attributes:
    count: float64 [], number of observations.
    mean: float64 [O].
    m2: float64 [O], sum of squared deviations from the mean.
    clip: bound on a normalised entry; inf for the identity.
    enabled: False for the identity, which `update` leaves as it is.
  """

  count: np.ndarray
  mean: np.ndarray
  m2: np.ndarray
  clip: float = 10.0
  enabled: bool = True

  @functools.cached_property
  def mean32(self) -> np.ndarray:
    """float32 [O]."""
    return self.mean.astype(np.float32)

  @functools.cached_property
  def inv_std32(self) -> np.ndarray:
    """float32 [O]; ones before the first update."""
    if self.count == 0:
      return np.ones(self.mean.shape, np.float32)
    variance = self.m2 / self.count + _VARIANCE_FLOOR
    return (1 / np.sqrt(variance)).astype(np.float32)

  def update(self, observations: np.ndarray) -> 'Normalizer':
    """Adds observations [N, O] (Chan et al. 1979) and returns the new value."""
    if not self.enabled or not len(observations):
      return self
    observations = np.asarray(observations, np.float64)
    size = len(observations)
    mean = observations.mean(axis=0)
    m2 = np.square(observations - mean).sum(axis=0)
    count = self.count + size
    shift = mean - self.mean
    return dataclasses.replace(
      self,
      count=np.asarray(count, np.float64),
      mean=self.mean + shift * (size / count),
      m2=self.m2 + m2 + np.square(shift) * (self.count * size / count),
    )

  def __call__(self, observations: np.ndarray) -> np.ndarray:
    """Normalises raw observations [..., O]: float32 of the same shape."""
    observations = np.asarray(observations, np.float32)
    if not self.enabled:
      return observations
    clip = np.float32(self.clip)
    return np.clip((observations - self.mean32) * self.inv_std32, -clip, clip)


def initial_normalizer(
  observation_size: int, enabled: bool = True, clip: float = 10.0
) -> Normalizer:
  """A normaliser that has seen nothing: the identity, up to its clip.

  Args:
    observation_size: width O.
    enabled: whether updates have any effect; if not, nothing is clipped.
    clip: bound on a normalised entry, in standard deviations.
  """
  zeros = np.zeros(observation_size)
  clip = clip if enabled else math.inf
  return Normalizer(np.zeros(()), zeros, zeros, clip, enabled)
