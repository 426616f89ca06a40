"""What the shards in one process share: everything that is compiled."""

import dataclasses
from typing import NamedTuple

from trpo_tf import seeding
from trpo_tf.config import ExperimentConfig
from trpo_tf.distributed.stages import ProblemStages
from trpo_tf.distributed.value_fit import Fit, make_fit
from trpo_tf.errors import UserError
from trpo_tf.estimation import baselines, value_network
from trpo_tf.experiment import backend as backend_lib
from trpo_tf.methods import surrogate_learner
from trpo_tf.methods.estimates import Estimator
from trpo_tf.optim import (
  empirical_fisher,
  fisher,
  natural_gradient,
  policy_gradient,
  trust_region,
)
from trpo_tf.optim.compiled import Rule
from trpo_tf.optim.problem import Matrix
from trpo_tf.seeding import Stream

__all__ = ['STEPS', 'Kit', 'ShardedStep', 'check']


class ShardedStep(NamedTuple):
  """A step that needs nothing but sums over states.

  Attributes:
    rule: solves the problem.
    matrix: prepares the products with its matrix.
  """

  rule: Rule
  matrix: Matrix


STEPS = {
  'trpo': ShardedStep(trust_region.take, fisher.analytic),
  'natural_gradient': ShardedStep(natural_gradient.take, fisher.analytic),
  'policy_gradient': ShardedStep(policy_gradient.take, fisher.analytic),
  'empirical_fisher': ShardedStep(
    trust_region.take, empirical_fisher.covariance
  ),
}


def check(config: ExperimentConfig) -> None:
  """Raises UserError if a run cannot be cut into shards."""
  method, baseline = config.method.method, config.estimator.baseline
  shards = f'--num_shards={config.sampler.num_shards}'
  if method not in STEPS:
    raise UserError(
      f'{shards} is for --method={", ".join(STEPS)}, not {method}: take '
      '--num_shards=1'
    )
  if config.estimator.amortized_advantage:
    raise UserError(f'{shards} has no --amortized_advantage: leave it out')
  if baseline == 'linear':
    raise UserError(
      f'{shards} has no --baseline=linear: take time, none or value_network'
    )


class Kit:
  """What the shards in a process share: everything that is compiled.

  Attributes:
    config: the experiment.
    policy: the policy.
    baseline: the baseline.
    estimator: estimates advantages and value targets.
    problem: the compiled problem of a step.
    fit: of the value network; None for other baselines.
  """

  def __init__(self, config: ExperimentConfig):
    """Makes the kit.

    Args:
      config: the experiment, of all shards.
    """
    self.config = config
    self.policy = backend_lib.resolve(config).policy()
    self.baseline = baselines.make_baseline(
      config.estimator, self.policy.network
    )
    self.estimator = Estimator(config, self.policy, self.baseline)
    objective, num_states = surrogate_learner.objective(config)
    self.problem = ProblemStages(
      self.policy,
      objective,
      STEPS[config.method.method].matrix,
      -(-num_states // config.sampler.num_shards),
      config.trust_region.fisher_fraction,
    )
    self.fit: Fit | None = None
    if isinstance(self.baseline, value_network.ValueNetwork):
      rate = config.estimator.value_learning_rate
      self.fit = make_fit(self.baseline, rate)

  def of_shard(self, index: int) -> ExperimentConfig:
    """Returns the settings of one shard's sampler."""
    sampler, run = self.config.sampler, self.config.run
    S = sampler.num_shards
    rng = seeding.generator(run.seed, Stream.SHARD_SEEDS)
    seeds = rng.choice(2**31, S, replace=False)  # all different
    own = dataclasses.replace(
      sampler,
      num_shards=1,
      num_slots=sampler.num_slots // S,
      batch_steps=sampler.batch_steps // S,
      rollout_set_size=max(1, sampler.rollout_set_size // S),
      sampler_threads=1,
    )
    return dataclasses.replace(
      self.config,
      sampler=own,
      run=dataclasses.replace(run, seed=int(seeds[index])),
    )
