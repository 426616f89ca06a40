"""Fisher-vector products in Gauss-Newton form, over blocks of states.

A v = mean over states of J^T M J v (appendix C.1 of the paper). J is the
Jacobian of the network outputs and M the second derivative of the KL divergence
with respect to them. The sums of the blocks are added in a fixed order.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from trpo_tf.estimation import surrogate
from trpo_tf.optim import blocks as blocks_lib
from trpo_tf.policies.linearization import Linearization
from trpo_tf.policies.protocols import Inputs, Policy

__all__ = [
  'Linearized',
  'analytic',
  'linearize',
  'product',
  'reweighted',
  'vjp',
]


class Linearized(NamedTuple):
  """The policy linearised at theta on every block.

  Attributes:
    outputs: [N, M] network outputs.
    blocks: the Linearization of each block.
    metrics: each block's product with M.
  """

  outputs: tf.Tensor
  blocks: Sequence[Linearization]
  metrics: Sequence[Callable[[tf.Tensor], tf.Tensor]]


def linearize(
  policy: Policy,
  theta: tf.Tensor,
  x: Inputs,
  blocks: int,
  keep: bool = False,
) -> Linearized:
  """Linearises a policy once, for the products of a whole step.

  Args:
    policy: the policy.
    theta: float32 [P] parameters.
    x: inputs of N states.
    blocks: number of blocks, see `blocks.num_blocks`.
    keep: whether to keep the activations, see Network.

  Returns:
    The Linearized policy.
  """
  parts = [
    policy.linearize(theta, part, keep) for part in blocks_lib.split(x, blocks)
  ]
  return Linearized(
    tf.concat([part.outputs for part in parts], axis=0),
    parts,
    [policy.metric(theta, part.outputs) for part in parts],
  )


def reweighted(linearized: Linearized, weights: tf.Tensor) -> Linearized:
  """Weights the states in the products with M.

  Args:
    linearized: the policy linearised on N states.
    weights: [N] of mean 1.

  Returns:
    The Linearized policy, whose `product` is that of the weighted mean.
  """
  factors = tf.cast(weights, linearized.outputs.dtype)[:, tf.newaxis]
  parts = blocks_lib.split(factors, len(linearized.blocks))

  def scaled(metric, part):
    return lambda tangent: part * metric(tangent)

  return linearized._replace(
    metrics=list(map(scaled, linearized.metrics, parts))
  )


def _sum64(parts: Sequence[tf.Tensor]) -> tf.Tensor:
  return tf.add_n([tf.cast(part, tf.float64) for part in parts])


def vjp(linearized: Linearized, u: tf.Tensor) -> tf.Tensor:
  """Computes J^T u, summed over the states.

  Args:
    linearized: the policy linearised on N states.
    u: [N, M], in the outputs' dtype.

  Returns:
    float64 [P].
  """
  parts = blocks_lib.split(u, len(linearized.blocks))
  pairs = zip(linearized.blocks, parts, strict=True)
  return _sum64([block.vjp(part) for block, part in pairs])


def product(policy: Policy, linearized: Linearized, v: tf.Tensor) -> tf.Tensor:
  """Computes the Fisher matrix, averaged over states, times v.

  Args:
    policy: the policy.
    linearized: the policy linearised on the states.
    v: float64 [P].

  Returns:
    float64 [P].
  """
  outputs = linearized.outputs
  tangent = tf.cast(v, outputs.dtype)
  pairs = zip(linearized.blocks, linearized.metrics, strict=True)
  through = _sum64([b.vjp(metric(b.jvp(tangent))) for b, metric in pairs])
  count = tf.cast(tf.shape(outputs)[0], tf.float64)
  return through / count + policy.bypass_fisher_product(v)


def analytic(
  policy: Policy, theta: tf.Tensor, linearized: Linearized, data: Any
) -> Callable[[tf.Tensor], tf.Tensor]:
  """Prepares products with the Fisher matrix of appendix C.1.

  The matrix integrates over the actions, so it needs no sampled action. States
  count by the weights of the data, if it has any.

  Args:
    policy: the policy.
    theta: not used.
    linearized: the policy linearised on the states.
    data: the objective's data.

  Returns:
    A function that maps v float64 [P] to A v, float64 [P].
  """
  del theta
  weights = surrogate.weights_of(data)
  if weights is not None:
    weights = tf.cast(weights, tf.float64)
    # of mean 1 on any rows of the batch
    linearized = reweighted(linearized, weights / tf.reduce_mean(weights))
  return lambda v: product(policy, linearized, v)
