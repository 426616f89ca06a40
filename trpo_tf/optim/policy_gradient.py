"""Policy gradient with an l2 bound on the step: equation 18 of the paper."""

import math

import tensorflow as tf

from trpo_tf.config import ExperimentConfig
from trpo_tf.estimation.surrogate import Objective
from trpo_tf.optim.compiled import compile_step
from trpo_tf.optim.full_step import full_step
from trpo_tf.optim.problem import Problem
from trpo_tf.optim.step import Step, StepResult
from trpo_tf.policies.protocols import Policy

__all__ = ['make_step', 'take']


def take(problem: Problem, config: ExperimentConfig) -> StepResult:
  """Steps along g with |step|^2 / 2 = bound.

  Args:
    problem: the surrogate at theta.
    config: gives the bound (delta of equation 18), in parameters squared.

  Returns:
    The StepResult, of tensors.
  """
  size = math.sqrt(2 * config.method.l2_bound) / problem.norm
  return full_step(
    problem, size * problem.gradient, tf.constant(True), step_size=size
  )


def make_step(
  policy: Policy,
  objective: Objective,
  config: ExperimentConfig,
  num_states: int,
) -> Step:
  """Compiles `take`.

  Args:
    policy: the policy that samples the batches.
    objective: terms of the surrogate.
    config: see `take`.
    num_states: about how many states a batch has.

  Returns:
    The step; it does not use fisher_rows.
  """
  return compile_step(take, policy, objective, config, num_states)
