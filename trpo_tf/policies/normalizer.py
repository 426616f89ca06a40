"""The running mean and deviation of observations."""

import dataclasses
import functools
import math

import numpy as np

from trpo_tf.moments import Moments

__all__ = ['Normalizer', 'initial_normalizer']

# Added to the variance, so that an entry that never changed is divided by 1e-4.
_VARIANCE_FLOOR = 1e-8


@dataclasses.dataclass(frozen=True, eq=False)
class Normalizer:
  """Immutable statistics of the observations seen so far.

  A normalised observation is
    clip((observation - mean32) * inv_std32, -clip, clip),
  computed in float32. The native sampler does the same operations.

  Attributes:
    count: float64 [], number of observations seen.
    mean: float64 [O], their mean.
    m2: float64 [O], sum of their squared deviations from the mean.
    clip: bound on a normalised entry; inf for the identity.
    enabled: False for the identity, which more observations do not change.
  """

  count: np.ndarray
  mean: np.ndarray
  m2: np.ndarray
  clip: float = 10.0
  enabled: bool = True

  @functools.cached_property
  def mean32(self) -> np.ndarray:
    """The mean, float32 [O]."""
    return self.mean.astype(np.float32)

  @functools.cached_property
  def inv_std32(self) -> np.ndarray:
    """One over the deviation, float32 [O]; ones before the first update."""
    if self.count == 0:
      return np.ones(self.mean.shape, np.float32)
    variance = self.m2 / self.count + _VARIANCE_FLOOR
    return (1 / np.sqrt(variance)).astype(np.float32)

  def update(self, observations: np.ndarray) -> 'Normalizer':
    """Returns statistics with more observations [N, O], raw."""
    return self.merge(Moments.of(observations)) if self.enabled else self

  def merge(self, seen: Moments) -> 'Normalizer':
    """Returns statistics with the observations that some moments count."""
    if not self.enabled or not seen.weight:
      return self
    found = Moments(self.count, self.mean, self.m2).merge(seen)
    return dataclasses.replace(
      self, count=np.asarray(found.weight), mean=found.mean, m2=found.m2
    )

  def __call__(self, observations: np.ndarray) -> np.ndarray:
    """Normalises raw observations [..., O] to float32 of the same shape."""
    observations = np.asarray(observations, np.float32)
    if not self.enabled:
      return observations
    clip = np.float32(self.clip)
    return np.clip((observations - self.mean32) * self.inv_std32, -clip, clip)


def initial_normalizer(
  observation_size: int, enabled: bool = True, clip: float = 10.0
) -> Normalizer:
  """Makes a normaliser that has seen nothing and only clips.

  Args:
    observation_size: width O.
    enabled: whether updates have an effect; if not, nothing is clipped.
    clip: bound on a normalised entry, in standard deviations.

  Returns:
    The normaliser.
  """
  zeros = np.zeros(observation_size)
  clip = clip if enabled else math.inf
  return Normalizer(np.zeros(()), zeros, zeros, clip, enabled)
