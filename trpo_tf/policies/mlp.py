"""A multilayer perceptron on one flat parameter vector.

Layer i is h -> activation(h @ W_i + b_i); the last layer is linear. The flat
vector holds W_1 [in, out] row-major, b_1, W_2, b_2, ... so that [W_i; b_i] is
one contiguous [in + 1, out] matrix that multiplies [h, 1]: bias, weights and
their gradients are one matrix product each.
"""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from trpo_tf.policies import linearization

__all__ = ['ACTIVATIONS', 'MLP', 'activation_number', 'orthogonal']

# Each activation, and its derivative as a function of the activation's value.
ACTIVATIONS = {
  'tanh': (tf.tanh, lambda h: 1 - h * h),
  'softplus': (tf.math.softplus, lambda h: -tf.math.expm1(-h)),
  'relu': (tf.nn.relu, lambda h: tf.cast(h > 0, h.dtype)),
}

_NUMPY_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  'tanh': np.tanh,
  'softplus': lambda x: np.logaddexp(x, 0),
  'relu': lambda x: np.maximum(x, 0),
}


def activation_number(name: str) -> int:
  """Returns the number of an activation in csrc/policy.h."""
  return ('tanh', 'softplus', 'relu').index(name)


def _append_one(h: tf.Tensor) -> tf.Tensor:
  return tf.pad(h, [[0, 0], [0, 1]], constant_values=tf.ones([], h.dtype))


@dataclasses.dataclass(frozen=True)
class MLP:
  """Shape of a multilayer perceptron; its parameters are passed in.

  Attributes:
    input_size: width of an input.
    hidden_sizes: units of each hidden layer; () is a linear map.
    output_size: width M of an output.
    activation: activation of the hidden layers, a key of ACTIVATIONS.
  """

  input_size: int
  hidden_sizes: tuple[int, ...]
  output_size: int
  activation: str = 'tanh'

  def __post_init__(self):
    """Raises ValueError if the activation does not exist."""
    if self.activation not in ACTIVATIONS:
      raise ValueError(
        f'activation={self.activation!r}: choose one of {set(ACTIVATIONS)}'
      )

  @property
  def layer_shapes(self) -> tuple[tuple[int, int], ...]:
    """Shape (in + 1, out) of each layer's [W; b]."""
    sizes = (self.input_size, *self.hidden_sizes, self.output_size)
    return tuple((a + 1, b) for a, b in itertools.pairwise(sizes))

  @property
  def num_parameters(self) -> int:
    """Length P of the flat parameter vector."""
    return sum(a * b for a, b in self.layer_shapes)

  @property
  def activation_size(self) -> int:
    """Number of values that a forward pass computes for one state."""
    return sum(a + b for a, b in self.layer_shapes)

  @property
  def input_spec(self) -> tf.TensorSpec:
    """Specification of the inputs, float32 [N, input_size] for any N."""
    return tf.TensorSpec([None, self.input_size])

  def initial_parameters(
    self, rng: np.random.Generator, output_scale: float
  ) -> np.ndarray:
    """Draws orthogonal weights and zero biases.

    Args:
      rng: source of the weights.
      output_scale: gain of the output layer; the hidden layers' is sqrt(2).

    Returns:
      float32 [P].
    """
    parts = []
    last = len(self.layer_shapes) - 1
    for i, (rows, columns) in enumerate(self.layer_shapes):
      gain = output_scale if i == last else np.sqrt(2)
      parts += [gain * orthogonal(rng, rows - 1, columns), np.zeros(columns)]
    return np.concatenate([p.ravel() for p in parts]).astype(np.float32)

  def with_layers(
    self, hidden_sizes: tuple[int, ...], output_size: int, activation: str
  ) -> 'MLP':
    """Returns a network with the same inputs and new layers.

    Args:
      hidden_sizes: units of each hidden layer.
      output_size: width M of an output.
      activation: activation of the hidden layers.
    """
    return dataclasses.replace(
      self,
      hidden_sizes=hidden_sizes,
      output_size=output_size,
      activation=activation,
    )

  def layers(self, theta: tf.Tensor) -> list[tf.Tensor]:
    """Cuts theta [P] into the layers' [W; b], each [in + 1, out]."""
    sizes = [a * b for a, b in self.layer_shapes]
    parts = tf.split(theta, sizes)
    return [
      tf.reshape(p, s) for p, s in zip(parts, self.layer_shapes, strict=True)
    ]

  def outputs(self, theta: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Runs the network.

    Args:
      theta: [P] parameters.
      x: [N, input_size] inputs, of theta's dtype.

    Returns:
      [N, M] outputs, in theta's dtype.
    """
    function, _ = ACTIVATIONS[self.activation]
    *hidden, last = self.layers(theta)
    for layer in hidden:
      x = function(_append_one(x) @ layer)
    return _append_one(x) @ last

  def numpy_function(
    self, theta: np.ndarray
  ) -> Callable[[np.ndarray], np.ndarray]:
    """Makes a NumPy function of the network, which is faster for a few rows.

    Args:
      theta: float32 [P] parameters.

    Returns:
      A function that maps inputs float32 [S, input_size] to outputs float32
      [S, M]. A row's outputs are the same, bit for bit, whatever the other rows
      are.
    """
    activation = _NUMPY_ACTIVATIONS[self.activation]
    sizes = [a * b for a, b in self.layer_shapes]
    parts = np.split(theta, np.cumsum(sizes)[:-1])
    *hidden, last = (
      part.reshape(shape)
      for part, shape in zip(parts, self.layer_shapes, strict=True)
    )

    def outputs(x: np.ndarray) -> np.ndarray:
      # Rows are multiplied one by one, because a product of matrices sums in an
      # order that depends on the number of rows.
      x = x[:, np.newaxis]
      for layer in hidden:
        x = activation(x @ layer[:-1] + layer[-1])
      return (x @ last[:-1] + last[-1])[:, 0]

    return outputs

  def linearize(
    self, theta: tf.Tensor, x: tf.Tensor, keep: bool = True
  ) -> linearization.Linearization:
    """Runs the network and keeps what products with its Jacobian need.

    The activations and their derivatives are computed once. A product J v
    followed by J^T u then costs 1.3 times the multiply-adds of a gradient and
    no tanh.

    Args:
      theta: [P] parameters.
      x: [N, input_size] inputs, of theta's dtype.
      keep: not used: the activations are always kept.

    Returns:
      The Linearization at theta.
    """
    del keep
    function, derivative = ACTIVATIONS[self.activation]
    layers = self.layers(theta)
    inputs, slopes = [_append_one(x)], []
    for layer in layers[:-1]:
      h = function(inputs[-1] @ layer)
      slopes.append(derivative(h))
      inputs.append(_append_one(h))

    def jvp(v):
      tangents = self.layers(v)
      d = inputs[0] @ tangents[0]
      for i, slope in enumerate(slopes, start=1):
        # [h, 1, dh] @ [V; W] is one product where h @ V + dh @ W is two.
        both = tf.concat([inputs[i], slope * d], axis=1)
        d = both @ tf.concat([tangents[i], layers[i][:-1]], axis=0)
      return d

    def vjp(u):
      parts = []
      for i in reversed(range(len(layers))):
        parts.append(tf.matmul(inputs[i], u, transpose_a=True))
        if i:
          back = tf.matmul(u, layers[i][:-1], transpose_b=True)
          u = slopes[i - 1] * back
      return tf.concat([tf.reshape(p, [-1]) for p in reversed(parts)], axis=0)

    return linearization.Linearization(inputs[-1] @ layers[-1], jvp, vjp)


def orthogonal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
  """Draws a matrix with orthonormal rows or columns, uniformly.

  Args:
    rng: source of the matrix.
    rows: number of rows.
    columns: number of columns. The columns are orthonormal if they are no more
      than the rows; otherwise the rows are.

  Returns:
    float64 [rows, columns].
  """
  normal = rng.standard_normal((max(rows, columns), min(rows, columns)))
  q, r = np.linalg.qr(normal)
  q *= np.sign(np.diag(r))  # Makes the distribution uniform.
  return q if rows >= columns else q.T
