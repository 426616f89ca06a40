"""A network's derivative at one parameter vector, as two products."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

__all__ = ['Linearization', 'jvp', 'linearize_autodiff', 'vjp']


class Linearization(NamedTuple):
  """A network's outputs at theta, and products with their Jacobian J.

  Attributes:
    outputs: [N, M] network outputs.
    jvp: function that maps v [P] to J v, [N, M].
    vjp: function that maps u [N, M] to J^T u, summed over the states, [P].
    pullback: (cotangent, start) -> the outputs, J^T u [P] and sums, in one pass
      over chunks of states; None where `outputs` and `vjp` share a pass anyway.
      `cotangent` maps a chunk's outputs [n, M], and a function that cuts a
      tensor [N, ...] to its states, to u [n, M] and to terms; the sums are
      `start` plus the terms of all chunks.
  """

  outputs: tf.Tensor
  jvp: Callable[[tf.Tensor], tf.Tensor]
  vjp: Callable[[tf.Tensor], tf.Tensor]
  pullback: Callable[..., tuple[tf.Tensor, tf.Tensor, Any]] | None = None

  def product_of(
    self, cotangent: Callable[[tf.Tensor, Callable[[Any], Any]], tf.Tensor]
  ) -> tf.Tensor:
    """Computes J^T u, [P], where u depends on the outputs of its own states.

    Args:
      cotangent: maps outputs [n, M], and a function that cuts a tensor
        [N, ...] to the same states, to u [n, M].
    """
    if self.pullback is None:
      return self.vjp(cotangent(self.outputs, lambda t: t))
    return self.pullback(lambda *given: (cotangent(*given), ()), ())[1]


def jvp(
  outputs: Callable[[tf.Tensor, Any], tf.Tensor],
  theta: tf.Tensor,
  x: Any,
  v: tf.Tensor,
) -> tf.Tensor:
  """Computes J v by forward-mode automatic differentiation.

  Args:
    outputs: maps (theta [P], inputs of N states) to [N, M].
    theta: [P] parameters.
    x: inputs of N states.
    v: [P] tangent, of theta's dtype.

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
  """Computes J^T u, summed over states, by reverse-mode differentiation.

  Args:
    outputs: maps (theta [P], inputs of N states) to [N, M].
    theta: [P] parameters.
    x: inputs of N states.
    u: [N, M] cotangent, of the outputs' dtype.

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

  Forward mode runs the network again in each `jvp`. The steps use
  `MLP.linearize` for an MLP, which keeps the activations instead.

  Args:
    outputs: maps (theta [P], inputs of N states) to [N, M].
    theta: [P] parameters.
    x: inputs of N states.

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
