"""The KL penalty: maximise surrogate - coefficient * mean KL, unconstrained.

The coefficient may be fixed, or adapt to a target divergence (Schulman et al.
2017, "Proximal Policy Optimization Algorithms", section 4).
"""

from typing import Any

import numpy as np

from trpo_tf.config import ExperimentConfig
from trpo_tf.methods.surrogate_data import SurrogateData
from trpo_tf.methods.surrogate_learner import SurrogateLearner
from trpo_tf.optim import kl_penalty
from trpo_tf.optim.step import StepResult, StepStatus
from trpo_tf.policies.protocols import Policy

__all__ = ['KlPenaltyLearner', 'adapted']

_TOLERANCE = 1.5  # factor around the target within which the coefficient stays


def adapted(coefficient: float, mean_kl: float, target: float) -> float:
  """Doubles or halves the coefficient if the KL is far from its target.

  Args:
    coefficient: the coefficient of the step just taken.
    mean_kl: the step's mean KL, in nats.
    target: the desired mean KL, in nats.

  Returns:
    The next step's coefficient.
  """
  if mean_kl > target * _TOLERANCE:
    return coefficient * 2
  if mean_kl < target / _TOLERANCE:
    return coefficient / 2
  return coefficient


class KlPenaltyLearner(SurrogateLearner):
  """Learner of the penalised surrogate; its state holds the coefficient."""

  _step: kl_penalty.PenalizedStep

  def __init__(self, policy: Policy, config: ExperimentConfig):
    """Makes the step and the baseline.

    Args:
      policy: the policy to update.
      config: the experiment.
    """
    super().__init__(policy, config, kl_penalty.make_step)

  def initial_state(
    self, theta: np.ndarray, rng: np.random.Generator
  ) -> dict[str, Any]:
    """Returns the baseline's state and the first coefficient.

    Args:
      theta: float32 [P], the initial policy.
      rng: source of the baseline's initial values.

    Returns:
      The learner's state.
    """
    coefficient = self._config.method.kl_coefficient
    return super().initial_state(theta, rng) | {'kl_coefficient': coefficient}

  def take_step(
    self,
    theta: np.ndarray,
    given: SurrogateData,
    fisher_rows: np.ndarray | None,
    state: dict[str, Any],
  ) -> tuple[StepResult, dict[str, Any]]:
    """Maximises the penalised surrogate.

    Args:
      theta: float32 [P], the policy that sampled the batch.
      given: the surrogate's states and data.
      fisher_rows: not used.
      state: the learner's state.

    Returns:
      The step, and the next coefficient.
    """
    del fisher_rows
    coefficient = state['kl_coefficient']
    step = self._step(theta, given.x, given.data, kl_coefficient=coefficient)
    adapts = self._config.method.adapt_kl_coefficient
    if adapts and step.status == StepStatus.ACCEPTED:
      target = self._config.trust_region.max_kl
      coefficient = adapted(coefficient, step.mean_kl, target)
    return step, {'kl_coefficient': coefficient}
