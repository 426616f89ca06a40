"""Estimates advantages and value targets from a batch, or from a part of it."""

from typing import Any, NamedTuple

import numpy as np

from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.estimation.baselines import Baseline
from trpo_tf.estimation.every_step import Partners, PartnerSums
from trpo_tf.methods import surrogate_data
from trpo_tf.methods.surrogate_data import SurrogateData
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.protocols import Inputs
from trpo_tf.sampling.batch import Batch, VineBatch

__all__ = ['Estimates', 'Estimator', 'check_states']


class Estimates(NamedTuple):
  """What a learner estimates from N kept steps.

  Attributes:
    x: inputs of the steps.
    timesteps: int [N].
    predictions: float64 [N], of the baseline, before its fit.
    targets: float64 [N], which the baseline is fitted to.
    weights: float64 [N] of mean 1, of the steps; None: all are 1.
    mean_weight: what these weights were divided by.
    given: the surrogate's states and data, not scaled.
    partners: sums for the next batch's control variate; None without one.
  """

  x: Inputs
  timesteps: np.ndarray
  predictions: np.ndarray
  targets: np.ndarray
  weights: np.ndarray | None
  mean_weight: float
  given: SurrogateData
  partners: PartnerSums | None


class Estimator:
  """Estimates with the settings of a run and an old baseline."""

  def __init__(self, config: ExperimentConfig, baseline: Baseline):
    """Makes the estimator.

    Args:
      config: the experiment.
      baseline: the baseline.
    """
    self._config, self._baseline = config, baseline

  def __call__(
    self,
    state: dict[str, Any],
    normalizer: Normalizer,
    batch: Batch,
    branches_per_step: float,
  ) -> Estimates:
    """Estimates.

    Args:
      state: the learner's state.
      normalizer: normaliser of observations, as used while sampling.
      batch: the experience, or a part of it.
      branches_per_step: number of branches over the number of trunk steps.

    Returns:
      The Estimates.
    """
    settings = self._config.estimator
    baseline = self._baseline.state_type(**state['baseline'])
    x = batch.inputs(batch.steps('observations'), normalizer)
    timesteps = batch.steps('timesteps')
    predictions = self._baseline.predict(baseline, x, timesteps)
    weights = surrogate_data.step_weights(settings, batch, branches_per_step)
    mean_weight = 1.0
    if weights is not None:
      mean_weight = float(weights.mean())
      weights = weights / mean_weight
    advantages, targets, partners = self._advantages(
      state, baseline, normalizer, batch, predictions
    )
    given = (
      surrogate_data.of_vine(
        settings, self._baseline, baseline, normalizer, batch
      )
      if isinstance(batch, VineBatch) and not self._config.uses_every_step
      else surrogate_data.of_steps(x, batch, advantages, weights)
    )
    return Estimates(
      x,
      timesteps,
      predictions,
      targets,
      weights,
      mean_weight,
      given,
      partners,
    )

  def _advantages(
    self,
    state: dict[str, Any],
    baseline: Any,
    normalizer: Normalizer,
    batch: Batch,
    predictions: np.ndarray,
  ) -> tuple[np.ndarray, np.ndarray, PartnerSums | None]:
    """Returns advantages and value targets [N], and the partners' sums."""
    ends = np.cumsum([part.kept.sum() for part in batch.parts])
    found = [
      surrogate_data.advantages_and_targets(
        self._config.estimator,
        self._baseline,
        baseline,
        normalizer,
        part,
        predicted,
      )
      for part, predicted in zip(
        batch.parts, np.split(predictions, ends[:-1]), strict=True
      )
    ]
    partners = None
    if isinstance(batch, VineBatch) and self._config.uses_every_step:
      partners = surrogate_data.control_first_actions(
        self._config.sampler, Partners(**state['partners']), batch, found[1][0]
      )
    advantages, targets = (
      np.concatenate(
        [part.flat(f) for part, f in zip(batch.parts, fields, strict=True)]
      )
      for fields in zip(*found, strict=True)
    )
    return advantages, targets, partners

  def num_states(self, batch: Batch) -> int:
    """Returns the number of the step's states before any is left out."""
    if isinstance(batch, VineBatch) and not self._config.uses_every_step:
      return len(batch.rollout_set)
    return sum(int(part.kept.sum()) for part in batch.parts)


def check_states(count: int) -> None:
  """Raises UserError if no state of a rollout set is left."""
  if not count:
    raise UserError(
      'a branch of every state of the rollout set diverged: lower the '
      "model's time step, or the spread of the first actions"
    )
