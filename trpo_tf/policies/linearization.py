"""The derivative of a network at one parameter vector, as two products."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

__all__ = ['Linearization', 'jvp', 'linearize_autodiff', 'vjp']


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


def jvp(
  outputs: Callable[[tf.Tensor, Any], tf.Tensor],
  theta: tf.Tensor,
  x: Any,
  v: tf.Tensor,
) -> tf.Tensor:
  """J v by forward-mode automatic differentiation.

  Args:
    outputs: maps (theta [P], x of N states) to [N, M].
    theta: [P] parameters.
    x: inputs.
    v: [P].

  Returns:
    [N, M].
  """
  with tf.autodiff.ForwardAccumulator(theta, v) as accumulator:
    value = outputs(theta, x)
  return accumulator.jvp(value, tf.UnconnectedGradients.ZERO)


def vjp(
  outputs: Callable[[tf.Tensor, Any], tf.Tensor],
  theta: tf.Tensor,
  x: Any,
  u: tf.Tensor,
) -> tf.Tensor:
  """The sum over states of J^T u by reverse-mode automatic differentiation.

  Args:
    outputs: maps (theta [P], x of N states) to [N, M].
    theta: [P] parameters.
    x: inputs.
    u: [N, M].

  Returns:
    [P].
  """
  with tf.GradientTape() as tape:
    tape.watch(theta)
    value = outputs(theta, x)
  return tape.gradient(value, theta, output_gradients=u)


def linearize_autodiff(
  outputs: Callable[[tf.Tensor, Any], tf.Tensor], theta: tf.Tensor, x: Any
) -> Linearization:
  """Linearises any network by automatic differentiation.

  Forward mode runs the network again in each `jvp`; `MLP.linearize` keeps the
  activations instead and is what the trust-region step uses for an MLP.

  Args:
    outputs: maps (theta [P], x of N states) to [N, M].
    theta: [P] parameters.
    x: inputs.

  Returns:
    The Linearization at theta.
  """
  with tf.GradientTape(persistent=True) as tape:
    tape.watch(theta)
    value = outputs(theta, x)
  return Linearization(
    value,
    lambda v: jvp(outputs, theta, x, v),
    lambda u: tape.gradient(value, theta, output_gradients=u),
  )
