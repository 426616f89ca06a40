"""What every step on a surrogate has in common: its problem and its result."""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from trpo_tf.estimation import surrogate
from trpo_tf.optim import fisher
from trpo_tf.policies import graphs

__all__ = [
  'Problem',
  'Step',
  'StepResult',
  'StepStatus',
  'compile_step',
  'expand',
  'result',
]

# (theta, x, data, fisher_rows or None) -> StepResult, all of NumPy values
Step = Callable[..., 'StepResult']


class StepStatus(enum.IntEnum):
  """Why a step was taken or refused."""

  ACCEPTED = 0
  ZERO_GRADIENT = 1
  NON_FINITE_GRADIENT = 2
  NON_POSITIVE_CURVATURE = 3  # Or not finite: never reaches the square root.
  KL_EXCEEDED = 4  # By the last candidate, or its KL is not finite.
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
    step_size: the multiple of the direction s that is tried first.
    gradient_norm: norm of the surrogate's gradient.
    curvature: s^T A s, undamped; NaN for a method without a matrix A.
    damped_curvature: s^T (A + damping I) s.
    cg_iterations: int32, products used by conjugate gradient.
    cg_residual: its final residual norm, relative to the gradient's.
    cg_failed: bool, whether a product's curvature stopped it; the iterate
      before is used, and refused if its own curvature is unsound.
    evaluations: int32, candidates tried.
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
  curvature: Any = float('nan')
  damped_curvature: Any = float('nan')
  cg_iterations: Any = 0
  cg_residual: Any = float('nan')
  cg_failed: Any = False
  evaluations: Any = 1
  tried_surrogate: Any = float('nan')
  tried_kl: Any = float('nan')


@dataclasses.dataclass(frozen=True)
class Problem:
  """A surrogate at the policy that sampled its batch; fields are tensors.

  Attributes:
    policy: the policy.
    objective: terms of the surrogate.
    theta: float32 [P].
    x: float32 [N, O] normalised observations, or FrameStacks.
    data: the objective's data, leading dimension N.
    blocks: blocks to cut N rows into, see `fisher`.
    linearized: the policy linearised on x.
    old: float64 distribution at theta, batch [N].
    surrogate: float64 [], at theta.
    gradient: float64 [P], of the surrogate.
    norm: float64 [], the gradient's.
  """

  policy: Any
  objective: surrogate.Objective
  theta: tf.Tensor
  x: Any
  data: Any
  blocks: int
  linearized: fisher.Linearized
  old: tfd.Distribution
  surrogate: tf.Tensor
  gradient: tf.Tensor
  norm: tf.Tensor

  @property
  def usable(self) -> tf.Tensor:
    """Bool [], whether the gradient is finite and not zero."""
    return tf.math.is_finite(self.norm) & (self.norm > 0)

  def evaluate(self, candidate: tf.Tensor) -> surrogate.Evaluation:
    """Surrogate and KL of a candidate [P] on the full batch."""
    parts = [
      self.policy.outputs(candidate, part)
      for part in fisher.split(self.x, self.blocks)
    ]
    outputs = tf.concat(parts, axis=0)
    return surrogate.evaluate(
      self.policy, self.objective, self.data, self.old, candidate, outputs
    )

  def status(self, cases: list[tuple[tf.Tensor, StepStatus]]) -> tf.Tensor:
    """The first status that applies, int32: of the gradient, then `cases`.

    Args:
      cases: bool [] with what it means; the last one is taken for true.
    """
    tested = [
      (~tf.math.is_finite(self.norm), StepStatus.NON_FINITE_GRADIENT),
      (self.norm == 0, StepStatus.ZERO_GRADIENT),
      *cases[:-1],
    ]
    status = tf.constant(int(cases[-1][1]))
    for case, value in reversed(tested):
      status = tf.where(case, int(value), status)
    return status


def expand(
  policy: Any,
  objective: surrogate.Objective,
  theta: tf.Tensor,
  x: Any,
  data: Any,
  blocks: int = 1,
) -> Problem:
  """Linearises the policy and differentiates the surrogate at theta.

  Args:
    policy: the policy that sampled the batch.
    objective: terms of the surrogate, see `surrogate`.
    theta: float32 [P] parameters.
    x: float32 [N, O] normalised observations, or FrameStacks of N.
    data: the objective's data, leading dimension N.
    blocks: blocks to cut N rows into, see `fisher`.

  Returns:
    The Problem.
  """
  linearized = fisher.linearize(policy, theta, x, blocks)
  old = surrogate.distribution64(policy, theta, linearized.outputs)
  before, by_outputs, direct = surrogate.output_gradient(
    policy, objective, data, theta, linearized.outputs
  )
  gradient = fisher.vjp(linearized, by_outputs) + tf.cast(direct, tf.float64)
  return Problem(
    policy,
    objective,
    theta,
    x,
    data,
    blocks,
    linearized,
    old,
    before,
    gradient,
    tf.norm(gradient),
  )


def result(
  problem: Problem,
  status: tf.Tensor,
  candidate: tf.Tensor,
  last: surrogate.Evaluation,
  fraction: tf.Tensor,
  **fields: Any,
) -> StepResult:
  """The result of a step that ended with one candidate.

  Args:
    problem: what was to be solved.
    status: int32 [], see Problem.status.
    candidate: float32 [P], the last one tried.
    last: its evaluation.
    fraction: float64 [], of the first candidate's step.
    **fields: further fields of the StepResult.

  Returns:
    The StepResult, of tensors; without the candidate unless ACCEPTED.
  """
  accepted = status == int(StepStatus.ACCEPTED)

  def if_accepted(value, otherwise):
    return tf.where(accepted, value, otherwise)

  zero = tf.zeros([], tf.float64)
  return StepResult(
    status=status,
    theta=if_accepted(candidate, problem.theta),
    surrogate_before=problem.surrogate,
    surrogate_after=if_accepted(last.surrogate, problem.surrogate),
    mean_kl=if_accepted(last.mean_kl, zero),
    max_state_kl=if_accepted(last.max_kl, zero),
    entropy=tf.reduce_mean(problem.old.entropy()),
    step_fraction=if_accepted(fraction, zero),
    gradient_norm=problem.norm,
    tried_surrogate=last.surrogate,
    tried_kl=last.mean_kl,
    **fields,
  )


def compile_step(run: Callable[..., StepResult], num_states: int) -> Step:
  """Compiles a step into one graph call per update.

  XLA is not used: on a CPU its matrix products made the step slower at 50,000
  states (66 ms a product against 29 ms).

  Args:
    run: (theta, x, data, fisher_rows, blocks) -> StepResult, of tensors.
    num_states: about how many states a batch has: sets the blocks.

  Returns:
    A function (theta, x, data, fisher_rows=None) -> StepResult of NumPy
    values, with a StepStatus; fisher_rows int [n] are the rows of x to use in
    Fisher-vector products, None for all.
  """
  blocks = fisher.num_blocks(num_states)

  def graph(theta, x, data, fisher_rows=None):
    return run(theta, x, data, fisher_rows, blocks)

  on_all = graphs.compile_any_batch(graph, fixed=1)
  on_rows = graphs.compile_any_batch(graph, fixed=1)

  def step(theta, x, data, fisher_rows=None):
    found = (
      on_all(theta, x, data)
      if fisher_rows is None
      else on_rows(theta, x, data, fisher_rows)
    )
    found = StepResult(*(np.asarray(value)[()] for value in found))
    status = StepStatus(int(found.status))
    kept = found.theta if status == StepStatus.ACCEPTED else theta
    return found._replace(status=status, theta=kept)

  return step
