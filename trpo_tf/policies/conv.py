"""A convolutional network on one flat parameter vector.

Convolutions of 4 x 4 with stride 2 and no padding come first and an MLP follows
(section 8.2 of the paper). The flat vector holds each convolution's kernel
[4, 4, in, out] row-major and its bias, and then the MLP's parameters. A
convolution thus has the layout of an MLP's layer that sees patches.

The activations of a state take 36 KB and those of a batch gigabytes. A batch
therefore goes through the network in chunks, one after the other, and products
with the Jacobian run the network again instead of keeping its activations.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from trpo_tf.errors import UserError
from trpo_tf.policies import linearization, mlp, stacks
from trpo_tf.policies.protocols import Inputs
from trpo_tf.policies.stacks import FrameStacks

__all__ = ['STRIDE', 'ConvNet']

_KERNEL, STRIDE = 4, 2
_CHUNK = 256  # states, whose activations fit into the cache


@dataclasses.dataclass(frozen=True)
class ConvNet:
  """Shape of a convolutional network; its parameters are passed in.

  Attributes:
    input_shape: height H, width W and frames C of an observation.
    filters: number of filters of each convolution.
    hidden_sizes: units of each hidden layer of the MLP.
    output_size: width M of an output.
    activation: activation of all layers but the last, a key of
      mlp.ACTIVATIONS.
  """

  input_shape: tuple[int, int, int]
  filters: tuple[int, ...]
  hidden_sizes: tuple[int, ...]
  output_size: int
  activation: str = 'tanh'

  def __post_init__(self):
    """Checks the convolutions.

    Raises:
      UserError: there is no convolution, or so many that nothing is left of a
        frame.
    """
    flag = f'--conv_filters={",".join(map(str, self.filters))}'
    if not self.filters:
      raise UserError(f'{flag}: at least one convolution is needed')
    if min(self._sizes[-1]) < 1:
      raise UserError(
        f'{flag}: so many convolutions leave nothing of '
        f'{self.input_shape[0]} x {self.input_shape[1]} pixels; take fewer'
      )

  @property
  def input_size(self) -> int:
    """Number of values in an observation: H * W * C."""
    return int(np.prod(self.input_shape))

  @property
  def input_spec(self) -> FrameStacks:
    """Specification of the inputs of any number of states."""
    *shape, channels = self.input_shape
    return FrameStacks(
      tf.TensorSpec([None, *shape], tf.uint8),
      tf.TensorSpec([None, channels], tf.int32),
    )

  @property
  def _sizes(self) -> list[tuple[int, ...]]:
    """Heights and widths before, between and after the convolutions."""
    sizes: list[tuple[int, ...]] = [self.input_shape[:2]]
    for _ in self.filters:
      sizes.append(tuple((n - _KERNEL) // STRIDE + 1 for n in sizes[-1]))
    return sizes

  @functools.cached_property
  def head(self) -> mlp.MLP:
    """The MLP that follows the convolutions."""
    channels = (self.input_shape[2], *self.filters)[-1]
    features = channels * int(np.prod(self._sizes[-1]))
    return mlp.MLP(
      features, self.hidden_sizes, self.output_size, self.activation
    )

  @property
  def _kernel_shapes(self) -> tuple[tuple[int, int], ...]:
    """Shape (4 * 4 * in + 1, out) of each convolution's [W; b]."""
    channels = (self.input_shape[2], *self.filters)
    return tuple(
      (_KERNEL**2 * a + 1, b) for a, b in itertools.pairwise(channels)
    )

  @property
  def layer_shapes(self) -> tuple[tuple[int, int], ...]:
    """Shape (in + 1, out) of each layer's [W; b]."""
    return (*self._kernel_shapes, *self.head.layer_shapes)

  @property
  def num_parameters(self) -> int:
    """Length P of the flat parameter vector."""
    return sum(a * b for a, b in self.layer_shapes)

  @property
  def activation_size(self) -> int:
    """Number of values that a forward pass computes for one state."""
    maps = zip(self.filters, self._sizes[1:], strict=True)
    convolved = sum(n * math.prod(size) for n, size in maps)
    return self.input_size + convolved + self.head.activation_size

  def initial_parameters(
    self, rng: np.random.Generator, output_scale: float
  ) -> np.ndarray:
    """Draws orthogonal weights and zero biases, as `MLP` does.

    Args:
      rng: source of the weights.
      output_scale: gain of the output layer; the other layers' is sqrt(2).

    Returns:
      float32 [P].
    """
    kernels = [
      np.append(
        np.sqrt(2) * mlp.orthogonal(rng, rows - 1, columns), np.zeros(columns)
      )
      for rows, columns in self._kernel_shapes
    ]
    head = self.head.initial_parameters(rng, output_scale)
    return np.concatenate([*kernels, head]).astype(np.float32)

  def with_layers(
    self, hidden_sizes: tuple[int, ...], output_size: int, activation: str
  ) -> 'ConvNet':
    """Returns a network with the same convolutions and a new MLP.

    Args:
      hidden_sizes: units of each hidden layer of the MLP.
      output_size: width M of an output.
      activation: activation of all layers but the last.
    """
    return dataclasses.replace(
      self,
      hidden_sizes=hidden_sizes,
      output_size=output_size,
      activation=activation,
    )

  def pixel_outputs(self, theta: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """Runs the network on a few observations.

    Args:
      theta: [P] parameters.
      pixels: uint8 [n, H, W, C].

    Returns:
      [n, M] outputs, in theta's dtype.
    """
    function, _ = mlp.ACTIVATIONS[self.activation]
    sizes = [a * b for a, b in self._kernel_shapes]
    *kernels, head = tf.split(theta, [*sizes, self.head.num_parameters])
    h = tf.cast(pixels, theta.dtype) / 255
    for layer, filters in zip(kernels, self.filters, strict=True):
      kernel = tf.reshape(layer[:-filters], [_KERNEL, _KERNEL, -1, filters])
      convolved = tf.nn.conv2d(h, kernel, STRIDE, 'VALID')
      h = function(convolved + layer[-filters:])
    return self.head.outputs(head, tf.reshape(h, [-1, self.head.input_size]))

  def outputs(self, theta: tf.Tensor, x: Inputs) -> tf.Tensor:
    """Runs the network.

    Args:
      theta: [P] parameters.
      x: FrameStacks of N observations.

    Returns:
      [N, M] outputs, in theta's dtype.
    """
    return self._concatenated(
      lambda part: self.pixel_outputs(theta, part),
      _frame_stacks(x),
      theta.dtype,
    )

  def linearize(
    self, theta: tf.Tensor, x: Inputs
  ) -> linearization.Linearization:
    """Linearises the outputs; products with many states run the network again.

    Args:
      theta: [P] parameters.
      x: FrameStacks of N observations.

    Returns:
      The Linearization at theta.
    """
    x = _frame_stacks(x)
    outputs, n = self.pixel_outputs, x.rows.shape[0]
    if n is not None and n <= _CHUNK:
      return linearization.linearize_autodiff(outputs, theta, stacks.pixels(x))

    def jvp(v):
      return self._concatenated(
        lambda part: linearization.jvp(outputs, theta, part, v), x, theta.dtype
      )

    def vjp(u):
      def add(total, chunk):
        part = stacks.pixels(x._replace(rows=x.rows[chunk]))
        return total + linearization.vjp(outputs, theta, part, u[chunk])

      return _fold(add, tf.zeros_like(theta), x)

    return linearization.Linearization(self.outputs(theta, x), jvp, vjp)

  def _concatenated(
    self,
    function: Callable[[tf.Tensor], tf.Tensor],
    x: FrameStacks,
    dtype: tf.DType,
  ) -> tf.Tensor:
    """Applies a function from pixels [n, H, W, C] to [n, M] to all of x."""

    def write(parts, chunk):
      part = stacks.pixels(x._replace(rows=x.rows[chunk]))
      return parts.write(chunk.start // _CHUNK, function(part))

    empty = tf.TensorArray(
      dtype,
      size=0,
      dynamic_size=True,
      infer_shape=False,
      element_shape=[None, self.output_size],
    )
    return _fold(write, empty, x).concat()


def _frame_stacks(x: Inputs) -> FrameStacks:
  if not isinstance(x, FrameStacks):
    raise TypeError(f'a ConvNet takes FrameStacks, not a {type(x).__name__}')
  return x


def _fold(add: Callable[[Any, slice], Any], start: Any, x: FrameStacks) -> Any:
  """Folds a function over the chunks of x, so that memory holds only one.

  Args:
    add: maps the result so far and the slice of the next chunk's rows to the
      new result.
    start: the result before any chunk.
    x: N observations.

  Returns:
    The result after the last chunk.
  """
  n = tf.shape(x.rows)[0]

  def body(begin, result):
    return begin + _CHUNK, add(result, slice(begin, begin + _CHUNK))

  return tf.while_loop(
    lambda begin, _: begin < n, body, (0, start), parallel_iterations=1
  )[1]
