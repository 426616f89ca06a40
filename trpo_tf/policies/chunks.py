"""Loops over chunks of states, so that memory holds activations of a few."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from trpo_tf.policies import stacks

__all__ = ['array', 'cut', 'fold']

_CHUNK = 256  # states
_PARALLEL = 2  # chunks at a time


def _count(num_states: tf.Tensor) -> tf.Tensor:
  return -(-num_states // _CHUNK)


def cut(t: Any, i: tf.Tensor) -> Any:
  """Returns the rows of chunk i.

  Args:
    t: [N, ...], or FrameStacks of N observations.
    i: int32 [], number of the chunk.
  """
  return stacks.rows(t, i * _CHUNK, (i + 1) * _CHUNK)


def array(
  num_states: tf.Tensor, dtype: tf.DType, shape: tuple[int, ...]
) -> tf.TensorArray:
  """Makes an empty array for a value [n, *shape] of each chunk.

  Args:
    num_states: int32 [], N.
    dtype: of the values.
    shape: of the value of a state.
  """
  return tf.TensorArray(
    dtype,
    size=_count(num_states),
    infer_shape=False,
    element_shape=[None, *shape],
  )


def fold(
  add: Callable[[Any, tf.Tensor], Any], start: Any, num_states: tf.Tensor
) -> Any:
  """Folds a function over the chunks, in their order.

  Args:
    add: maps the result so far and the number of the next chunk to the new
      result.
    start: the result before any chunk.
    num_states: int32 [], N.

  Returns:
    The result after the last chunk.
  """
  count = _count(num_states)
  return tf.while_loop(
    lambda i, _: i < count,
    lambda i, result: (i + 1, add(result, i)),
    (0, start),
    parallel_iterations=_PARALLEL,
  )[1]
