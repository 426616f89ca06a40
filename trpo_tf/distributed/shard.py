"""A shard of a run: some slots, and what a learner makes of their steps.

A shard is a function of the seed, its number, the iteration, theta and the
normaliser. Its trajectories never leave it. What it returns are sums over its
steps, counts and moments, which are reduced over the shards.
"""

import dataclasses
from typing import Any

import numpy as np

from trpo_tf import seeding
from trpo_tf.distributed.kit import Kit
from trpo_tf.distributed.reduction import Gathered, Largest
from trpo_tf.distributed.results import Estimated, Prepared, Sampled
from trpo_tf.distributed.shard_problem import PenalizedStates, ShardProblem
from trpo_tf.distributed.value_fit import FitData
from trpo_tf.estimation.closed_form import TimeSums
from trpo_tf.estimation.every_step import PartnerSums
from trpo_tf.estimation.surrogate import weights_of
from trpo_tf.experiment import backend as backend_lib
from trpo_tf.methods import consistency, surrogate_data, surrogate_learner
from trpo_tf.methods.estimates import Estimates
from trpo_tf.methods.surrogate_data import Spread
from trpo_tf.moments import Moments
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.batch import Batch, Divergence
from trpo_tf.seeding import Stream

__all__ = ['Shard']


class Shard:
  """One shard; each public method is an operation on it.

  The operations of an iteration come in the order of the methods. Those of the
  step are methods of its problem; see shard_problem.
  """

  _batch: Batch
  _normalizer: Normalizer
  _theta: np.ndarray
  _found: Estimates
  _problem: ShardProblem | PenalizedStates | None

  def __init__(self, kit: Kit, index: int):
    """Builds the shard's sampler, whose slots begin with a reset.

    Args:
      kit: what the process has.
      index: the shard's number.
    """
    self._kit, self._index = kit, index
    backend = kit.backend.configured(kit.of_shard(index))
    self._sampler = backend_lib.make_sampler(backend)

  def call(self, operation: str, *arguments: Any) -> Any:
    """Calls an operation by its name.

    Args:
      operation: a method of Shard, or of the problem of its step.
      *arguments: its arguments.

    Returns:
      The result; None if the shard has no states for the step.
    """
    on = self if hasattr(Shard, operation) else self._problem
    return None if on is None else getattr(on, operation)(*arguments)

  def close(self) -> None:
    """Stops what the sampler started."""
    self._sampler.close()

  def state(self) -> Gathered:
    """Returns the sampler's state."""
    return Gathered({self._index: self._sampler.state()})

  def restore(self, states: dict[int, Any]) -> int:
    """Continues from a sampler's state; see Sampler.

    Args:
      states: by the number of the shard.
    """
    self._sampler.restore(states[self._index])
    return 0

  def sample(
    self, theta: np.ndarray, normalizer: Normalizer, iteration: int
  ) -> Sampled:
    """Samples a batch and keeps it.

    Args:
      theta: float32 [P], the policy.
      normalizer: normaliser of observations.
      iteration: key of the random draws.
    """
    batch = self._sampler.sample(theta, normalizer, iteration)
    self._batch, self._normalizer, self._theta = batch, normalizer, theta
    seen = (
      batch.observation_moments()
      if normalizer.enabled
      else Moments.of(np.zeros((0, *normalizer.mean.shape)))
    )
    branches = sum(len(part.kept) for part in batch.parts[1:])
    summary = batch.summary()
    summary = summary._replace(
      diverged=tuple(self._of_the_run(event) for event in summary.diverged)
    )
    return Sampled(summary, seen, branches, self.state())

  def _of_the_run(self, event: Divergence) -> Divergence:
    """Returns a divergence whose slot counts those of earlier shards too."""
    sampler = self._kit.config.sampler
    first = self._index * (sampler.num_slots // sampler.num_shards)
    return dataclasses.replace(event, slot=first + event.slot)

  def estimate(
    self, state: dict[str, Any], branches_per_step: float
  ) -> Estimated:
    """Estimates advantages and value targets, and keeps them.

    Args:
      state: the learner's state.
      branches_per_step: number of branches over the number of trunk steps.
    """
    batch = self._batch
    found = self._kit.estimator(
      self._theta, state, self._normalizer, batch, branches_per_step
    )
    self._found = found
    targets, by = found.fit.targets, found.mean_weight
    count = len(found.given.advantages)
    spread = surrogate_data.spread(found.given, targets)
    spread = spread._replace(moments=spread.moments.reweighted(by))
    return Estimated(
      Gathered({self._index: count}),
      Gathered({self._index: len(targets)}),
      self._kit.estimator.num_states(batch) - count,
      spread,
      Moments.of(targets),
      Moments.of(targets - found.fit.predictions),
      by * count,
      found.partners or PartnerSums(0, 0.0, 0.0),
    )

  def prepare(
    self,
    counts: dict[int, int],
    spread: Spread,
    mean_weight: float,
    iteration: int,
  ) -> Prepared | None:
    """Prepares the problem of the step; its operations may follow.

    Args:
      counts: states for the step, by shard.
      spread: how far the advantages of all shards are apart.
      mean_weight: mean of the weights of all shards' steps, before they were
        divided by their mean.
      iteration: key of the random draws.

    Returns:
      What is known of the states; None if there are none.
    """
    found, config = self._found, self._kit.config
    standardize = config.estimator.standardize_advantages
    given = surrogate_data.scaled(found.given, spread, standardize)
    data = given.data
    if weights_of(data) is not None:
      factor = found.mean_weight / mean_weight
      data = data._replace(weights=factor * data.weights)
    rows = self._matrix_rows(counts, iteration)
    self._problem = None
    if not len(given.advantages):
      return None
    kit, batch = self._kit, self._batch
    checked = consistency.check(kit.policy, self._theta, found.x, batch)
    self._problem = kit.begin(self._theta, given.x, data, rows)
    return Prepared(Largest(checked.outputs_error), self._problem.at_theta)

  def _matrix_rows(
    self, counts: dict[int, int], iteration: int
  ) -> np.ndarray | None:
    """Returns this shard's rows of those that all shards draw together."""
    total = sum(counts.values())
    rows = surrogate_learner.fisher_rows(self._kit.config, total, iteration)
    if rows is None:
      return None
    first = sum(counts[i] for i in range(self._index))
    end = first + counts[self._index]
    return rows[np.searchsorted(rows, first) : np.searchsorted(rows, end)] - (
      first
    )

  def time_sums(self) -> TimeSums:
    """Sums the value targets by time step."""
    return TimeSums.of(self._found.fit.timesteps, self._found.fit.targets)

  def fit_data(
    self,
    mean: float,
    scale: float,
    counts: dict[int, int],
    iteration: int,
  ) -> FitData:
    """Draws this shard's part of every minibatch.

    A shard's gradients count by its number of steps, so that their expectation
    is the gradient over all steps.

    Args:
      mean: mean of the value targets' statistics, in units of return.
      scale: their deviation.
      counts: steps that the baseline is fitted to, by shard.
      iteration: key of the random draws.

    Returns:
      The data of the fit; gradients of a shard without steps are 0.
    """
    fit, config = self._found.fit, self._kit.config
    S, settings = config.sampler.num_shards, config.estimator
    n, total = counts[self._index], sum(counts.values())
    size = settings.value_minibatch // S
    rounds = max(1, total // settings.value_minibatch)
    rng = seeding.generator(
      config.run.seed, Stream.VALUE_MINIBATCHES, iteration, self._index
    )
    rows = [
      np.resize(rng.permutation(n), rounds * size)
      for _ in range(settings.value_epochs)
    ]
    targets = (fit.targets - mean) / scale
    return FitData(
      np.float32(size * total / n if n else np.inf),
      np.concatenate(rows).reshape(-1, size).astype(np.int32),
      fit.x,
      targets.astype(np.float32)[:, np.newaxis],
    )

  def squared_error(self, state: dict[str, Any]) -> float:
    """Sums the squared errors of a baseline's predictions.

    Args:
      state: the baseline's state.
    """
    fit, baseline = self._found.fit, self._kit.baseline
    after = baseline.predict(baseline.state_type(**state), fit.x, fit.timesteps)
    return float(np.square(after - fit.targets).sum())
