"""The KL penalty's step: maximise surrogate - coefficient * mean KL.

Section 3 of the paper suggests the penalty and section 4 replaces it by a
constraint, because a coefficient is hard to choose.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from trpo_tf.config import ExperimentConfig
from trpo_tf.estimation import surrogate
from trpo_tf.optim import blocks, full_step, lbfgs
from trpo_tf.optim.step import Step, StepResult, StepStatus
from trpo_tf.policies import graphs
from trpo_tf.policies.protocols import Inputs, Policy

__all__ = [
  'PenalizedStep',
  'PenalizedValue',
  'compile_value',
  'make_step',
  'take',
]


class PenalizedStep(Step, Protocol):
  """A step whose penalty may change from call to call."""

  def __call__(
    self,
    theta: np.ndarray,
    x: Inputs,
    data: Any,
    fisher_rows: np.ndarray | None = None,
    kl_coefficient: float | None = None,
  ) -> StepResult:
    """Takes the step, or refuses to.

    Args:
      theta: float32 [P], the policy that sampled the batch.
      x: inputs of N states.
      data: the objective's data, leading dimension N.
      fisher_rows: not used; no Fisher matrix enters the step.
      kl_coefficient: factor of the mean KL; None: the configured one.

    Returns:
      The StepResult, of NumPy values.
    """


class PenalizedValue(NamedTuple):
  """A candidate's penalised surrogate; means over the states.

  Attributes:
    penalized: float64 [], surrogate - coefficient * mean KL.
    evaluation: the candidate's evaluation.
    gradient: [P], of `penalized`.
    entropy: float64 [], of the old policy, in nats.
  """

  penalized: Any
  evaluation: surrogate.CandidateEvaluation
  gradient: Any
  entropy: Any


def compile_value(
  policy: Policy, objective: surrogate.Objective, num_states: int
) -> Callable[..., PenalizedValue]:
  """Compiles the penalised surrogate and its gradient.

  Args:
    policy: the policy that samples the batches.
    objective: terms of the surrogate.
    num_states: about how many states a batch has.

  Returns:
    A function of a candidate float32 [P], theta float32 [P], the coefficient
    float64 [], the inputs of N states and the objective's data.
  """
  num_blocks = blocks.num_blocks(num_states)

  def value(candidate, theta, coefficient, x, data):
    old_outputs = blocks.outputs(policy, theta, x, num_blocks)
    old = surrogate.distribution64(policy, theta, old_outputs)
    with tf.GradientTape() as tape:
      tape.watch(candidate)
      outputs = blocks.outputs(policy, candidate, x, num_blocks)
      found = surrogate.evaluate(
        policy, objective, data, old, candidate, outputs
      )
      penalized = found.surrogate - coefficient * found.mean_kl
    gradient = tape.gradient(penalized, candidate)
    entropy = surrogate.mean_over_states(old.entropy(), data)
    return PenalizedValue(penalized, found, gradient, entropy)

  return graphs.compile_any_batch(value, fixed=3)


def take(
  value: Callable[[np.ndarray], PenalizedValue],
  theta: np.ndarray,
  evaluations: int,
) -> StepResult:
  """Maximises the penalised surrogate by L-BFGS from the old policy.

  Args:
    value: maps a candidate float32 [P] to its PenalizedValue.
    theta: float32 [P], the policy that sampled the batch.
    evaluations: maximum number of evaluations.

  Returns:
    The StepResult, of NumPy values. It is refused (NO_IMPROVEMENT) if the
    penalised surrogate does not increase, and (KL_EXCEEDED) if it leads to no
    usable policy.
  """

  def value_and_gradient(candidate):
    found = value(candidate)
    return found.penalized, found.gradient

  before = value(theta)
  found = lbfgs.maximize(value_and_gradient, theta, evaluations)
  after = value(found.theta)
  norm = float(tf.norm(tf.cast(before.gradient, tf.float64)))
  improved = bool(after.penalized > before.penalized)
  status = StepStatus.ACCEPTED if improved else StepStatus.NO_IMPROVEMENT
  if improved and not after.evaluation.mean_kl < full_step.MAX_KL:
    status = StepStatus.KL_EXCEEDED
  if not np.isfinite(norm):
    status = StepStatus.NON_FINITE_GRADIENT
  elif norm == 0:
    status = StepStatus.ZERO_GRADIENT
  kept = after if status == StepStatus.ACCEPTED else before
  return StepResult(
    status=status,
    theta=found.theta if kept is after else theta,
    surrogate_before=float(before.evaluation.surrogate),
    surrogate_after=float(kept.evaluation.surrogate),
    mean_kl=float(kept.evaluation.mean_kl),
    max_state_kl=float(kept.evaluation.max_kl),
    entropy=float(before.entropy),
    step_fraction=float(kept is after),
    step_size=float('nan'),
    gradient_norm=norm,
    evaluations=found.evaluations,
    tried_surrogate=float(after.evaluation.surrogate),
    tried_kl=float(after.evaluation.mean_kl),
  )


def make_step(
  policy: Policy,
  objective: surrogate.Objective,
  config: ExperimentConfig,
  num_states: int,
) -> PenalizedStep:
  """Makes the step; see `take`.

  Args:
    policy: the policy that samples the batches.
    objective: terms of the surrogate.
    config: gives the coefficient, and the maximum number of evaluations of the
      penalised surrogate.
    num_states: about how many states a batch has.

  Returns:
    The step.
  """
  compiled = compile_value(policy, objective, num_states)
  settings = config.method

  def step(theta, x, data, fisher_rows=None, kl_coefficient=None):
    del fisher_rows
    if kl_coefficient is None:
      kl_coefficient = settings.kl_coefficient
    x, data = tf.nest.map_structure(tf.convert_to_tensor, (x, data))
    factor = tf.constant(kl_coefficient, tf.float64)
    return take(
      lambda candidate: compiled(candidate, theta, factor, x, data),
      theta,
      settings.fit_evaluations,
    )

  return step
