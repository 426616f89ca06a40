"""Estimates advantages and value targets from a batch, or from a part of it."""

from typing import Any, NamedTuple

import numpy as np

from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.estimation.amortized import Amortized
from trpo_tf.estimation.baselines import Baseline
from trpo_tf.estimation.every_step import Partners, PartnerSums
from trpo_tf.methods import surrogate_data
from trpo_tf.methods.surrogate_data import SurrogateData
from trpo_tf.policies import stacks
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.protocols import Inputs, Policy
from trpo_tf.sampling.batch import Batch, VineBatch

__all__ = ['Estimates', 'Estimator', 'FitTargets', 'check_states']


class FitTargets(NamedTuple):
  """What a baseline is fitted to: the N kept steps of paths, or of trunks.

  The targets of branches are left out. A branch is soon cut, and continues with
  the baseline's own prediction, so its targets repeat what was predicted.

  Attributes:
    x: inputs of the steps.
    timesteps: int [N].
    predictions: float64 [N], of the baseline, before its fit.
    targets: float64 [N], in units of return.
  """

  x: Inputs
  timesteps: np.ndarray
  predictions: np.ndarray
  targets: np.ndarray


class Estimates(NamedTuple):
  """What a learner estimates from the kept steps of a batch.

  Attributes:
    x: inputs of the steps.
    fit: what the baseline is fitted to.
    mean_weight: what the steps' weights were divided by; 1 without weights.
    given: the surrogate's states and data, not scaled.
    partners: sums for the next batch's control variate; None without one.
    amortized: A_phi for the next batch; None without one.
  """

  x: Inputs
  fit: FitTargets
  mean_weight: float
  given: SurrogateData
  partners: PartnerSums | None
  amortized: Amortized | None


class Estimator:
  """Estimates with the settings of a run and an old baseline."""

  def __init__(
    self, config: ExperimentConfig, policy: Policy, baseline: Baseline
  ):
    """Makes the estimator.

    Args:
      config: the experiment.
      policy: the policy.
      baseline: the baseline.
    """
    self._config, self._policy, self._baseline = config, policy, baseline

  def __call__(
    self,
    theta: np.ndarray,
    state: dict[str, Any],
    normalizer: Normalizer,
    batch: Batch,
    branches_per_step: float,
  ) -> Estimates:
    """Estimates.

    Args:
      theta: float32 [P], the policy that sampled the batch.
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
    found = self._of_parts(baseline, normalizer, batch, predictions)
    later = self._amortized(theta, state, normalizer, batch, x, found)
    partners = self._partners(state, batch, found)
    advantages = np.concatenate(
      [p.flat(a) for p, (a, _) in zip(batch.parts, found, strict=True)]
    )
    targets = batch.flat(found[0][1])
    count = len(targets)
    fit = FitTargets(
      stacks.rows(x, 0, count), timesteps[:count], predictions[:count], targets
    )
    given = (
      surrogate_data.of_vine(
        settings, self._baseline, baseline, normalizer, batch
      )
      if isinstance(batch, VineBatch) and not self._config.uses_every_step
      else surrogate_data.of_steps(x, batch, advantages, weights)
    )
    return Estimates(x, fit, mean_weight, given, partners, later)

  def _of_parts(
    self,
    baseline: Any,
    normalizer: Normalizer,
    batch: Batch,
    predictions: np.ndarray,
  ) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns advantages and value targets [S, T] of each part."""
    ends = np.cumsum([part.kept.sum() for part in batch.parts])
    return [
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

  def _amortized(
    self,
    theta: np.ndarray,
    state: dict[str, Any],
    normalizer: Normalizer,
    batch: Batch,
    x: Inputs,
    found: list[tuple[np.ndarray, np.ndarray]],
  ) -> Amortized | None:
    """Subtracts A_phi from the advantages in place, if the settings say so."""
    if not self._config.estimator.amortized_advantage:
      return None
    assert isinstance(batch, VineBatch)
    return surrogate_data.amortize(
      self._config.estimator,
      Amortized(**state['amortized']),
      self._policy.log_std(theta),
      normalizer,
      batch,
      x,
      [advantages for advantages, _ in found],
    )

  def _partners(
    self,
    state: dict[str, Any],
    batch: Batch,
    found: list[tuple[np.ndarray, np.ndarray]],
  ) -> PartnerSums | None:
    """Subtracts the control variate from first actions in place, if any."""
    if not (isinstance(batch, VineBatch) and self._config.uses_every_step):
      return None
    return surrogate_data.control_first_actions(
      self._config.sampler, Partners(**state['partners']), batch, found[1][0]
    )

  def num_states(self, batch: Batch) -> int:
    """Returns the number of the step's states before any is left out."""
    if isinstance(batch, VineBatch) and not self._config.uses_every_step:
      return len(batch.rollout_set)
    return sum(int(part.kept.sum()) for part in batch.parts)


def check_states(count: int) -> None:
  """Raises UserError if no state of a rollout set is left."""
  if not count:
    raise UserError(
      'no state of the rollout set is left: a branch of each diverged, or its '
      "trunk did; lower the model's time step, or the spread of the actions"
    )
