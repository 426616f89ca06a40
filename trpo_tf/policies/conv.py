"""A convolutional network on one flat parameter vector.

Convolutions of 4 x 4 with stride 2 and no padding come first and an MLP follows
(section 8.2 of the paper). The flat vector holds each convolution's kernel
[4, 4, in, out] row-major and its bias, and then the MLP's parameters. A
convolution thus has the layout of an MLP's layer that sees patches.

The activations of a state take 44 KB and those of a batch gigabytes. A batch
therefore goes through the network in chunks, and products with the Jacobian run
the network again unless they are told to keep its activations.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from trpo_tf.errors import UserError
from trpo_tf.policies import chunks, layers, linearization, mlp, stacks
from trpo_tf.policies.layers import KERNEL, STRIDE, Layer
from trpo_tf.policies.protocols import Inputs
from trpo_tf.policies.stacks import FrameStacks

__all__ = ['ConvNet']


@dataclasses.dataclass(frozen=True)
class ConvNet:
  """Shape of a convolutional network; its parameters are passed in.

  Attributes:
    input_shape: height H, width W and frames C of an observation, or channels.
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
      UserError: there is no convolution, or there are too many for a frame.
    """
    flag = f'--conv_filters={",".join(map(str, self.filters))}'
    if not self.filters:
      raise UserError(f'{flag}: at least one convolution is needed')
    if min(self._sizes[-1]) < 1:
      other = 'fewer' if min(self._sizes[1]) > 0 else 'larger frames'
      raise UserError(
        f'{flag}: so many convolutions leave nothing of '
        f'{self.input_shape[0]} x {self.input_shape[1]} pixels; take {other}'
      )

  @property
  def input_size(self) -> int:
    """Number of values in an observation: H * W * C."""
    return int(np.prod(self.input_shape))

  @property
  def input_spec(self) -> FrameStacks:
    """Specification of the inputs of any number of states."""
    height, width, channels = self.input_shape
    return FrameStacks(
      tf.TensorSpec([None, height // 2, width // 2], tf.int32),
      tf.TensorSpec([None, channels], tf.int32),
    )

  @property
  def _sizes(self) -> list[tuple[int, ...]]:
    """Heights and widths before, between and after the convolutions."""
    sizes: list[tuple[int, ...]] = [self.input_shape[:2]]
    for _ in self.filters:
      sizes.append(tuple((n - KERNEL) // STRIDE + 1 for n in sizes[-1]))
    return sizes

  @property
  def _seen(self) -> list[tuple[int, ...]]:
    """What the last convolution depends on of every size in `_sizes`."""
    sizes = [self._sizes[-1]]
    for _ in self.filters:
      sizes.append(tuple((n - 1) * STRIDE + KERNEL for n in sizes[-1]))
    return sizes[::-1]

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
      (KERNEL**2 * a + 1, b) for a, b in itertools.pairwise(channels)
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
    """Runs the network on a few observations, by its definition.

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
      kernel = tf.reshape(layer[:-filters], [KERNEL, KERNEL, -1, filters])
      convolved = tf.nn.conv2d(h, kernel, STRIDE, 'VALID')
      h = function(convolved + layer[-filters:])
    return self.head.outputs(head, tf.reshape(h, [-1, self.head.input_size]))

  def outputs(self, theta: tf.Tensor, x: Inputs) -> tf.Tensor:
    """Runs the network.

    Args:
      theta: [P] parameters.
      x: FrameStacks of N observations, or their cells.

    Returns:
      [N, M] outputs, in theta's dtype.
    """
    cut = self._layers(theta)
    return self._concatenated(lambda i: self._forward(cut, x, i)[1], theta, x)

  def linearize(
    self, theta: tf.Tensor, x: Inputs, keep: bool = False
  ) -> linearization.Linearization:
    """Linearises the outputs.

    Args:
      theta: [P] parameters.
      x: FrameStacks of N observations, or their cells.
      keep: whether to keep the activations; otherwise each product runs the
        network again.

    Returns:
      The Linearization at theta.
    """
    cut = self._layers(theta)
    if keep:
      outputs, inputs = self._kept(cut, x)
    else:
      outputs = self.outputs(theta, x)

      def inputs(i):
        return self._forward(cut, x, i)[0]

    def jvp(v):
      tangents = self._layers(v)
      return self._concatenated(
        lambda i: layers.jvp(cut, inputs(i), self.activation, tangents),
        theta,
        x,
      )

    def vjp(u):
      def add(total, i):
        part = layers.vjp(cut, inputs(i), self.activation, chunks.cut(u, i))
        return tf.nest.map_structure(tf.add, total, part)

      total = chunks.fold(add, self._zeros(cut), _num_states(x))
      return self._flat(theta, total)

    def pullback(cotangent, start):
      def add(result, i):
        outputs, total, sums = result
        inputs, found = self._forward(cut, x, i)
        u, terms = cotangent(found, lambda t: chunks.cut(t, i))
        part = layers.vjp(cut, inputs, self.activation, u)
        total, sums = tf.nest.map_structure(
          tf.add, (total, sums), (part, terms)
        )
        return outputs.write(i, found), total, sums

      empty = self._empty(theta, x)
      outputs, total, sums = chunks.fold(
        add, (empty, self._zeros(cut), start), _num_states(x)
      )
      return outputs.concat(), self._flat(theta, total), sums

    return linearization.Linearization(outputs, jvp, vjp, pullback)

  def _layers(self, theta: tf.Tensor) -> list[Layer]:
    """Cuts theta [P] into the layers, the first one for cells of bytes."""
    parts = tf.split(theta, [math.prod(shape) for shape in self.layer_shapes])
    found = []
    for part, (_, units) in zip(parts, self.layer_shapes, strict=True):
      kernel = tf.reshape(part[:-units], [-1, units])
      found.append(Layer(kernel, part[-units:]))
    for i, filters in enumerate(self.filters):
      shape = [KERNEL, KERNEL, -1, filters]
      found[i] = found[i]._replace(kernel=tf.reshape(found[i].kernel, shape))
    (kernel, bias), filters = found[0], self.filters[0]
    cells = tf.reshape(kernel / 255, [2, 2, 2, 2, -1, filters])
    cells = tf.transpose(cells, [0, 2, 4, 1, 3, 5])
    return [Layer(tf.reshape(cells, [2, 2, -1, filters]), bias), *found[1:]]

  def _flat(self, theta: tf.Tensor, gradient: list[Layer]) -> tf.Tensor:
    """Turns a gradient in the layers into one in theta, [P]."""
    with tf.GradientTape() as tape:
      tape.watch(theta)
      cut = self._layers(theta)
    return tape.gradient(cut, theta, output_gradients=gradient)

  def _zeros(self, cut: list[Layer]) -> list[Layer]:
    return tf.nest.map_structure(tf.zeros_like, cut)

  def _forward(
    self, cut: list[Layer], x: Inputs, i: tf.Tensor
  ) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Runs the network on chunk i, see `layers.forward`."""
    height, width = self._seen[0]
    cells = stacks.cells(chunks.cut(x, i))
    seen = cells[:, : height // 2, : width // 2]
    return layers.forward(cut, seen, self.activation)

  def _kept(
    self, cut: list[Layer], x: Inputs
  ) -> tuple[tf.Tensor, Callable[[tf.Tensor], list[tf.Tensor]]]:
    """Runs the network and keeps the inputs of each layer.

    Args:
      cut: the parameters.
      x: N observations.

    Returns:
      The outputs [N, M], and a function that maps the number of a chunk to its
      inputs of each layer.
    """
    n, dtype = _num_states(x), cut[0].bias.dtype
    (height, width), *sizes = self._seen
    convolved = zip(sizes, self.filters, strict=True)
    shapes: list[tuple[int, ...]] = [
      *((*size, filters) for size, filters in convolved),
      *((units,) for units in self.hidden_sizes),
      (self.output_size,),
    ]
    cells = height // 2, width // 2, 4 * self.input_shape[2]
    arrays = [chunks.array(n, dtype, shape) for shape in (cells, *shapes)]

    def write(arrays, i):
      (pixels, *inputs), outputs = self._forward(cut, x, i)
      values = [tf.cast(pixels, dtype), *inputs, outputs]
      pairs = zip(arrays, values, strict=True)
      return [array.write(i, value) for array, value in pairs]

    *inputs, outputs = (a.concat() for a in chunks.fold(write, arrays, n))
    return outputs, lambda i: [chunks.cut(t, i) for t in inputs]

  def _empty(self, theta: tf.Tensor, x: Inputs) -> tf.TensorArray:
    return chunks.array(_num_states(x), theta.dtype, (self.output_size,))

  def _concatenated(
    self,
    function: Callable[[tf.Tensor], tf.Tensor],
    theta: tf.Tensor,
    x: Inputs,
  ) -> tf.Tensor:
    """Concatenates the values [n, M] of a function of a chunk's number."""
    return chunks.fold(
      lambda parts, i: parts.write(i, function(i)),
      self._empty(theta, x),
      _num_states(x),
    ).concat()


def _num_states(x: Inputs) -> tf.Tensor:
  return tf.shape(x.rows if isinstance(x, FrameStacks) else x)[0]
