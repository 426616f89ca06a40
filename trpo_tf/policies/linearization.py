"""The derivative of a network at one parameter vector, as two products."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

__all__ = ['Linearization', 'linearize_autodiff']


class Linearization(NamedTuple):
  """A network's outputs at theta and products with their Jacobian J.

  Attributes:
    outputs: [N, M] network outputs.
    jvp: maps v [P] to J v, [N, M].
    vjp: maps u [N, M] to the sum over states J^T u, [P].
  """

  outputs: tf.Tensor
  jvp: Callable[[tf.Tensor], tf.Tensor]
  vjp: Callable[[tf.Tensor], tf.Tensor]


def linearize_autodiff(
  outputs: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
  theta: tf.Tensor,
  x: tf.Tensor,
) -> Linearization:
  """Linearises any network by automatic differentiation.

  Forward mode runs the network again in each `jvp`; `MLP.linearize` keeps the
  activations instead and is what the trust-region step uses for an MLP.

  Args:
    outputs: maps (theta [P], x [N, ...]) to [N, M].
    theta: [P] parameters.
    x: [N, ...] inputs.

  Returns:
    The Linearization at theta.
  """

  def jvp(v):
    with tf.autodiff.ForwardAccumulator(theta, v) as accumulator:
      value = outputs(theta, x)
    return accumulator.jvp(value, tf.UnconnectedGradients.ZERO)

  def vjp(u):
    with tf.GradientTape() as tape:
      tape.watch(theta)
      value = outputs(theta, x)
    return tape.gradient(value, theta, output_gradients=u)

  return Linearization(outputs(theta, x), jvp, vjp)
