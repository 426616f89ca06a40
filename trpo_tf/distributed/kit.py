"""What the shards in one process share: everything that is compiled."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

from trpo_tf import seeding
from trpo_tf.config import ExperimentConfig
from trpo_tf.distributed.shard_problem import (
  Begin,
  PenalizedStates,
  ShardProblem,
  WeightedProblem,
)
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
  kl_penalty,
  max_kl,
  natural_gradient,
  policy_gradient,
  trust_region,
)
from trpo_tf.optim.compiled import Rule
from trpo_tf.optim.problem import Matrix
from trpo_tf.seeding import Stream

__all__ = ['STEPS', 'Kit', 'ShardedStep', 'check', 'check_states']


def _accept(config: ExperimentConfig, num_states: int) -> None:
  """Accepts any settings."""
  del config, num_states


class ShardedStep(NamedTuple):
  """A step on a Problem, which needs nothing but sums over states.

  Attributes:
    rule: solves the problem.
    matrix: prepares the products with its matrix.
    check: raises UserError for settings that the step refuses, or for a number
      of states of a shard.
    problem: class of a shard's problem.
  """

  rule: Rule
  matrix: Matrix = fisher.analytic
  check: Callable[[ExperimentConfig, int], None] = _accept
  problem: type[ShardProblem] = ShardProblem


# Every step but kl_penalty's, which is on no Problem.
STEPS = {
  'trpo': ShardedStep(trust_region.take),
  'natural_gradient': ShardedStep(natural_gradient.take),
  'policy_gradient': ShardedStep(policy_gradient.take),
  'empirical_fisher': ShardedStep(
    trust_region.take, empirical_fisher.covariance, empirical_fisher.check
  ),
  'max_kl': ShardedStep(
    max_kl.take, check=max_kl.check, problem=WeightedProblem
  ),
}


def check(config: ExperimentConfig) -> None:
  """Raises UserError if a run cannot be cut into shards."""
  method, baseline = config.method.method, config.estimator.baseline
  shards = f'--num_shards={config.sampler.num_shards}'
  methods = (*STEPS, 'kl_penalty')
  if method not in methods:
    raise UserError(
      f'{shards} is for --method={", ".join(methods)}, not {method}: take '
      '--num_shards=1'
    )
  check_states(config, _num_states(config))
  if config.estimator.amortized_advantage:
    raise UserError(f'{shards} has no --amortized_advantage: leave it out')
  if baseline == 'linear':
    raise UserError(
      f'{shards} has no --baseline=linear: take time, none or value_network'
    )


def check_states(config: ExperimentConfig, num_states: int) -> None:
  """Raises UserError if the method refuses the settings.

  Args:
    config: the experiment.
    num_states: the most states that a shard has for the step.
  """
  method = config.method.method
  if method in STEPS:
    STEPS[method].check(config, num_states)


def _num_states(config: ExperimentConfig) -> int:
  """Returns about how many states a shard has."""
  num_states = surrogate_learner.objective(config)[1]
  return -(-num_states // config.sampler.num_shards)


class Kit:
  """What the shards in a process share: everything that is compiled.

  Attributes:
    config: the experiment.
    backend: its task, which the shards share.
    policy: the policy.
    baseline: the baseline.
    estimator: estimates advantages and value targets.
    begin: begins the problem of a step on a shard.
    fit: of the value network; None for other baselines.
  """

  def __init__(self, config: ExperimentConfig):
    """Makes the kit.

    Args:
      config: the experiment, of all shards.
    """
    self.config = config
    self.backend = backend_lib.resolve(config)
    self.policy = self.backend.policy()
    self.baseline = baselines.make_baseline(
      config.estimator, self.policy.network
    )
    self.estimator = Estimator(config, self.policy, self.baseline)
    self.begin = self._compiled()
    self.fit: Fit | None = None
    if isinstance(self.baseline, value_network.ValueNetwork):
      rate = config.estimator.value_learning_rate
      self.fit = make_fit(self.baseline, rate)

  def _compiled(self) -> Begin:
    config, method = self.config, self.config.method.method
    objective, _ = surrogate_learner.objective(config)
    num_states = _num_states(config)
    if method == 'kl_penalty':
      value = kl_penalty.compile_value(self.policy, objective, num_states)
      return functools.partial(PenalizedStates, value)
    problem = STEPS[method].problem
    stages = ProblemStages(
      self.policy,
      objective,
      STEPS[method].matrix,
      num_states,
      config.trust_region.fisher_fraction,
      problem.weighs_states,
    )
    return functools.partial(problem, stages)

  def of_shard(self, index: int) -> ExperimentConfig:
    """Returns the settings of one shard's sampler."""
    sampler = self.config.sampler
    S = sampler.num_shards
    rng = seeding.generator(self.config.run.seed, Stream.SHARD_SEEDS)
    seeds = rng.choice(2**31, S, replace=False)  # all different
    own = dataclasses.replace(
      sampler,
      num_shards=1,
      num_slots=sampler.num_slots // S,
      batch_steps=sampler.batch_steps // S,
      rollout_set_size=max(1, sampler.rollout_set_size // S),
      sampler_threads=1,
    )
    seeded = self.config.reseeded(int(seeds[index]))
    return dataclasses.replace(seeded, sampler=own)
