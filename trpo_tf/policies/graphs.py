"""Compiles functions of batches whose number of states varies."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

__all__ = ['any_batch', 'compile_any_batch', 'compiled']


def compiled(function: Callable[..., Any], **options: Any) -> Any:
  """Compiles a function as tf.function does, with its options.

  No graph here has Python's control flow on tensors, and AutoGraph's
  translation takes two thirds of a run's first update, so it is left out.
  """
  made = tf.function(function, autograph=False, **options)
  # Every run has graphs of its own, which TensorFlow takes for an accident.
  made._omit_frequent_tracing_warning = True
  return made


def any_batch(t: tf.Tensor) -> tf.TensorSpec:
  """Returns the specification of a tensor for any number of states."""
  return tf.TensorSpec([None, *t.shape[1:]], t.dtype)


def compile_any_batch(
  function: Callable[..., Any], fixed: int
) -> Callable[..., Any]:
  """Compiles a function into one graph for batches of any size.

  The function is traced at the first call, with the number of states unknown.
  If it were traced for the first size and again for the next one, the two
  graphs might round differently. A resumed run, which begins with another
  batch, would then not repeat the original bit for bit.

  Args:
    function: takes trees of tensors, whose structure is always the same.
    fixed: number of leading arguments whose tensors keep their shapes. In the
      other arguments, the first dimension of a tensor is the number of states.

  Returns:
    The compiled function, which also takes trees of arrays.
  """
  graph: list[Callable[..., Any]] = []

  def call(*args):
    args = tf.nest.map_structure(tf.convert_to_tensor, args)
    if graph:
      return graph[0](*args)
    kept = tf.nest.map_structure(tf.TensorSpec.from_tensor, args[:fixed])
    others = tf.nest.map_structure(any_batch, args[fixed:])
    traced = compiled(function, input_signature=[*kept, *others])
    result = traced(*args)
    graph.append(traced)  # as the call was a right one
    return result

  return call
