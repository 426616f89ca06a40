"""Turns a batch, of paths or of a vine, into the data of a surrogate."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from trpo_tf.config import EstimatorConfig, SamplerConfig
from trpo_tf.estimation import every_step, returns, vine
from trpo_tf.estimation.amortized import Amortized
from trpo_tf.estimation.baselines import Baseline
from trpo_tf.estimation.every_step import Partners, PartnerSums
from trpo_tf.estimation.surrogate import PathData, WeightedPathData, weights_of
from trpo_tf.estimation.vine import VineData
from trpo_tf.moments import Moments
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.protocols import Inputs
from trpo_tf.sampling.batch import Batch, VineBatch

__all__ = [
  'Spread',
  'SurrogateData',
  'advantages_and_targets',
  'amortize',
  'control_first_actions',
  'of_steps',
  'of_vine',
  'scaled',
  'spread',
  'step_weights',
]


class SurrogateData(NamedTuple):
  """The states and the data for a step on the surrogate.

  Attributes:
    x: inputs of N states.
    data: the objective's data, leading dimension N.
    advantages: float64, before scaling; [N] for steps, or [N, K]
      for the first actions of a vine, relative to the mean of their state.
  """

  x: Inputs
  data: Any
  advantages: np.ndarray


class Spread(NamedTuple):
  """How far advantages are apart, from one part of a batch or from all of it.

  Attributes:
    moments: of the advantages of steps, or of the deviations of Q over the
      first actions of each state.
    largest: largest absolute value of Q, or of the steps' value targets: the
      size of what advantages are differences of.
  """

  moments: Moments
  largest: float

  def merge(self, other: 'Spread') -> 'Spread':
    """Returns the spread of both parts together."""
    return Spread(
      self.moments.merge(other.moments), max(self.largest, other.largest)
    )


# Advantages are differences of sums of up to 1e5 terms. Below this multiple of
# the sums they are what rounding leaves of equal returns. The length of TRPO's
# step does not depend on their scale, so it would follow them.
_ROUNDING = 1e5 * np.finfo(np.float64).eps


def spread(given: SurrogateData, targets: np.ndarray) -> Spread:
  """Measures how far the advantages of some data, not scaled, are apart.

  Args:
    given: the data.
    targets: float64 [n], value targets of the batch.
  """
  if isinstance(given.data, VineData):
    q = given.data.q_values
    return Spread(Moments.of(vine.spread(q)), float(np.abs(q).max(initial=0)))
  moments = Moments.of(given.advantages, weights_of(given.data))
  return Spread(moments, float(np.abs(targets).max(initial=0)))


def scaled(
  given: SurrogateData, over: Spread, standardize: bool = True
) -> SurrogateData:
  """Standardises the advantages of steps, or divides Q by its spread.

  Args:
    given: the data, not scaled.
    over: the spread over the whole batch.
    standardize: whether to; advantages of steps that rounding made are zero in
      any case.

  Returns:
    The data for the step.
  """
  data, moments = given.data, over.moments
  if isinstance(data, VineData):
    if not standardize:
      return given
    K = data.q_values.shape[1]
    by = vine.divisor(float(moments.mean), over.largest, K)
    return given._replace(data=data._replace(q_values=data.q_values / by))
  size = moments.std if standardize else np.hypot(moments.mean, moments.std)
  if size <= _ROUNDING * over.largest:
    found = np.zeros_like(given.advantages)
  elif standardize:
    found = (given.advantages - moments.mean) / (moments.std + 1e-8)
  else:
    return given
  return given._replace(data=data._replace(advantages=found.astype(np.float32)))


def step_weights(
  settings: EstimatorConfig, batch: Batch, branches_per_step: float
) -> np.ndarray | None:
  """Weights the kept steps of trunks and branches, see every_step.

  Args:
    settings: whether to weight the steps.
    batch: the experience.
    branches_per_step: number of branches over the number of trunk steps.

  Returns:
    float64 [N] of any mean; None if all weights are 1.
  """
  branches = batch.parts[1:]
  if not branches or not settings.occupancy_weights:
    return None
  length = branches[0].kept.shape[1]
  return every_step.occupancy_weights(
    batch.steps('timesteps'), branches_per_step, length
  )


def of_steps(
  x: Inputs,
  batch: Batch,
  advantages: np.ndarray,
  weights: np.ndarray | None,
) -> SurrogateData:
  """Collects the data of the kept steps of paths, or of trunks and branches.

  Args:
    x: inputs of the N kept steps.
    batch: the experience.
    advantages: float64 [N], in units of return.
    weights: float64 [N] of mean 1, of the steps; None: all are 1.

  Returns:
    The SurrogateData, not scaled.
  """
  steps = PathData(
    batch.steps('actions'),
    batch.steps('log_probs'),
    advantages.astype(np.float32),
  )
  data = steps if weights is None else WeightedPathData(*steps, weights)
  return SurrogateData(x, data, advantages)


def of_vine(
  settings: EstimatorConfig,
  baseline: Baseline,
  state: Any,
  normalizer: Normalizer,
  batch: VineBatch,
) -> SurrogateData:
  """Collects the data of the rollout set's states.

  A state is left out if none of its noise sequences is free of failures, or if
  its trunk was dropped.

  Args:
    settings: the baseline and the discount.
    baseline: estimates the return after the cut of a branch, unless
      --baseline=none.
    state: the baseline's state.
    normalizer: normaliser of observations, as used while sampling.
    batch: the experience.

  Returns:
    The SurrogateData, not scaled.
  """
  final_values = None
  if settings.baseline != 'none':
    shape = batch.branch_lengths.shape
    timesteps = batch.at_rollout_set(batch.timesteps)[:, None, None]
    timesteps = (timesteps + batch.branch_lengths).ravel()
    finals = batch.inputs(batch.final_observations, normalizer)
    final_values = baseline.predict(state, finals, timesteps).reshape(shape)
  q, valid = vine.q_values(
    batch.branch_returns,
    batch.branch_lengths,
    batch.branch_ends,
    final_values,
    settings.gamma,
  )
  valid &= batch.at_rollout_set(batch.kept)
  q = q[valid]
  data = VineData(batch.first_actions[valid], batch.log_q[valid], q)
  states = batch.at_rollout_set(batch.observations)[valid]
  x = batch.inputs(states, normalizer)
  return SurrogateData(x, data, q - q.mean(axis=1, keepdims=True))


def amortize(
  settings: EstimatorConfig,
  state: Amortized,
  log_std: np.ndarray,
  normalizer: Normalizer,
  batch: VineBatch,
  x: Inputs,
  advantages: Sequence[np.ndarray],
) -> Amortized:
  """Subtracts A_phi of the later steps from the advantages of trunks, branches.

  A state teaches if the first steps of all its branches are kept.

  Args:
    settings: gamma and lambda.
    state: A_phi as earlier batches left it.
    log_std: [A], of the policy.
    normalizer: normaliser of observations, as used while sampling.
    batch: the experience, with the steps of its branches.
    x: inputs of the kept steps.
    advantages: float64 [S, T] of each part, by GAE; changed in place.

  Returns:
    A_phi for the next batch.
  """
  assert isinstance(x, np.ndarray)
  trunks, branches = batch.parts
  std = np.exp(log_std.astype(np.float64))
  shape = batch.branch_lengths.shape
  first = advantages[1][:, 0].reshape(shape).copy()  # not a view

  noise = (batch.steps('actions') - batch.steps('outputs')) / std
  at_steps = np.split(state.values(x, noise), [trunks.kept.sum()])
  for part, kept, changed in zip(
    batch.parts, at_steps, advantages, strict=True
  ):
    values = np.zeros(part.kept.shape)
    values[part.kept] = kept
    decay = settings.gamma * settings.gae_lambda
    changed -= returns.later_sums(values, part.ends, part.lengths, decay)

  teaches = branches.kept[:, 0].reshape(shape).all(axis=(1, 2))
  roots = batch.at_rollout_set(batch.observations)[teaches]
  means = batch.at_rollout_set(batch.outputs)[:, np.newaxis]
  noise = (batch.first_actions - means) / std
  return state.updated(
    batch.inputs(roots, normalizer), noise[teaches], first[teaches].mean(axis=2)
  )


def control_first_actions(
  sampler: SamplerConfig,
  partners: Partners,
  batch: VineBatch,
  advantages: np.ndarray,
) -> PartnerSums:
  """Subtracts the control variate from the advantages of first actions.

  Args:
    sampler: K, M and the proposal.
    partners: the control variate of earlier batches.
    batch: the experience, with the steps of its branches.
    advantages: float64 [B, L], of the branches' steps; the first ones are
      changed in place.

  Returns:
    Sums for the control variate of the next batch.
  """
  assert batch.branches is not None
  shape = batch.branch_lengths.shape
  first = advantages[:, 0].reshape(shape).copy()  # not a view
  usable = batch.branches.kept[:, 0].reshape(shape)
  group = 2 if sampler.branch_proposal == 'antithetic' else 1
  means = every_step.partner_means(first, usable, group)
  advantages[:, 0] -= partners.coefficient * means.ravel()
  return PartnerSums.of(first[usable], means[usable])


def advantages_and_targets(
  settings: EstimatorConfig,
  baseline: Baseline,
  state: Any,
  normalizer: Normalizer,
  batch: Batch,
  predictions: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Estimates advantages, and the returns that the baseline is fitted to.

  Of a batch with several parts, this takes one.

  Args:
    settings: the baseline, gamma and lambda.
    baseline: the baseline.
    state: the baseline's state.
    normalizer: normaliser of observations, as used while sampling.
    batch: the experience, with N kept steps.
    predictions: float64 [N], the baseline's predictions at these steps.

  Returns:
    Advantages and targets, float64 [S, T] each, in units of return;
    meaningless where no step is kept.
  """
  arrays = batch.rewards, batch.ends, batch.lengths
  values = np.zeros(batch.rewards.shape)
  values[batch.kept] = predictions
  if settings.baseline != 'value_network':
    found = returns.monte_carlo(*arrays, settings.gamma)
    return found - values, found

  def value_of(observations: np.ndarray) -> np.ndarray:
    unused = np.zeros(len(observations), np.int32)
    inputs = batch.inputs(observations, normalizer)
    return baseline.predict(state, inputs, unused)

  boundary = np.zeros(batch.rewards.shape)
  if len(batch.boundary_index):
    slots, steps = batch.boundary_index.T
    boundary[slots, steps] = value_of(batch.boundary_observations)
  return returns.gae(
    *arrays,
    values,
    boundary,
    value_of(batch.last_observations),
    settings.gamma,
    settings.gae_lambda,
  )
