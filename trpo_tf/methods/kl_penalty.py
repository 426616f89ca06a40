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

__all__ = ['KlPenaltyLearner', 'adapted', 'after_step']

# A penalty that no step overcomes is too large, as one whose step is too short.
_INFORMS = (
  StepStatus.ACCEPTED,
  StepStatus.NO_IMPROVEMENT,
  StepStatus.KL_EXCEEDED,
)
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


def after_step(
  config: ExperimentConfig, coefficient: float, step: StepResult
) -> dict[str, float]:
  """Returns the part of a learner's state that the step changes.

  Args:
    config: says whether the coefficient adapts, and to which divergence.
    coefficient: the coefficient of the step.
    step: the step.
  """
  refused = step.status == StepStatus.KL_EXCEEDED
  kl = step.tried_kl if refused else step.mean_kl
  if config.method.adapt_kl_coefficient and step.status in _INFORMS:
    target = config.trust_region.max_kl
    coefficient = adapted(coefficient, kl, target)
  return {'kl_coefficient': coefficient}


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
    return step, after_step(self._config, coefficient, step)
