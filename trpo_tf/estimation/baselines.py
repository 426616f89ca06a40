"""Baselines: predictions of the return, fitted after each batch."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from trpo_tf.config import EstimatorConfig
from trpo_tf.errors import UserError
from trpo_tf.estimation import value_network
from trpo_tf.policies import mlp
from trpo_tf.policies.protocols import Inputs, Network

__all__ = [
  'Baseline',
  'FitDiagnostics',
  'LinearBaseline',
  'NoBaseline',
  'TimeBaseline',
  'explained_variance',
  'fit',
  'make_baseline',
  'means_by_time',
]


class Baseline(Protocol):
  """A prediction of the return as a function of state and time step.

  A baseline has no state of its own. Its state is a NamedTuple of arrays that
  is passed in, and `fit` returns a new one.
  """

  @property
  def state_type(self) -> type:
    """The NamedTuple of the state, whose fields are NumPy arrays."""

  def initial_state(self, rng: np.random.Generator) -> Any:
    """Returns the state before any batch; `rng` draws initial values."""

  def predict(self, state: Any, x: Inputs, timesteps: np.ndarray) -> np.ndarray:
    """Predicts the return.

    Args:
      state: the baseline's state.
      x: inputs of N states, normalised.
      timesteps: int [N], step within the episode.

    Returns:
      float64 [N], in units of return.
    """

  def fit(
    self,
    state: Any,
    x: Inputs,
    timesteps: np.ndarray,
    returns: np.ndarray,
    rng: np.random.Generator,
  ) -> Any:
    """Fits the baseline to a batch.

    Args:
      state: the baseline's state.
      x: inputs of N states, normalised.
      timesteps: int [N], step within the episode.
      returns: float64 [N], targets in units of return.
      rng: source of the minibatches.

    Returns:
      The new state.
    """


class FitDiagnostics(NamedTuple):
  """How well a baseline predicts the returns of a batch.

  Attributes:
    explained_before: explained variance of the old state, with which the
      advantages of this batch were computed.
    loss_after: mean squared error of the new state, in return units squared.
  """

  explained_before: float
  loss_after: float


def explained_variance(predictions: np.ndarray, returns: np.ndarray) -> float:
  """Computes 1 - Var[returns - predictions] / Var[returns].

  Args:
    predictions: float64 [N], in units of return.
    returns: float64 [N].

  Returns:
    The explained variance; NaN where the returns are constant.
  """
  variance = returns.var()
  if variance == 0:
    return float('nan')
  return float(1 - (returns - predictions).var() / variance)


def fit(
  baseline: Baseline,
  state: Any,
  x: Inputs,
  timesteps: np.ndarray,
  returns: np.ndarray,
  rng: np.random.Generator,
  before: np.ndarray | None = None,
) -> tuple[Any, FitDiagnostics]:
  """Fits a baseline to a batch and measures it before and after.

  Args:
    baseline: the baseline.
    state: its state.
    x: inputs of N states, normalised.
    timesteps: int [N], step within the episode.
    returns: float64 [N], targets in units of return.
    rng: source of the minibatches.
    before: float64 [N], the old state's predictions, if they are known.

  Returns:
    The new state and the diagnostics.
  """
  if before is None:
    before = baseline.predict(state, x, timesteps)
  state = baseline.fit(state, x, timesteps, returns, rng)
  after = baseline.predict(state, x, timesteps)
  return state, FitDiagnostics(
    explained_variance(before, returns),
    float(np.square(after - returns).mean()),
  )


class NoState(NamedTuple):
  """The state of a baseline that has none."""


class NoBaseline:
  """Predicts 0. Arguments are those of `Baseline`."""

  state_type = NoState

  def initial_state(self, rng: np.random.Generator) -> NoState:
    """Returns an empty state."""
    del rng
    return NoState()

  def predict(
    self, state: NoState, x: Inputs, timesteps: np.ndarray
  ) -> np.ndarray:
    """Returns zeros, float64 [N]."""
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
    """Returns the state as it is."""
    del x, timesteps, returns, rng
    return state


class TimeState(NamedTuple):
  """Mean return of each time step.

  Attributes:
    means: float64 [H], for the H time steps seen; the last one is predicted for
      all later steps.
  """

  means: np.ndarray


def means_by_time(timesteps: np.ndarray, returns: np.ndarray) -> np.ndarray:
  """Averages returns by time step.

  Args:
    timesteps: int [N], step within the episode.
    returns: float64 [N].

  Returns:
    float64 [H], where H is the largest time step plus one. A time step that
    does not occur takes the mean of the one before.
  """
  counts = np.bincount(timesteps)
  means = np.bincount(timesteps, returns) / np.maximum(counts, 1)
  seen = np.where(counts > 0, np.arange(len(counts)), 0)
  return means[np.maximum.accumulate(seen)]


class TimeBaseline:
  """Predicts the mean return of a time step over the episodes of a batch.

  Arguments are those of `Baseline`.
  """

  state_type = TimeState

  def initial_state(self, rng: np.random.Generator) -> TimeState:
    """Returns a state that predicts 0 at every step."""
    del rng
    return TimeState(np.zeros(1))

  def predict(
    self, state: TimeState, x: Inputs, timesteps: np.ndarray
  ) -> np.ndarray:
    """Returns the mean of each row's time step, float64 [N]."""
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
    """Returns the means of this batch alone."""
    del state, x, rng
    return TimeState(means_by_time(timesteps, returns))


class LinearState(NamedTuple):
  """Weights of the linear baseline.

  Attributes:
    weights: float64 [2 O + 4].
  """

  weights: np.ndarray


class LinearBaseline:
  """Ridge regression on [o, o^2, t/100, (t/100)^2, (t/100)^3, 1].

  The features are those of Duan et al. 2016 (rllab); o is clipped to +-10.
  Arguments are those of `Baseline`.
  """

  state_type = LinearState

  def __init__(self, observation_size: int, ridge: float = 1e-5):
    """Sets the size and the penalty.

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

  def predict(
    self, state: LinearState, x: Inputs, timesteps: np.ndarray
  ) -> np.ndarray:
    """Returns features times weights, float64 [N]; x is float32 [N, O]."""
    return self._features(x, timesteps) @ state.weights

  def fit(
    self,
    state: LinearState,
    x: Inputs,
    timesteps: np.ndarray,
    returns: np.ndarray,
    rng: np.random.Generator,
  ) -> LinearState:
    """Solves the regression on this batch alone; x is float32 [N, O]."""
    del state, rng
    features = self._features(x, timesteps)
    # Features of unit mean square, so that the ridge means the same for all.
    scale = np.sqrt(np.square(features).mean(axis=0))
    scale[scale == 0] = 1
    scaled = features / scale
    gram = scaled.T @ scaled / len(scaled) + self._ridge * np.eye(
      scaled.shape[1]
    )
    weights = np.linalg.solve(gram, scaled.T @ returns / len(scaled))
    return LinearState(weights / scale)


def make_baseline(settings: EstimatorConfig, network: Network) -> Baseline:
  """Makes the baseline that settings.baseline names.

  Args:
    settings: which baseline, and its own settings.
    network: the policy's network, whose inputs the baseline sees.

  Returns:
    The baseline.

  Raises:
    UserError: the baseline cannot see the policy's inputs.
  """
  if settings.baseline == 'linear' and not isinstance(network, mlp.MLP):
    raise UserError(
      '--baseline=linear is a regression on observations that are vectors: '
      'take --baseline=value_network or time'
    )
  makers: dict[str, Callable[[], Baseline]] = {
    'none': NoBaseline,
    'time': TimeBaseline,
    'linear': lambda: LinearBaseline(network.input_size),
    'value_network': lambda: value_network.ValueNetwork(settings, network),
  }
  return makers[settings.baseline]()
