"""A step that is taken in full, without a line search."""

from typing import Any

import tensorflow as tf

from trpo_tf.optim.problem import Problem
from trpo_tf.optim.step import StepResult, StepStatus

__all__ = ['MAX_KL', 'full_step']

# Mean KL in nats. A larger step usually leads to a policy that cannot be used:
# its standard deviations are almost zero, and float32 implementations of its
# network disagree on its log-probabilities.
MAX_KL = 1e3


def full_step(
  problem: Problem, step: tf.Tensor, sound: tf.Tensor, **fields: Any
) -> StepResult:
  """Takes a step in full, unless it leads to no usable policy.

  Args:
    problem: the surrogate at theta.
    step: float64 [P], added to theta.
    sound: bool [], whether the step may be taken at all.
    **fields: further fields of the StepResult.

  Returns:
    The StepResult, of tensors.
  """
  usable = problem.usable & sound
  moved = tf.cast(problem.theta, tf.float64) + tf.where(usable, step, 0.0)
  candidate = tf.cast(moved, problem.theta.dtype)
  last = problem.evaluate(candidate)
  fit = (last.mean_kl < MAX_KL) & tf.math.is_finite(last.surrogate)
  status = problem.status(
    [
      (~sound, StepStatus.NON_POSITIVE_CURVATURE),
      (~fit, StepStatus.KL_EXCEEDED),
      (fit, StepStatus.ACCEPTED),
    ]
  )
  one = tf.ones([], tf.float64)
  return problem.result(status, candidate, last, one, **fields)
