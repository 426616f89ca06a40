"""The constrained step of TRPO (appendix C of the paper) as one graph call."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from trpo_tf import config
from trpo_tf.estimation import surrogate
from trpo_tf.optim import conjugate_gradient, fisher, line_search

__all__ = ['StepResult', 'StepStatus', 'make_step', 'trust_region_step']


class StepStatus(enum.IntEnum):
  """Why a step was taken or refused."""

  ACCEPTED = 0
  ZERO_GRADIENT = 1
  NON_FINITE_GRADIENT = 2
  NON_POSITIVE_CURVATURE = 3  # Or not finite: never reaches the square root.
  KL_EXCEEDED = 4  # By the last candidate of the line search.
  NO_IMPROVEMENT = 5  # By the last candidate, whose KL was within bounds.


class StepResult(NamedTuple):
  """Everything that happened in a step; scalars are float64 unless stated.

  Attributes:
    status: StepStatus (int32 inside the graph).
    theta: float32 [P]; bit for bit the old one unless ACCEPTED.
    surrogate_before: surrogate at the old theta.
    surrogate_after: surrogate at the returned theta.
    mean_kl: mean KL(old || returned) over the full batch, in nats.
    max_state_kl: the largest KL of a state.
    entropy: mean entropy of the old policy, in nats.
    step_fraction: ratio^j of the accepted candidate; 0 when refused.
    step_size: beta, the multiple of the CG solution s tried first.
    gradient_norm: norm of the surrogate's gradient.
    curvature: s^T A s, undamped: it sets beta.
    damped_curvature: s^T (A + damping I) s.
    cg_iterations: int32, products used by conjugate gradient.
    cg_residual: its final residual norm, relative to the gradient's.
    cg_failed: bool, whether a product's curvature stopped it; the iterate
      before is used, and refused if its own curvature is unsound.
    evaluations: int32, candidates tried by the line search.
    tried_surrogate: surrogate of the last candidate, accepted or not.
    tried_kl: mean KL of the last candidate, accepted or not.
  """

  status: Any
  theta: Any
  surrogate_before: Any
  surrogate_after: Any
  mean_kl: Any
  max_state_kl: Any
  entropy: Any
  step_fraction: Any
  step_size: Any
  gradient_norm: Any
  curvature: Any
  damped_curvature: Any
  cg_iterations: Any
  cg_residual: Any
  cg_failed: Any
  evaluations: Any
  tried_surrogate: Any
  tried_kl: Any


def _status(norm, sound, search, max_kl) -> tf.Tensor:
  """The first StepStatus that applies, int32."""
  within = search.last.mean_kl <= max_kl
  cases = [
    (~tf.math.is_finite(norm), StepStatus.NON_FINITE_GRADIENT),
    (norm == 0, StepStatus.ZERO_GRADIENT),
    (~sound, StepStatus.NON_POSITIVE_CURVATURE),
    (search.accepted, StepStatus.ACCEPTED),
    (~within, StepStatus.KL_EXCEEDED),
  ]
  status = tf.constant(int(StepStatus.NO_IMPROVEMENT))
  for case, value in reversed(cases):
    status = tf.where(case, int(value), status)
  return status


def trust_region_step(
  policy: Any,
  objective: surrogate.Objective,
  settings: config.TrustRegionConfig,
  theta: tf.Tensor,
  x: tf.Tensor,
  data: Any,
  fisher_rows: tf.Tensor | None = None,
  blocks: int = 1,
) -> StepResult:
  """Maximises the surrogate subject to mean KL <= delta, from theta.

  Args:
    policy: the policy that sampled the batch.
    objective: terms of the surrogate, see `surrogate`.
    settings: delta, CG and line search.
    theta: float32 [P] parameters.
    x: float32 [N, O] normalised observations.
    data: the objective's data, leading dimension N.
    fisher_rows: int [n], rows of x for the Fisher matrix; None: all.
    blocks: blocks to cut N rows into, see `fisher`.

  Returns:
    The StepResult, of tensors.
  """
  linearized = fisher.linearize(policy, theta, x, blocks)
  old = surrogate.distribution64(policy, theta, linearized.outputs)
  before, by_outputs, direct = surrogate.output_gradient(
    policy, objective, data, theta, linearized.outputs
  )
  gradient = fisher.vjp(linearized, by_outputs) + tf.cast(direct, tf.float64)
  norm = tf.norm(gradient)
  usable = tf.math.is_finite(norm) & (norm > 0)

  sampled = linearized
  if fisher_rows is not None:
    share = max(1, round(blocks * settings.fisher_fraction))
    rows = tf.gather(x, fisher_rows)
    sampled = fisher.linearize(policy, theta, rows, share)
  damping = settings.cg_damping
  solved = conjugate_gradient.conjugate_gradient(
    lambda v: fisher.product(policy, sampled, v) + damping * v,
    tf.where(usable, gradient, 0.0),
    settings.cg_iterations,
  )
  s = solved.solution
  curvature = tf.tensordot(s, fisher.product(policy, sampled, s), 1)
  sound = (curvature > 0) & tf.math.is_finite(curvature)
  beta = tf.sqrt(2 * settings.max_kl / tf.where(sound, curvature, 1.0))

  def evaluate(candidate):
    parts = [policy.outputs(candidate, p) for p in fisher.split(x, blocks)]
    outputs = tf.concat(parts, axis=0)
    return surrogate.evaluate(policy, objective, data, old, candidate, outputs)

  search = line_search.line_search(
    evaluate, theta, beta * s, before, settings.max_kl,
    settings.backtrack_ratio, settings.max_backtracks, usable & sound,
  )
  accepted, zero = search.accepted, tf.zeros([], tf.float64)
  return StepResult(
    status=_status(norm, sound, search, settings.max_kl),
    theta=tf.where(accepted, search.theta, theta),
    surrogate_before=before,
    surrogate_after=tf.where(accepted, search.last.surrogate, before),
    mean_kl=tf.where(accepted, search.last.mean_kl, zero),
    max_state_kl=tf.where(accepted, search.last.max_kl, zero),
    entropy=tf.reduce_mean(old.entropy()),
    step_fraction=tf.where(accepted, search.fraction, zero),
    step_size=tf.where(sound, beta, zero),
    gradient_norm=norm,
    curvature=curvature,
    damped_curvature=curvature + damping * tf.tensordot(s, s, 1),
    cg_iterations=solved.iterations,
    cg_residual=tf.math.divide_no_nan(solved.residual_norm, norm),
    cg_failed=solved.failed,
    evaluations=search.evaluations,
    tried_surrogate=search.last.surrogate,
    tried_kl=search.last.mean_kl,
  )


def make_step(
  policy: Any,
  objective: surrogate.Objective,
  settings: config.TrustRegionConfig,
  num_states: int,
) -> Callable[..., StepResult]:
  """Compiles `trust_region_step` into one graph call per update.

  The graph is traced at the first call, with N unknown: batches of any size
  use it again. XLA is not used: on a CPU its matrix products made the step
  slower at 50,000 states (66 ms a product against 29 ms).

  Args:
    policy: the policy that samples the batches.
    objective: terms of the surrogate.
    settings: delta, CG and line search.
    num_states: about how many states a batch has: sets the blocks.

  Returns:
    A function (theta, x, data, fisher_rows=None) -> StepResult of NumPy
    values, with a StepStatus; arguments as for `trust_region_step`.
  """
  blocks = fisher.num_blocks(num_states)
  compiled = {}

  def compile_for(args):
    def run(theta, x, data, fisher_rows=None):
      return trust_region_step(
        policy, objective, settings, theta, x, data, fisher_rows, blocks
      )

    def relaxed(t):
      return tf.TensorSpec([None, *t.shape[1:]], t.dtype)

    signature = [tf.TensorSpec(args[0].shape, args[0].dtype)]
    signature += tf.nest.map_structure(relaxed, args[1:])
    return tf.function(run, input_signature=signature)

  def step(theta, x, data, fisher_rows=None):
    args = [theta, x, data] + ([] if fisher_rows is None else [fisher_rows])
    args = tf.nest.map_structure(tf.convert_to_tensor, args)
    if len(args) not in compiled:
      compiled[len(args)] = compile_for(args)
    result = compiled[len(args)](*args)
    result = StepResult(*(np.asarray(value)[()] for value in result))
    status = StepStatus(int(result.status))
    kept = result.theta if status == StepStatus.ACCEPTED else theta
    return result._replace(status=status, theta=kept)

  return step
