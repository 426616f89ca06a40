"""The KL penalty: maximise surrogate - coefficient * mean KL, unconstrained.

Section 3 of the paper suggests the penalty and section 4 leaves it, because a
coefficient is hard to choose. It may be fixed, or adapt to a target divergence
(Schulman et al. 2017, "Proximal Policy Optimization Algorithms", section 4).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from trpo_tf.config import ExperimentConfig
from trpo_tf.estimation import surrogate
from trpo_tf.methods.surrogate_learner import SurrogateLearner
from trpo_tf.optim import fisher, lbfgs
from trpo_tf.optim.step import StepResult, StepStatus
from trpo_tf.policies import graphs

__all__ = ['KlPenaltyLearner', 'adapted', 'make_step']

_TOLERANCE = 1.5  # of the target, before the coefficient changes


class _Value(NamedTuple):
  penalized: tf.Tensor
  evaluation: surrogate.Evaluation
  gradient: tf.Tensor


def make_step(
  policy: Any,
  objective: surrogate.Objective,
  evaluations: int,
  num_states: int,
) -> Callable[..., StepResult]:
  """Makes the step, by L-BFGS from the old policy.

  Args:
    policy: the policy that samples the batches.
    objective: terms of the surrogate.
    evaluations: most evaluations of the penalised surrogate.
    num_states: about how many states a batch has.

  Returns:
    (theta, x, data, coefficient) -> StepResult of NumPy values. It is refused
    (NO_IMPROVEMENT) where the penalised surrogate does not grow.
  """
  blocks = fisher.num_blocks(num_states)

  def outputs(theta, x):
    parts = [policy.outputs(theta, part) for part in fisher.split(x, blocks)]
    return tf.concat(parts, axis=0)

  def evaluate(candidate, theta, coefficient, x, data):
    old = surrogate.distribution64(policy, theta, outputs(theta, x))
    with tf.GradientTape() as tape:
      tape.watch(candidate)
      found = surrogate.evaluate(
        policy, objective, data, old, candidate, outputs(candidate, x)
      )
      value = found.surrogate - coefficient * found.mean_kl
    entropy = tf.reduce_mean(old.entropy())
    return _Value(value, found, tape.gradient(value, candidate)), entropy

  compiled = graphs.compile_any_batch(evaluate, fixed=3)

  def step(theta, x, data, coefficient):
    x, data = tf.nest.map_structure(tf.convert_to_tensor, (x, data))
    factor = tf.constant(coefficient, tf.float64)

    def at(candidate):
      return compiled(candidate, theta, factor, x, data)

    before, entropy = at(theta)
    found = lbfgs.maximize(
      lambda candidate: at(candidate)[0][::2], theta, evaluations
    )
    after, _ = at(found.theta)
    return _result(theta, found, before, after, entropy)

  return step


def _result(
  theta: np.ndarray,
  found: lbfgs.Maximum,
  before: _Value,
  after: _Value,
  entropy: tf.Tensor,
) -> StepResult:
  norm = float(tf.norm(tf.cast(before.gradient, tf.float64)))
  accepted = bool(after.penalized > before.penalized)
  status = StepStatus.ACCEPTED if accepted else StepStatus.NO_IMPROVEMENT
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
    entropy=float(entropy),
    step_fraction=float(kept is after),
    step_size=float('nan'),
    gradient_norm=norm,
    evaluations=found.evaluations,
    tried_surrogate=float(after.evaluation.surrogate),
    tried_kl=float(after.evaluation.mean_kl),
  )


def adapted(coefficient: float, mean_kl: float, target: float) -> float:
  """The next coefficient: twice or half of it where the KL is off its target.

  Args:
    coefficient: of the step just taken.
    mean_kl: the step's, in nats.
    target: wanted, in nats.
  """
  if mean_kl > target * _TOLERANCE:
    return coefficient * 2
  if mean_kl < target / _TOLERANCE:
    return coefficient / 2
  return coefficient


class KlPenaltyLearner(SurrogateLearner):
  """Learner of the penalised surrogate; its state has the coefficient."""

  def __init__(self, policy: Any, config: ExperimentConfig):
    """Builds the learner of a policy."""
    self._method = config.method
    self._target = config.trust_region.max_kl

    def make(objective, num_states):
      return make_step(
        policy, objective, config.method.fit_evaluations, num_states
      )

    super().__init__(policy, config, make)

  def initial_state(
    self, theta: np.ndarray, rng: np.random.Generator
  ) -> dict[str, Any]:
    """The baseline's state and the first coefficient."""
    coefficient = self._method.kl_coefficient
    return super().initial_state(theta, rng) | {'kl_coefficient': coefficient}

  def take_step(self, theta, problem, fisher_rows, state):
    """Maximises the penalised surrogate; `fisher_rows` are not used."""
    del fisher_rows
    coefficient = state['kl_coefficient']
    step = self._step(theta, problem.x, problem.data, coefficient)
    if self._method.adapt_kl_coefficient and step.status == StepStatus.ACCEPTED:
      coefficient = adapted(coefficient, step.mean_kl, self._target)
    return step, {'kl_coefficient': coefficient}
