"""The value network's gradients on the shards of one process, in one call.

A minibatch of one shard is small, and a call into TensorFlow costs as much as
its gradient. Each shard's gradient is still computed apart, so that it has the
same bytes whatever other shards the process has.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from trpo_tf.policies import graphs

__all__ = ['FitData', 'Gradients']


class FitData(NamedTuple):
  """A shard's part of a fit; all fields are trees of tensors.

  Attributes:
    divisor: float32 [], what the sum of a minibatch's gradients is divided by.
    rows: int32 [steps, n], rows of the shard in every minibatch.
    x: inputs of N steps.
    targets: float32 [N, 1], standardised.
    weights: float32 [N, 1]; (): all are 1.
  """

  divisor: Any
  rows: Any
  x: Any
  targets: Any
  weights: Any


class Gradients:
  """Computes the gradients of several shards."""

  def __init__(self, gradient: Callable[..., tf.Tensor]):
    """Keeps the gradient of one shard; see ValueNetwork.gradient."""
    self._gradient = gradient
    self._lock = threading.Lock()
    self._compiled: dict[int, Callable[..., Any]] = {}

  def __call__(
    self, theta: np.ndarray, step: int, data: Sequence[FitData]
  ) -> list[np.ndarray]:
    """Computes the gradients of a minibatch.

    Args:
      theta: float32 [P], the value network.
      step: number of the minibatch.
      data: of each shard.

    Returns:
      float64 [P] of each shard.
    """
    if not data:
      return []
    flat = tf.nest.flatten(data)
    with self._lock:
      if len(data) not in self._compiled:
        self._compiled[len(data)] = self._compile(len(theta), data, flat)
    found = self._compiled[len(data)](
      tf.constant(theta), tf.constant(step), *flat
    )
    return list(found.numpy())

  def _compile(
    self, size: int, data: Sequence[FitData], flat: Sequence[tf.Tensor]
  ) -> Callable[..., Any]:
    def whole(theta, step, *tensors):
      parts = tf.nest.pack_sequence_as(data, list(tensors))
      found = [
        self._gradient(
          theta,
          part.divisor,
          part.x,
          part.targets,
          part.rows[step],
          None if isinstance(part.weights, tuple) else part.weights,
        )
        for part in parts
      ]
      return tf.cast(tf.stack(found), tf.float64)

    specs = [tf.TensorSpec([size]), tf.TensorSpec([], tf.int32)]
    specs += [graphs.any_batch(t) if t.shape.rank else _spec(t) for t in flat]
    compiled = tf.function(whole, input_signature=specs, autograph=False)
    return compiled.get_concrete_function()


def _spec(t: tf.Tensor) -> tf.TensorSpec:
  return tf.TensorSpec(t.shape, t.dtype)
