"""What the operations on a shard return; reduced over shards by `merged`."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trpo_tf.distributed.reduction import Gathered, Largest
from trpo_tf.estimation.every_step import PartnerSums
from trpo_tf.estimation.surrogate import CandidateEvaluation
from trpo_tf.methods.surrogate_data import Spread
from trpo_tf.moments import Moments
from trpo_tf.optim.kl_penalty import PenalizedValue
from trpo_tf.sampling.summary import Summary

__all__ = [
  'AtTheta',
  'Curvatures',
  'Estimated',
  'Evaluated',
  'Penalized',
  'Prepared',
  'Sampled',
]


class Sampled(NamedTuple):
  """What is known of sampled batches.

  Attributes:
    summary: counts and statistics.
    observations: moments of the kept steps' observations; without weight if
      they are not normalised.
    branches: number of branches whose steps are kept.
    states: the samplers' states after the batch, by shard.
  """

  summary: Summary
  observations: Moments
  branches: int
  states: Gathered


class Estimated(NamedTuple):
  """What is known of estimated advantages and value targets.

  Attributes:
    counts: states for the step, by shard.
    fitted: steps that the baseline is fitted to, by shard.
    left_out: states of the rollout set that are left out.
    spread: how far the advantages are apart.
    targets: moments of the value targets.
    errors: moments of the targets minus the predictions.
    weight: sum of the weights of the step's states.
    partners: sums for the control variate.
  """

  counts: Gathered
  fitted: Gathered
  left_out: int
  spread: Spread
  targets: Moments
  errors: Moments
  weight: float
  partners: PartnerSums


class AtTheta(NamedTuple):
  """Sums over states at the sampling policy.

  Attributes:
    matrix_weight: the states of the step's matrix, by their weights.
    surrogate: of the surrogate's terms.
    gradient: float64 [P], of their gradients.
    entropy: of the policy's entropies, in nats.
  """

  matrix_weight: float
  surrogate: float
  gradient: np.ndarray
  entropy: float


class Prepared(NamedTuple):
  """What is known of states that are prepared for a step.

  Attributes:
    outputs_error: see surrogate.Consistency.
    at_theta: None if the step does without.
  """

  outputs_error: Largest
  at_theta: AtTheta | None


class Evaluated(NamedTuple):
  """Sums over states at a candidate.

  Attributes:
    surrogate: of the surrogate's terms.
    kl: of KL(old || candidate), in nats.
    max_kl: the largest KL of a state, in nats.
  """

  surrogate: float
  kl: float
  max_kl: Largest

  def mean(self, count: int) -> CandidateEvaluation:
    """Returns the evaluation on the batch; `count` is its number of states."""
    sums = self.surrogate / count, self.kl / count, self.max_kl.value
    return CandidateEvaluation(*(tf.constant(v, tf.float64) for v in sums))


class Penalized(NamedTuple):
  """Sums over states at a candidate; see PenalizedValue.

  Attributes:
    penalized: of the penalised surrogate's terms.
    evaluated: of the surrogate's terms and of the divergences.
    gradient: float64 [P], of the gradients of `penalized`.
    entropy: of the old policy's entropies, in nats.
  """

  penalized: float
  evaluated: Evaluated
  gradient: np.ndarray
  entropy: float

  def mean(self, count: int) -> PenalizedValue:
    """Returns the value on the batch; `count` is its number of states."""
    return PenalizedValue(
      self.penalized / count,
      self.evaluated.mean(count),
      self.gradient / count,
      self.entropy / count,
    )


class Curvatures(NamedTuple):
  """What is known of the states' curvatures along a direction.

  Attributes:
    weighted: their sum, by the states' weights.
    largest: the largest one.
  """

  weighted: float
  largest: Largest
