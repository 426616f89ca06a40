"""The constrained step of TRPO (appendix C of the paper) as one graph call."""

from typing import Any, NamedTuple

import tensorflow as tf

from trpo_tf.config import ExperimentConfig, TrustRegionConfig
from trpo_tf.estimation import surrogate
from trpo_tf.optim import conjugate_gradient, line_search
from trpo_tf.optim.compiled import compile_step
from trpo_tf.optim.problem import Problem
from trpo_tf.optim.step import Step, StepResult, StepStatus
from trpo_tf.policies.protocols import Policy

__all__ = [
  'Direction',
  'make_step',
  'search',
  'solution_fields',
  'solve',
  'take',
]


class Direction(NamedTuple):
  """The solution s of (A + damping I) s = g; scalars are float64.

  Attributes:
    s: float64 [P].
    curvature: s^T A s, undamped: it sets the step size.
    damped_curvature: s^T (A + damping I) s.
    sound: bool [], whether the curvature is positive and finite.
    cg: how conjugate gradient ended.
  """

  s: tf.Tensor
  curvature: tf.Tensor
  damped_curvature: tf.Tensor
  sound: tf.Tensor
  cg: conjugate_gradient.ConjugateGradientResult


def solve(problem: Problem, settings: TrustRegionConfig) -> Direction:
  """Computes the natural gradient by conjugate gradient.

  Args:
    problem: the surrogate at theta.
    settings: iterations, damping, and the share of the states for A.

  Returns:
    The Direction, which is zero if the gradient is not usable.
  """
  product = problem.products(settings.fisher_fraction)
  damping = settings.cg_damping
  solved = conjugate_gradient.conjugate_gradient(
    lambda v: product(v) + damping * v,
    tf.where(problem.usable, problem.gradient, 0.0),
    settings.cg_iterations,
  )
  s = solved.solution
  curvature = tf.tensordot(s, product(s), 1)
  return Direction(
    s,
    curvature,
    curvature + damping * tf.tensordot(s, s, 1),
    (curvature > 0) & tf.math.is_finite(curvature),
    solved,
  )


def search(
  problem: Problem,
  settings: TrustRegionConfig,
  direction: Direction,
  step_size: tf.Tensor,
  bounded: str = 'mean_kl',
) -> StepResult:
  """Backtracks along a direction until the candidate is within the region.

  Args:
    problem: the surrogate at theta.
    settings: delta in nats, and the line search.
    direction: the direction s.
    step_size: float64 [], multiple of s that is tried first.
    bounded: field of CandidateEvaluation that delta bounds.

  Returns:
    The StepResult, of tensors.
  """
  sound, bound = direction.sound, settings.max_kl * settings.kl_slack
  found = line_search.line_search(
    problem.evaluate,
    problem.theta,
    step_size * direction.s,
    problem.surrogate,
    bound,
    settings.backtrack_ratio,
    settings.max_backtracks,
    problem.usable & sound,
    bounded,
  )
  within = getattr(found.last, bounded) <= bound
  status = problem.status(
    [
      (~sound, StepStatus.NON_POSITIVE_CURVATURE),
      (found.accepted, StepStatus.ACCEPTED),
      (~within, StepStatus.KL_EXCEEDED),
      (within, StepStatus.NO_IMPROVEMENT),
    ]
  )
  return problem.result(
    status,
    found.theta,
    found.last,
    found.fraction,
    step_size=tf.where(sound, step_size, 0.0),
    evaluations=found.evaluations,
    **solution_fields(problem, direction),
  )


def solution_fields(problem: Problem, direction: Direction) -> dict[str, Any]:
  """Returns the fields of a StepResult that say how a direction was found.

  Args:
    problem: the surrogate at theta.
    direction: the direction.

  Returns:
    The fields by name, tensors.
  """
  residual = direction.cg.residual_norm
  return dict(
    curvature=direction.curvature,
    damped_curvature=direction.damped_curvature,
    cg_iterations=direction.cg.iterations,
    cg_residual=tf.math.divide_no_nan(residual, problem.norm),
    cg_failed=direction.cg.failed,
  )


def take(problem: Problem, config: ExperimentConfig) -> StepResult:
  """Maximises the surrogate subject to mean KL <= delta.

  Args:
    problem: the surrogate at theta.
    config: gives delta in nats, and the settings of CG and line search.

  Returns:
    The StepResult, of tensors.
  """
  settings = config.trust_region
  direction = solve(problem, settings)
  curvature = tf.where(direction.sound, direction.curvature, 1.0)
  beta = tf.sqrt(2 * settings.max_kl / curvature)
  return search(problem, settings, direction, beta)


def make_step(
  policy: Policy,
  objective: surrogate.Objective,
  config: ExperimentConfig,
  num_states: int,
) -> Step:
  """Compiles `take`.

  Args:
    policy: the policy that samples the batches.
    objective: terms of the surrogate.
    config: gives delta and the settings of CG and line search.
    num_states: about how many states a batch has.

  Returns:
    The step.
  """
  return compile_step(take, policy, objective, config, num_states)
