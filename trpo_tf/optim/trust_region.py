"""The constrained step of TRPO (appendix C of the paper) as one graph call."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from trpo_tf.config import ExperimentConfig, TrustRegionConfig
from trpo_tf.estimation import surrogate
from trpo_tf.optim import conjugate_gradient, fisher, line_search
from trpo_tf.optim.problem import SurrogateProblem, make_problem
from trpo_tf.optim.step import Step, StepResult, StepStatus, compile_step
from trpo_tf.policies import stacks
from trpo_tf.policies.protocols import Inputs, Policy

__all__ = [
  'Direction',
  'make_step',
  'search',
  'solution_fields',
  'solve',
  'trust_region_step',
]

Product = Callable[[tf.Tensor], tf.Tensor]
# (policy, theta, linearized, data) -> v [P] -> A v [P], on the rows of data
Matrix = Callable[[Policy, tf.Tensor, fisher.Linearized, Any], Product]


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


def solve(
  problem: SurrogateProblem,
  settings: TrustRegionConfig,
  fisher_rows: tf.Tensor | None = None,
  matrix: Matrix = fisher.analytic,
) -> Direction:
  """Computes the natural gradient by conjugate gradient.

  Args:
    problem: the surrogate at theta.
    settings: iterations and damping.
    fisher_rows: int [n], rows of x for the matrix; None: all.
    matrix: prepares the products with A.

  Returns:
    The Direction, which is zero if the gradient is not usable.
  """
  policy, linearized, data = problem.policy, problem.linearized, problem.data
  if fisher_rows is not None:
    share = max(1, round(problem.blocks * settings.fisher_fraction))
    rows = stacks.take(problem.x, fisher_rows)
    linearized = fisher.linearize(policy, problem.theta, rows, share)
    data = tf.nest.map_structure(lambda t: tf.gather(t, fisher_rows), data)
  product = matrix(policy, problem.theta, linearized, data)
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
  problem: SurrogateProblem,
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


def solution_fields(
  problem: SurrogateProblem, direction: Direction
) -> dict[str, Any]:
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


def trust_region_step(
  policy: Policy,
  objective: surrogate.Objective,
  settings: TrustRegionConfig,
  theta: tf.Tensor,
  x: Inputs,
  data: Any,
  fisher_rows: tf.Tensor | None = None,
  blocks: int = 1,
  matrix: Matrix = fisher.analytic,
) -> StepResult:
  """Maximises the surrogate subject to mean KL <= delta, from theta.

  Args:
    policy: the policy that sampled the batch.
    objective: terms of the surrogate.
    settings: delta in nats, CG and line search.
    theta: float32 [P] parameters.
    x: inputs of N states.
    data: the objective's data, leading dimension N.
    fisher_rows: int [n], rows of x for the Fisher matrix; None: all.
    blocks: number of blocks of states, see `blocks.num_blocks`.
    matrix: prepares the products with the Fisher matrix.

  Returns:
    The StepResult, of tensors.
  """
  problem = make_problem(policy, objective, theta, x, data, blocks)
  direction = solve(problem, settings, fisher_rows, matrix)
  curvature = tf.where(direction.sound, direction.curvature, 1.0)
  beta = tf.sqrt(2 * settings.max_kl / curvature)
  return search(problem, settings, direction, beta)


def make_step(
  policy: Policy,
  objective: surrogate.Objective,
  config: ExperimentConfig,
  num_states: int,
) -> Step:
  """Compiles `trust_region_step`.

  Args:
    policy: the policy that samples the batches.
    objective: terms of the surrogate.
    config: gives delta and the settings of CG and line search.
    num_states: about how many states a batch has.

  Returns:
    The step.
  """

  def run(theta, x, data, fisher_rows, blocks):
    return trust_region_step(
      policy,
      objective,
      config.trust_region,
      theta,
      x,
      data,
      fisher_rows,
      blocks,
    )

  return compile_step(run, num_states)
