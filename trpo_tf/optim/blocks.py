"""Blocks of states, and the network's forward pass over them.

The states of a batch are cut into blocks of about 4,000. One block's
activations then stay in the cache between the operations of a pass, and blocks
run in parallel.
"""

from typing import Any

import tensorflow as tf

from trpo_tf.policies.protocols import Inputs, Policy
from trpo_tf.policies.stacks import FrameStacks

__all__ = ['BLOCK', 'num_blocks', 'outputs', 'split']

BLOCK = 4096  # states


def num_blocks(num_states: int) -> int:
  """Returns the number of blocks to cut about this many states into."""
  return -(-num_states // BLOCK)


def split(x: Any, blocks: int) -> list[Any]:
  """Cuts rows into a fixed number of blocks, equal in size to within one row.

  N may be unknown while a graph is traced, so batches of whole episodes, whose
  N varies, need neither padding nor a new trace.

  Args:
    x: [N, ...], or FrameStacks of N observations, whose blocks share the
      frames.
    blocks: number of blocks.

  Returns:
    The blocks, in the order of the rows.
  """
  if blocks == 1:
    return [x]
  if isinstance(x, FrameStacks):
    return [x._replace(rows=part) for part in split(x.rows, blocks)]
  n = tf.shape(x)[0]
  return [x[n * i // blocks : n * (i + 1) // blocks] for i in range(blocks)]


def outputs(
  policy: Policy, theta: tf.Tensor, x: Inputs, blocks: int
) -> tf.Tensor:
  """Runs the policy's network block by block.

  Args:
    policy: the policy.
    theta: float32 [P] parameters.
    x: inputs of N states.
    blocks: number of blocks, see `num_blocks`.

  Returns:
    [N, M] outputs, in theta's dtype.
  """
  parts = [policy.outputs(theta, part) for part in split(x, blocks)]
  return tf.concat(parts, axis=0)
