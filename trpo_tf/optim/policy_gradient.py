"""Policy gradient with an l2 bound on the step: equation 18 of the paper."""

import math

import tensorflow as tf

from trpo_tf.config import ExperimentConfig
from trpo_tf.estimation.surrogate import Objective
from trpo_tf.optim.full_step import full_step
from trpo_tf.optim.problem import make_problem
from trpo_tf.optim.step import Step, compile_step
from trpo_tf.policies.protocols import Policy

__all__ = ['make_step']


def make_step(
  policy: Policy,
  objective: Objective,
  config: ExperimentConfig,
  num_states: int,
) -> Step:
  """Compiles the step along g with |step|^2 / 2 = bound.

  Args:
    policy: the policy that samples the batches.
    objective: terms of the surrogate.
    config: gives the bound (delta of equation 18), in parameters squared.
    num_states: about how many states a batch has.

  Returns:
    The step; it does not use fisher_rows.
  """
  bound = config.method.l2_bound

  def run(theta, x, data, fisher_rows, blocks):
    del fisher_rows
    problem = make_problem(policy, objective, theta, x, data, blocks)
    size = math.sqrt(2 * bound) / problem.norm
    return full_step(
      problem, size * problem.gradient, tf.constant(True), step_size=size
    )

  return compile_step(run, num_states)
