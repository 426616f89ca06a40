"""Baselines: predictions of the return, fitted after each batch."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from trpo_tf.config import EstimatorConfig
from trpo_tf.errors import UserError
from trpo_tf.estimation import value_network
from trpo_tf.estimation.closed_form import (
  LinearBaseline,
  NoBaseline,
  TimeBaseline,
)
from trpo_tf.policies.protocols import Inputs, Network
from trpo_tf.policies.stacks import FrameStacks

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


State = TypeVar('State')  # a NamedTuple of NumPy arrays


class Baseline(Protocol[State]):
  """A prediction of the return as a function of state and time step.

  A baseline has no state of its own. Its state is a NamedTuple of arrays that
  is passed in, and `fit` returns a new one.
  """

  @property
  def state_type(self) -> type[State]:
    """The NamedTuple of the state, whose fields are NumPy arrays."""

  def initial_state(self, rng: np.random.Generator) -> State:
    """Returns the state before any batch; `rng` draws initial values."""

  def predict(
    self, state: State, x: Inputs, timesteps: np.ndarray
  ) -> np.ndarray:
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
    state: State,
    x: Inputs,
    timesteps: np.ndarray,
    returns: np.ndarray,
    rng: np.random.Generator,
  ) -> State:
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
  """The quality of a baseline's predictions on a batch.

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
    The explained variance; NaN where the returns are constant to rounding.
  """
  largest = np.abs(returns).max(initial=0.0)
  if returns.std() <= len(returns) * np.finfo(np.float64).eps * largest:
    return float('nan')
  return float(1 - (returns - predictions).var() / returns.var())


def fit(
  baseline: Baseline[State],
  state: State,
  x: Inputs,
  timesteps: np.ndarray,
  returns: np.ndarray,
  rng: np.random.Generator,
  before: np.ndarray | None = None,
) -> tuple[State, FitDiagnostics]:
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
  if settings.baseline == 'linear' and isinstance(
    network.input_spec, FrameStacks
  ):
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
