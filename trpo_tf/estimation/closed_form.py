"""Baselines that are fitted in closed form."""

from typing import NamedTuple

import numpy as np

from trpo_tf import blas
from trpo_tf.policies.protocols import Inputs

__all__ = ['LinearBaseline', 'NoBaseline', 'TimeBaseline', 'TimeSums']


class NoState(NamedTuple):
  """The state of a baseline that has none."""


class NoBaseline:
  """Baseline that predicts 0."""

  state_type = NoState

  def initial_state(self, rng: np.random.Generator) -> NoState:
    """Returns an empty state."""
    del rng
    return NoState()

  def predict(
    self, state: NoState, x: Inputs, timesteps: np.ndarray
  ) -> np.ndarray:
    """Predicts 0.

    Args:
      state: the baseline's state.
      x: not used.
      timesteps: int [N], step within the episode.

    Returns:
      float64 [N], in units of return.
    """
    del state, x
    return np.zeros(len(timesteps))

  def fit(
    self,
    state: NoState,
    x: Inputs,
    timesteps: np.ndarray,
    returns: np.ndarray,
    rng: np.random.Generator,
  ) -> NoState:
    """Returns the state as it is.

    Args:
      state: the baseline's state.
      x: not used.
      timesteps: not used.
      returns: not used.
      rng: not used.

    Returns:
      The new state.
    """
    del x, timesteps, returns, rng
    return state


class TimeState(NamedTuple):
  """Mean return of each time step.

  Attributes:
    means: float64 [H] for the H time steps seen, in units of return; the last
      one is predicted for all later steps.
  """

  means: np.ndarray


class TimeSums(NamedTuple):
  """Sums of returns by time step.

  Attributes:
    counts: float64 [H], number of returns at each time step.
    sums: float64 [H], their sums.
  """

  counts: np.ndarray
  sums: np.ndarray

  @classmethod
  def of(cls, timesteps: np.ndarray, returns: np.ndarray) -> 'TimeSums':
    """Sums returns by time step.

    Args:
      timesteps: int [N], step within the episode.
      returns: float64 [N].
    """
    counts = np.bincount(timesteps).astype(np.float64)
    return cls(counts, np.bincount(timesteps, returns))

  def merge(self, other: 'TimeSums') -> 'TimeSums':
    """Returns the sums over both sets of returns."""
    size = max(len(self.counts), len(other.counts))

    def both(a: np.ndarray, b: np.ndarray) -> np.ndarray:
      a, b = (np.pad(v, (0, size - len(v))) for v in (a, b))
      return a + b

    return TimeSums(
      both(self.counts, other.counts), both(self.sums, other.sums)
    )

  def means(self) -> np.ndarray:
    """Averages returns by time step.

    Returns:
      float64 [H], where H is the largest time step plus one. A time step that
      does not occur takes the mean of the one before.
    """
    counts = self.counts
    means = self.sums / np.where(counts > 0, counts, 1)
    seen = np.where(counts > 0, np.arange(len(counts)), 0)
    return means[np.maximum.accumulate(seen)]


class TimeBaseline:
  """Baseline that predicts the mean return of a time step over a batch."""

  state_type = TimeState

  def initial_state(self, rng: np.random.Generator) -> TimeState:
    """Returns a state that predicts 0 at every step."""
    del rng
    return TimeState(np.zeros(1))

  def predict(
    self, state: TimeState, x: Inputs, timesteps: np.ndarray
  ) -> np.ndarray:
    """Predicts the mean of each row's time step.

    Args:
      state: the baseline's state.
      x: not used.
      timesteps: int [N], step within the episode.

    Returns:
      float64 [N], in units of return.
    """
    del x
    return state.means[np.minimum(timesteps, len(state.means) - 1)]

  def fit(
    self,
    state: TimeState,
    x: Inputs,
    timesteps: np.ndarray,
    returns: np.ndarray,
    rng: np.random.Generator,
  ) -> TimeState:
    """Averages the returns of this batch alone by time step.

    Args:
      state: not used.
      x: not used.
      timesteps: int [N], step within the episode.
      returns: float64 [N], targets in units of return.
      rng: not used.

    Returns:
      The new state.
    """
    del state, x, rng
    return TimeState(TimeSums.of(timesteps, returns).means())


class LinearState(NamedTuple):
  """Weights of the linear baseline.

  Attributes:
    weights: float64 [2 O + 4].
  """

  weights: np.ndarray


class LinearBaseline:
  """Ridge regression on [o, o^2, t/100, (t/100)^2, (t/100)^3, 1].

  The features are those of Duan et al. 2016 (rllab); o is clipped to +-10.
  """

  state_type = LinearState

  def __init__(self, observation_size: int, ridge: float = 1e-5):
    """Makes the baseline.

    Args:
      observation_size: width O.
      ridge: penalty, added to the features' mean square.
    """
    self._observation_size = observation_size
    self._ridge = ridge

  def _features(self, x: Inputs, timesteps: np.ndarray) -> np.ndarray:
    o = np.clip(np.asarray(x, np.float64), -10, 10)
    t = np.asarray(timesteps, np.float64)[:, np.newaxis] / 100
    return np.concatenate([o, o**2, t, t**2, t**3, np.ones_like(t)], axis=1)

  def initial_state(self, rng: np.random.Generator) -> LinearState:
    """Returns a state that predicts 0."""
    del rng
    return LinearState(np.zeros(2 * self._observation_size + 4))

  @blas.one_thread
  def predict(
    self, state: LinearState, x: Inputs, timesteps: np.ndarray
  ) -> np.ndarray:
    """Predicts features times weights.

    Args:
      state: the baseline's state.
      x: float32 [N, O], normalised observations.
      timesteps: int [N], step within the episode.

    Returns:
      float64 [N], in units of return.
    """
    return self._features(x, timesteps) @ state.weights

  @blas.one_thread
  def fit(
    self,
    state: LinearState,
    x: Inputs,
    timesteps: np.ndarray,
    returns: np.ndarray,
    rng: np.random.Generator,
  ) -> LinearState:
    """Solves the regression on this batch alone.

    Args:
      state: not used.
      x: float32 [N, O], normalised observations.
      timesteps: int [N], step within the episode.
      returns: float64 [N], targets in units of return.
      rng: not used.

    Returns:
      The new state.
    """
    del state, rng
    features = self._features(x, timesteps)
    # Scaled to unit mean square, so that the ridge means the same for all.
    scale = np.sqrt(np.square(features).mean(axis=0))
    scale[scale == 0] = 1
    scaled = features / scale
    gram = scaled.T @ scaled / len(scaled) + self._ridge * np.eye(
      scaled.shape[1]
    )
    solution = np.linalg.solve(gram, scaled.T @ returns / len(scaled))
    return LinearState(solution / scale)
