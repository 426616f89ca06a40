"""Natural policy gradient (Kakade 2002): TRPO's direction, a fixed multiplier.

Section 8.1 of the paper: the only difference from TRPO is that the multiplier
of the KL divergence is fixed (equation 17), whereas TRPO's makes the step as
long as delta allows. The divergence of the step is not bounded, but a step is
refused if the resulting policy could not be updated again (see full_step).
"""

import tensorflow as tf

from trpo_tf.config import ExperimentConfig
from trpo_tf.estimation.surrogate import Objective
from trpo_tf.optim import trust_region
from trpo_tf.optim.compiled import compile_step
from trpo_tf.optim.full_step import full_step
from trpo_tf.optim.problem import Problem
from trpo_tf.optim.step import Step, StepResult
from trpo_tf.policies.protocols import Policy

__all__ = ['make_step', 'take']


def take(problem: Problem, config: ExperimentConfig) -> StepResult:
  """Steps to theta + A^-1 g / multiplier.

  Args:
    problem: the surrogate at theta.
    config: gives the multiplier (lambda of equation 17) and the settings of
      conjugate gradient; delta and the line search are not used.

  Returns:
    The StepResult, of tensors.
  """
  direction = trust_region.solve(problem, config.trust_region)
  size = tf.constant(1 / config.method.lagrange_multiplier, tf.float64)
  return full_step(
    problem,
    size * direction.s,
    direction.sound,
    step_size=size,
    **trust_region.solution_fields(problem, direction),
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
    The step.
  """
  return compile_step(take, policy, objective, config, num_states)
