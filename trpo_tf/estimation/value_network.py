"""A value network on flat arrays, fitted by Adam in one compiled call.

The network predicts standardised returns. The statistics move with the returns,
and the output layer is rescaled so that no prediction changes when they do
(PopArt: van Hasselt et al. 2016).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from trpo_tf.config import EstimatorConfig
from trpo_tf.policies import graphs, mlp, stacks
from trpo_tf.policies.protocols import Inputs, Network

__all__ = ['ValueNetwork', 'ValueState', 'adam_step', 'padded', 'rescale']

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8

# The least weight of a new batch in the return statistics. They follow returns
# that grow with learning within a few iterations.
_STATISTICS_RATE = 0.2
_MIN_SCALE = 1e-6
_EQUAL = 1e-6  # deviation over size of returns that count as equal

# Rows are padded to a multiple of this: XLA compiles for one shape, and batches
# of whole episodes vary in size.
_CAPACITY = 4096


class ValueState(NamedTuple):
  """Everything that a value network carries between iterations.

  Attributes:
    theta: float32 [P], the network's parameters.
    first_moment: float32 [P], Adam's running mean of gradients.
    second_moment: float32 [P], Adam's running mean of squared gradients.
    adam_steps: int64 [], number of Adam steps so far.
    return_mean: float64 [], running mean of returns.
    return_square: float64 [], running mean of squared returns.
    fits: int64 [], number of batches seen.
  """

  theta: np.ndarray
  first_moment: np.ndarray
  second_moment: np.ndarray
  adam_steps: np.ndarray
  return_mean: np.ndarray
  return_square: np.ndarray
  fits: np.ndarray

  @property
  def return_scale(self) -> float:
    """Standard deviation of the returns; 1 before the first fit."""
    if self.fits == 0:
      return 1.0
    variance = self.return_square - self.return_mean**2
    return float(np.sqrt(np.maximum(variance, _MIN_SCALE**2)))


def rescale(
  theta: np.ndarray,
  width: int,
  old: tuple[float, float],
  new: tuple[float, float],
) -> np.ndarray:
  """Rewrites the output layer so that mean + scale * output stays the same.

  Args:
    theta: float32 [P]; its last width + 1 entries are the output layer's
      weights and bias.
    width: number of inputs of the output layer.
    old: mean and scale, in units of return, that theta predicts with.
    new: mean and scale that the result predicts with.

  Returns:
    float32 [P].
  """
  (old_mean, old_scale), (mean, scale) = old, new
  result = theta.astype(np.float64)
  result[-width - 1 :] *= old_scale / scale
  result[-1] += (old_mean - mean) / scale
  return result.astype(np.float32)


def adam_step(theta, m, v, gradient, count, rate):
  """Takes one step of Adam (Kingma and Ba 2015).

  Args:
    theta: float32 [P], parameters.
    m: float32 [P], first moment.
    v: float32 [P], second moment.
    gradient: float32 [P].
    count: float32 [], the number of this step; 1 at the first.
    rate: learning rate.

  Returns:
    The new theta, m and v, float32 [P] each.
  """
  m = _BETA1 * m + (1 - _BETA1) * gradient
  v = _BETA2 * v + (1 - _BETA2) * gradient * gradient
  first, second = 1 - _BETA1**count, 1 - _BETA2**count
  return theta - rate * (m / first) / (tf.sqrt(v / second) + _EPSILON), m, v


def _minibatches(
  rng: np.random.Generator, n: int, size: int, epochs: int
) -> np.ndarray:
  """Draws the rows of each Adam step, int32 [steps, size].

  Every epoch is a permutation of the rows, without those that do not fill a
  minibatch. A batch smaller than one minibatch repeats rows.
  """
  per_epoch = max(1, n // size)
  rows = [
    np.resize(rng.permutation(n), per_epoch * size) for _ in range(epochs)
  ]
  return np.concatenate(rows).reshape(-1, size).astype(np.int32)


class ValueNetwork:
  """Baseline that fits a network to value targets, see `Baseline`."""

  state_type = ValueState
  network: Network  # its only output is the standardised return

  def __init__(self, settings: EstimatorConfig, policy_network: Network):
    """Builds the network and compiles its fit.

    Args:
      settings: hidden layers, learning rate, epochs and minibatches.
      policy_network: the policy's network, whose inputs the baseline sees.
    """
    self._settings = settings
    self.network = policy_network.with_layers(
      settings.value_hidden_sizes, output_size=1, activation='tanh'
    )
    self._predict = graphs.compiled(
      self.network.outputs,
      input_signature=[
        tf.TensorSpec([self.network.num_parameters]),
        self.network.input_spec,
      ],
    )
    self._fit = _compile_fit(self.network, settings.value_learning_rate)

  def initial_state(self, rng: np.random.Generator) -> ValueState:
    """Draws orthogonal weights (output gain 1), with Adam at rest."""
    theta = self.network.initial_parameters(rng, 1.0)
    zeros, count = np.zeros_like(theta), np.zeros((), np.int64)
    return ValueState(
      theta, zeros, zeros, count, np.zeros(()), np.zeros(()), count
    )

  def gradient(
    self,
    theta: tf.Tensor,
    size: tf.Tensor,
    x: Inputs,
    targets: tf.Tensor,
    rows: tf.Tensor,
  ) -> tf.Tensor:
    """Differentiates half the squared errors of some rows, over a size.

    Args:
      theta: float32 [P].
      size: float32 [], what the sum of the gradients is divided by.
      x: inputs of N states.
      targets: float32 [N, 1], standardised.
      rows: int32 [n].

    Returns:
      float32 [P].
    """
    return _gradient(self.network, theta, x, targets, rows, size)

  def predict(
    self, state: ValueState, x: Inputs, timesteps: np.ndarray
  ) -> np.ndarray:
    """Predicts the return.

    Args:
      state: the baseline's state.
      x: inputs of N states, normalised.
      timesteps: not used.

    Returns:
      float64 [N], in units of return.
    """
    del timesteps
    outputs = self._predict(state.theta, x).numpy()[:, 0].astype(np.float64)
    return state.return_mean + state.return_scale * outputs

  def with_statistics(
    self, state: ValueState, mean: float, square: float
  ) -> ValueState:
    """Moves the statistics towards those of a batch, and not the predictions.

    Args:
      state: the baseline's state.
      mean: mean of the batch's returns.
      square: mean of their squares.

    Returns:
      The new state.
    """
    rate = max(1 / (1 + int(state.fits)), _STATISTICS_RATE)
    moved = state._replace(
      return_mean=state.return_mean + rate * (mean - state.return_mean),
      return_square=state.return_square + rate * (square - state.return_square),
      fits=state.fits + 1,
    )
    equal = max(_MIN_SCALE, _EQUAL * np.sqrt(square))
    if state.fits == 0 and moved.return_scale <= equal:
      return moved  # equal returns have no scale to rescale random weights to
    theta = rescale(
      state.theta,
      self.network.layer_shapes[-1][0] - 1,
      (float(state.return_mean), state.return_scale),
      (float(moved.return_mean), moved.return_scale),
    )
    return moved._replace(theta=theta)

  def fit(
    self,
    state: ValueState,
    x: Inputs,
    timesteps: np.ndarray,
    returns: np.ndarray,
    rng: np.random.Generator,
  ) -> ValueState:
    """Minimises the squared error to the returns by minibatch Adam.

    Args:
      state: the baseline's state.
      x: inputs of N states, normalised.
      timesteps: not used.
      returns: float64 [N], targets in units of return.
      rng: source of the minibatches.

    Returns:
      The new state.
    """
    del timesteps
    settings = self._settings
    n, size = len(returns), settings.value_minibatch
    squares = np.square(returns)
    state = self.with_statistics(state, returns.mean(), squares.mean())
    rows = _minibatches(rng, n, size, settings.value_epochs)
    targets = (returns - state.return_mean) / state.return_scale
    x = stacks.assembled(x, n)
    data: list[Any] = [x, targets.astype(np.float32)[:, np.newaxis], rows]
    if isinstance(self.network, mlp.MLP):
      capacity = -(-n // _CAPACITY) * _CAPACITY
      max_steps = max(1, capacity // size) * settings.value_epochs
      sizes = capacity, capacity, max_steps
      data = [padded(*pair) for pair in zip(data, sizes, strict=True)]
    moments = self._fit(
      state.theta,
      state.first_moment,
      state.second_moment,
      np.float32(state.adam_steps),
      np.int32(len(rows)),
      *data,
    )
    theta, first, second = (t.numpy() for t in moments)
    return state._replace(
      theta=theta,
      first_moment=first,
      second_moment=second,
      adam_steps=state.adam_steps + len(rows),
    )


def padded(array: np.ndarray, rows: int) -> np.ndarray:
  """Appends zeros to an array.

  Args:
    array: [n, ...].
    rows: number of rows of the result.
  """
  result = np.zeros((rows, *array.shape[1:]), array.dtype)
  result[: len(array)] = array
  return result


def _gradient(network, theta, x, targets, chosen, size):
  """Returns the gradient of half the squared errors of some rows over size."""
  linearized = network.linearize(theta, stacks.take(x, chosen))

  def cotangent(outputs, cut):
    return (outputs - cut(tf.gather(targets, chosen))) / size

  return linearized.product_of(cotangent)


def _compile_fit(network: Network, rate: float) -> Callable[..., Any]:
  """Compiles all Adam steps of a fit into one call, by XLA for an MLP.

  XLA fuses the elementwise work of a minibatch: 77 us a step (64-64, 128
  rows) against 190 us as an ordinary graph. Its convolutions are slower.
  """
  compiled = isinstance(network, mlp.MLP)

  @functools.partial(
    graphs.compiled, jit_compile=compiled, reduce_retracing=not compiled
  )
  def fit(theta, m, v, count, steps, x, targets, rows):
    def iteration(i, count, theta, m, v):
      chosen = rows[i]
      size = tf.cast(tf.shape(chosen)[0], tf.float32)
      gradient = _gradient(network, theta, x, targets, chosen, size)
      theta, m, v = adam_step(theta, m, v, gradient, count + 1, rate)
      return i + 1, count + 1, theta, m, v

    start = (tf.constant(0), count, theta, m, v)
    return tf.while_loop(lambda i, *_: i < steps, iteration, start)[2:]

  return fit
