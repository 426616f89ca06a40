"""Conjugate gradient for a positive definite product, as a graph loop."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

__all__ = ['ConjugateGradientResult', 'conjugate_gradient']


class ConjugateGradientResult(NamedTuple):
  """Outcome of conjugate gradient.

  Attributes:
    solution: float64 [P], the last iterate with a sound curvature.
    iterations: int32 [], products used, including one that failed.
    residual_norm: float64 [], |b - A x| as the recurrence carries it.
    converged: bool [], whether the residual reached the tolerance.
    failed: bool [], whether a product had a non-positive or non-finite
      curvature p^T A p: A is not positive definite (or overflowed).
  """

  solution: tf.Tensor
  iterations: tf.Tensor
  residual_norm: tf.Tensor
  converged: tf.Tensor
  failed: tf.Tensor


def conjugate_gradient(
  product: Callable[[tf.Tensor], tf.Tensor],
  b: tf.Tensor,
  max_iterations: int,
  tolerance: float = 1e-10,
) -> ConjugateGradientResult:
  """Solves A x = b from x = 0 (Hestenes and Stiefel 1952).

  Args:
    product: maps float64 [P] to A times it, float64 [P].
    b: float64 [P].
    max_iterations: largest number of products.
    tolerance: residual norm to stop at, relative to that of b. The default
      only prevents a division by zero once the system is solved.

  Returns:
    The ConjugateGradientResult; b = 0 converges in 0 iterations.
  """
  b = tf.cast(b, tf.float64)
  goal = tolerance**2 * tf.tensordot(b, b, 1)

  def unfinished(i, x, r, p, rr, failed):
    del x, r, p
    return (i < max_iterations) & (rr > goal) & ~failed

  def iteration(i, x, r, p, rr, failed):
    del failed
    z = product(p)
    curvature = tf.tensordot(p, z, 1)
    sound = (curvature > 0) & tf.math.is_finite(curvature)
    alpha = tf.where(sound, rr / tf.where(sound, curvature, 1.0), 0.0)
    z = tf.where(sound, z, 0.0)
    x, r = x + alpha * p, r - alpha * z
    new_rr = tf.tensordot(r, r, 1)
    return i + 1, x, r, r + new_rr / rr * p, new_rr, ~sound

  start = (0, tf.zeros_like(b), b, b, tf.tensordot(b, b, 1), tf.constant(False))
  i, x, _, _, rr, failed = tf.while_loop(unfinished, iteration, start)
  return ConjugateGradientResult(x, i, tf.sqrt(rr), rr <= goal, failed)
