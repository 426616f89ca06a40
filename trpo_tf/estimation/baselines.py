"""Baselines: predictions of the return, fitted after each batch.

A baseline has
  state_type, a NamedTuple of NumPy arrays;
  initial_state(rng) -> state, of that type;
  predict(state, x, timesteps) -> float64 [N];
  fit(state, x, timesteps, returns, rng) -> the new state;
with x float32 [N, O] normalised observations, timesteps int [N] the step
within the episode, returns float64 [N]. `fit` here adds what it achieved.
"""

from typing import Any, NamedTuple

import numpy as np

from trpo_tf import config
from trpo_tf.errors import UserError
from trpo_tf.estimation import value_network
from trpo_tf.policies import mlp

__all__ = [
  'Baseline',
  'FitDiagnostics',
  'LinearBaseline',
  'NoBaseline',
  'TimeBaseline',
  'explained_variance',
  'fit',
  'make_baseline',
]

Baseline = Any


class FitDiagnostics(NamedTuple):
  """How well a baseline predicts the returns of a batch.

  Attributes:
    loss_before: mean squared error of the old state, in return units squared.
    loss_after: the same of the new state.
    explained_before: explained variance of the old state, that advantages
      of this batch were computed with.
    explained_after: the same of the new state.
  """

  loss_before: float
  loss_after: float
  explained_before: float
  explained_after: float


def explained_variance(predictions: np.ndarray, returns: np.ndarray) -> float:
  """1 - Var[returns - predictions] / Var[returns]; NaN for constant returns."""
  variance = returns.var()
  if variance == 0:
    return float('nan')
  return float(1 - (returns - predictions).var() / variance)


def fit(
  baseline: Baseline,
  state: Any,
  x: np.ndarray,
  timesteps: np.ndarray,
  returns: np.ndarray,
  rng: np.random.Generator,
  before: np.ndarray | None = None,
) -> tuple[Any, FitDiagnostics]:
  """Fits a baseline to a batch and measures it before and after.

  Args:
    baseline: what to fit.
    state: its state.
    x: float32 [N, O] normalised observations.
    timesteps: int [N].
    returns: float64 [N] targets.
    rng: source of the minibatches.
    before: float64 [N] the old state's predictions, if they are known.

  Returns:
    The new state and the diagnostics.
  """
  if before is None:
    before = baseline.predict(state, x, timesteps)
  state = baseline.fit(state, x, timesteps, returns, rng)
  after = baseline.predict(state, x, timesteps)
  return state, FitDiagnostics(
    float(np.square(before - returns).mean()),
    float(np.square(after - returns).mean()),
    explained_variance(before, returns),
    explained_variance(after, returns),
  )


class NoState(NamedTuple):
  """The state of a baseline that has none."""


class NoBaseline:
  """Predicts 0."""

  state_type = NoState

  def initial_state(self, rng: np.random.Generator) -> NoState:
    """No state."""
    del rng
    return NoState()

  def predict(self, state, x, timesteps) -> np.ndarray:
    """Zeros, float64 [N]."""
    del state, x
    return np.zeros(len(timesteps))

  def fit(self, state, x, timesteps, returns, rng) -> NoState:
    """Learns nothing."""
    del x, timesteps, returns, rng
    return state


class TimeState(NamedTuple):
  """Mean return of each time step.

  Attributes:
    means: float64 [H], for the H time steps seen; later ones predict the
      last.
  """

  means: np.ndarray


class TimeBaseline:
  """Predicts the mean return of a time step over the episodes of a batch."""

  state_type = TimeState

  def initial_state(self, rng: np.random.Generator) -> TimeState:
    """Predicts 0 at every step."""
    del rng
    return TimeState(np.zeros(1))

  def predict(self, state, x, timesteps) -> np.ndarray:
    """The mean of each row's time step, float64 [N]."""
    del x
    return state.means[np.minimum(timesteps, len(state.means) - 1)]

  def fit(self, state, x, timesteps, returns, rng) -> TimeState:
    """Averages this batch; a time step that it skips takes the one before."""
    del state, x, rng
    counts = np.bincount(timesteps)
    means = np.bincount(timesteps, returns) / np.maximum(counts, 1)
    seen = np.where(counts > 0, np.arange(len(counts)), 0)
    return TimeState(means[np.maximum.accumulate(seen)])


class LinearState(NamedTuple):
  """Weights of the linear baseline.

  Attributes:
    weights: float64 [2 O + 4].
  """

  weights: np.ndarray


class LinearBaseline:
  """Ridge regression on [o, o^2, t/100, (t/100)^2, (t/100)^3, 1].

  The features of Duan et al. 2016 (rllab); o is clipped to +-10.
  """

  state_type = LinearState

  def __init__(self, observation_size: int, ridge: float = 1e-5):
    """Args: width O; the ridge, added to the features' mean square."""
    self._observation_size = observation_size
    self._ridge = ridge

  def _features(self, x: np.ndarray, timesteps: np.ndarray) -> np.ndarray:
    o = np.clip(x.astype(np.float64), -10, 10)
    t = np.asarray(timesteps, np.float64)[:, np.newaxis] / 100
    return np.concatenate([o, o**2, t, t**2, t**3, np.ones_like(t)], axis=1)

  def initial_state(self, rng: np.random.Generator) -> LinearState:
    """Predicts 0."""
    del rng
    return LinearState(np.zeros(2 * self._observation_size + 4))

  def predict(self, state, x, timesteps) -> np.ndarray:
    """Features times weights, float64 [N]."""
    return self._features(x, timesteps) @ state.weights

  def fit(self, state, x, timesteps, returns, rng) -> LinearState:
    """Solves the regression on this batch alone."""
    del state, rng
    features = self._features(x, timesteps)
    # Scaled to unit mean square, so that the ridge means the same for all.
    scale = np.sqrt(np.square(features).mean(axis=0))
    scale[scale == 0] = 1
    scaled = features / scale
    gram = scaled.T @ scaled / len(x) + self._ridge * np.eye(scaled.shape[1])
    weights = np.linalg.solve(gram, scaled.T @ returns / len(x))
    return LinearState(weights / scale)


def make_baseline(settings: config.EstimatorConfig, network: Any) -> Baseline:
  """The baseline that settings.baseline names.

  Args:
    settings: which baseline, and its own settings.
    network: the policy's, whose inputs it sees.

  Returns:
    The baseline.

  Raises:
    UserError: a baseline that cannot see the policy's inputs.
  """
  if settings.baseline == 'linear' and not isinstance(network, mlp.MLP):
    raise UserError(
      '--baseline=linear is a regression on observations that are vectors: '
      'take --baseline=value_network or time'
    )
  makers = {
    'none': NoBaseline,
    'time': TimeBaseline,
    'linear': lambda: LinearBaseline(network.input_size),
    'value_network': lambda: value_network.ValueNetwork(settings, network),
  }
  return makers[settings.baseline]()
