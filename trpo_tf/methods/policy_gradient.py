"""Policy gradient with an l2 bound on the step: equation 18 of the paper."""

import math
from typing import Any

import tensorflow as tf

from trpo_tf.estimation import surrogate
from trpo_tf.methods import natural_gradient
from trpo_tf.optim import step as step_lib

__all__ = ['make_step']


def make_step(
  policy: Any, objective: surrogate.Objective, bound: float, num_states: int
) -> step_lib.Step:
  """Compiles the step along g with |step|^2 / 2 = bound.

  Args:
    policy: the policy that samples the batches.
    objective: terms of the surrogate.
    bound: delta of equation 18, in parameters squared.
    num_states: about how many states a batch has.
  """

  def run(theta, x, data, fisher_rows, blocks):
    del fisher_rows
    problem = step_lib.expand(policy, objective, theta, x, data, blocks)
    size = math.sqrt(2 * bound) / problem.norm
    return natural_gradient.unsearched(
      problem, size * problem.gradient, tf.constant(True), step_size=size
    )

  return step_lib.compile_step(run, num_states)
