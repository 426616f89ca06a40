"""The layers of a convolutional network, and products with its Jacobian.

Everything here sees a chunk of n states, whose activations are in memory.
"""

from typing import NamedTuple

import tensorflow as tf

from trpo_tf.policies import mlp

__all__ = ['KERNEL', 'STRIDE', 'Layer', 'forward', 'jvp', 'vjp']

KERNEL, STRIDE = 4, 2  # of a convolution, in pixels

# A tangent or cotangent through an activation, by the activation's value.
_SLOPES = {
  'tanh': lambda h, d: tf.raw_ops.TanhGrad(y=h, dy=d),
  'softplus': lambda h, d: -tf.math.expm1(-h) * d,
  'relu': lambda h, d: tf.raw_ops.ReluGrad(gradients=d, features=h),
}


class Layer(NamedTuple):
  """The parameters of a layer, or a vector of their shape.

  Attributes:
    kernel: [height, width, in, out] of a convolution, [in, out] of the MLP.
    bias: [out].
  """

  kernel: tf.Tensor
  bias: tf.Tensor


def _linear(kernel: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
  """Convolves h with a kernel, or multiplies it by a matrix."""
  if kernel.shape.rank == 2:
    return tf.reshape(h, [-1, kernel.shape[0]]) @ kernel
  # the first kernel counts in cells, which are as wide as the stride
  stride = STRIDE if kernel.shape[0] == KERNEL else 1
  return tf.nn.conv2d(h, kernel, stride, 'VALID')


def _affine(layer: Layer, h: tf.Tensor) -> tf.Tensor:
  return tf.nn.bias_add(_linear(layer.kernel, h), layer.bias)


def forward(
  layers: list[Layer], cells: tf.Tensor, activation: str
) -> tuple[list[tf.Tensor], tf.Tensor]:
  """Runs the network.

  Args:
    layers: the parameters.
    cells: uint8 [n, Y, X, 4 * C].
    activation: of all layers but the last.

  Returns:
    The inputs of each layer, of the first one as bytes, and the outputs [n, M].
  """
  function, _ = mlp.ACTIVATIONS[activation]
  h, inputs = tf.cast(cells, layers[0].bias.dtype), [cells]
  for layer in layers[:-1]:
    h = function(_affine(layer, h))
    inputs.append(h)
  return inputs, _affine(layers[-1], h)


def jvp(
  layers: list[Layer],
  inputs: list[tf.Tensor],
  activation: str,
  tangents: list[Layer],
) -> tf.Tensor:
  """Computes J v.

  Args:
    layers: the parameters.
    inputs: of each layer, see `forward`.
    activation: of all layers but the last.
    tangents: v, as layers.

  Returns:
    [n, M].
  """
  d = _affine(tangents[0], tf.cast(inputs[0], layers[0].bias.dtype))
  for layer, h, tangent in zip(
    layers[1:], inputs[1:], tangents[1:], strict=True
  ):
    through = _SLOPES[activation](h, d)
    d = _affine(tangent, h) + _linear(layer.kernel, through)
  return d


def vjp(
  layers: list[Layer],
  inputs: list[tf.Tensor],
  activation: str,
  u: tf.Tensor,
) -> list[Layer]:
  """Computes J^T u.

  Args:
    layers: the parameters.
    inputs: of each layer, see `forward`.
    activation: of all layers but the last.
    u: [n, M].

  Returns:
    The product, as layers.
  """
  parts: list[Layer] = []
  for i in reversed(range(len(layers))):
    h = inputs[i] if i else tf.cast(inputs[0], u.dtype)
    with tf.GradientTape() as tape:
      tape.watch((layers[i], h))
      z = _affine(layers[i], h)
    # pixels need no gradient
    sources = (layers[i], h) if i else (layers[i],)
    part, *back = tape.gradient(z, sources, output_gradients=u)
    parts.insert(0, part)
    if back:
      u = _SLOPES[activation](h, back[0])
  return parts
