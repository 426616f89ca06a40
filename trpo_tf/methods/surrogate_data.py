"""Turns a batch, of paths or of a vine, into the data of a surrogate."""

from typing import Any, NamedTuple

import numpy as np

from trpo_tf.config import EstimatorConfig
from trpo_tf.errors import UserError
from trpo_tf.estimation import returns, vine
from trpo_tf.estimation.baselines import Baseline
from trpo_tf.estimation.surrogate import PathData
from trpo_tf.estimation.vine import VineData
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.protocols import Inputs
from trpo_tf.sampling.batch import Batch, VineBatch

__all__ = ['SurrogateData', 'advantages_and_targets', 'of_paths', 'of_vine']


class SurrogateData(NamedTuple):
  """The states and the data for a step on the surrogate.

  Attributes:
    x: inputs of N states.
    data: the objective's data, PathData or VineData, leading dimension N.
    advantages: float64, before scaling; [N] for the steps of paths, or [N, K]
      for the first actions of a vine, relative to the mean of their state.
  """

  x: Inputs
  data: Any
  advantages: np.ndarray


def of_paths(
  settings: EstimatorConfig, x: Inputs, batch: Batch, advantages: np.ndarray
) -> SurrogateData:
  """Collects the data of the kept steps of a batch of paths.

  Args:
    settings: whether to standardise the advantages.
    x: inputs of the N kept steps.
    batch: the experience.
    advantages: float64 [N], in units of return.

  Returns:
    The SurrogateData.
  """
  scaled = advantages
  if settings.standardize_advantages:
    scaled = (scaled - scaled.mean()) / (scaled.std() + 1e-8)
  data = PathData(
    batch.flat(batch.actions),
    batch.flat(batch.log_probs),
    scaled.astype(np.float32),
  )
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
    settings: the baseline, whether to scale Q, and the discount.
    baseline: estimates the return after the cut of a branch, unless
      --baseline=none.
    state: the baseline's state.
    normalizer: normaliser of observations, as used while sampling.
    batch: the experience.

  Returns:
    The SurrogateData.

  Raises:
    UserError: every state of the rollout set is left out.
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
  if not valid.any():
    raise UserError(
      'a branch of every state of the rollout set diverged: lower the '
      "model's time step, or the spread of the first actions"
    )
  q = q[valid]
  scaled = vine.scaled(q) if settings.standardize_advantages else q
  data = VineData(batch.first_actions[valid], batch.log_q[valid], scaled)
  states = batch.at_rollout_set(batch.observations)[valid]
  x = batch.inputs(states, normalizer)
  return SurrogateData(x, data, q - q.mean(axis=1, keepdims=True))


def advantages_and_targets(
  settings: EstimatorConfig,
  baseline: Baseline,
  state: Any,
  normalizer: Normalizer,
  batch: Batch,
  predictions: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Estimates advantages, and the returns that the baseline is fitted to.

  Args:
    settings: the baseline, gamma and lambda.
    baseline: the baseline.
    state: the baseline's state.
    normalizer: normaliser of observations, as used while sampling.
    batch: the experience, with N kept steps.
    predictions: float64 [N], the baseline's predictions at these steps.

  Returns:
    Advantages and targets, float64 [N] each, in units of return.
  """
  arrays = batch.rewards, batch.ends, batch.lengths
  values = np.zeros(batch.rewards.shape)
  values[batch.kept] = predictions
  if settings.baseline != 'value_network':
    found = returns.monte_carlo(*arrays, settings.gamma)[batch.kept]
    return found - predictions, found

  def value_of(observations: np.ndarray) -> np.ndarray:
    unused = np.zeros(len(observations), np.int32)
    inputs = batch.inputs(observations, normalizer)
    return baseline.predict(state, inputs, unused)

  boundary = np.zeros(batch.rewards.shape)
  if len(batch.boundary_index):
    slots, steps = batch.boundary_index.T
    boundary[slots, steps] = value_of(batch.boundary_observations)
  advantages, targets = returns.gae(
    *arrays,
    values,
    boundary,
    value_of(batch.last_observations),
    settings.gamma,
    settings.gae_lambda,
  )
  return advantages[batch.kept], targets[batch.kept]
