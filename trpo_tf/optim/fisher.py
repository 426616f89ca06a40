"""Fisher-vector products in Gauss-Newton form, over blocks of states.

A v = mean over states of J^T M J v (appendix C.1 of the paper): J is the
Jacobian of the network outputs, M the second derivative of the KL divergence
in them. The states are cut into blocks of about 4,000: one block's
activations then stay in the cache between the operations of a product, and
blocks run in parallel, and their sums are added in a fixed order.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from trpo_tf.policies import linearization
from trpo_tf.policies.stacks import FrameStacks

__all__ = [
  'Linearized',
  'analytic',
  'linearize',
  'num_blocks',
  'product',
  'split',
  'vjp',
]

_BLOCK = 4096


def num_blocks(num_states: int) -> int:
  """Blocks to cut about this many states into."""
  return -(-num_states // _BLOCK)


def split(x: Any, blocks: int) -> list[Any]:
  """Cuts [N, ...] into a fixed number of blocks, equal to within one row.

  The parts of FrameStacks share frames. N may be unknown while tracing, so
  whole-episode batches, whose N varies, need neither padding nor a new trace.
  """
  if blocks == 1:
    return [x]
  if isinstance(x, FrameStacks):
    return [x._replace(rows=part) for part in split(x.rows, blocks)]
  n = tf.shape(x)[0]
  return [x[n * i // blocks : n * (i + 1) // blocks] for i in range(blocks)]


class Linearized(NamedTuple):
  """The policy linearised at theta on every block.

  Attributes:
    outputs: [N, M] network outputs.
    blocks: the Linearization of each block.
    metrics: each block's product with M.
  """

  outputs: tf.Tensor
  blocks: Sequence[linearization.Linearization]
  metrics: Sequence[Callable[[tf.Tensor], tf.Tensor]]


def linearize(policy: Any, theta: tf.Tensor, x: Any, blocks: int) -> Linearized:
  """Linearises a policy once, for the products of a whole step.

  Args:
    policy: gives linearize and metric.
    theta: [P] parameters.
    x: inputs of N states, see `split`.
    blocks: number of blocks, see `num_blocks`.

  Returns:
    The Linearized policy.
  """
  parts = [policy.linearize(theta, part) for part in split(x, blocks)]
  return Linearized(
    tf.concat([part.outputs for part in parts], axis=0),
    parts,
    [policy.metric(theta, part.outputs) for part in parts],
  )


def _sum64(parts: Sequence[tf.Tensor]) -> tf.Tensor:
  return tf.add_n([tf.cast(part, tf.float64) for part in parts])


def vjp(linearized: Linearized, u: tf.Tensor) -> tf.Tensor:
  """Sum over states of J^T u for u [N, M]: float64 [P]."""
  parts = split(u, len(linearized.blocks))
  pairs = zip(linearized.blocks, parts, strict=True)
  return _sum64([block.vjp(part) for block, part in pairs])


def product(policy: Any, linearized: Linearized, v: tf.Tensor) -> tf.Tensor:
  """The Fisher matrix, averaged over states, times v.

  Args:
    policy: gives bypass_fisher_product.
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
  policy: Any, theta: tf.Tensor, linearized: Linearized, data: Any
) -> Callable[[tf.Tensor], tf.Tensor]:
  """Products with the Fisher matrix of appendix C.1: no samples enter it."""
  del theta, data
  return lambda v: product(policy, linearized, v)
