"""All settings of an experiment, and which of them contradict each other."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from trpo_tf.config.groups import (
  AtariConfig,
  EstimatorConfig,
  PolicyConfig,
  TaskConfig,
  TrustRegionConfig,
)
from trpo_tf.config.methods import POPULATION_METHODS, MethodConfig
from trpo_tf.config.run import NO_RETURN, RunConfig
from trpo_tf.config.sampler import SamplerConfig


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
  """All settings of a run, by group."""

  task: TaskConfig = dataclasses.field(default_factory=TaskConfig)
  atari: AtariConfig = dataclasses.field(default_factory=AtariConfig)
  policy: PolicyConfig = dataclasses.field(default_factory=PolicyConfig)
  sampler: SamplerConfig = dataclasses.field(default_factory=SamplerConfig)
  estimator: EstimatorConfig = dataclasses.field(
    default_factory=EstimatorConfig
  )
  trust_region: TrustRegionConfig = dataclasses.field(
    default_factory=TrustRegionConfig
  )
  method: MethodConfig = dataclasses.field(default_factory=MethodConfig)
  run: RunConfig = dataclasses.field(default_factory=RunConfig)

  def __post_init__(self):
    """Refuses settings that contradict each other.

    Raises:
      ValueError: two settings contradict each other; the message names both
        and a way out.
    """
    if self.method.method in (*POPULATION_METHODS, 'rwr'):
      self._check_whole_paths()
    if self.sampler.sampler == 'vine':
      self._check_vine()
    elif not self.sampler.whole_episodes:
      self._check_cut_paths()
    if self.estimator.amortized_advantage:
      self._check_amortized()
    if self.sampler.batch_steps % self.sampler.num_slots:
      raise ValueError(
        f'--batch_steps={self.sampler.batch_steps} is not a multiple of '
        f'--num_slots={self.sampler.num_slots}'
      )

    if self.sampler.num_shards > 1:
      self._check_shards()
    if self.run.init_from and self.method.method in POPULATION_METHODS:
      raise ValueError(
        f'--init_from is for methods that improve one policy, not '
        f'{self.method.method}: leave it out'
      )
    if (
      self.run.stop_at_return < NO_RETURN and not self.run.eval_every_env_steps
    ):
      raise ValueError(
        f'--stop_at_return={self.run.stop_at_return:g} needs evaluations: add '
        '--eval_every_env_steps, such as 100000'
      )

  def _check_shards(self) -> None:
    sampler, estimator = self.sampler, self.estimator
    if self.run.device != 'cpu':
      raise ValueError(
        f'--device={self.run.device} is for a run in one part: take '
        '--num_shards=1'
      )
    sizes = {'num_slots': sampler.num_slots}
    if sampler.sampler == 'vine':
      sizes['rollout_set_size'] = sampler.rollout_set_size
    if estimator.baseline == 'value_network':
      sizes['value_minibatch'] = estimator.value_minibatch
    for name, size in sizes.items():
      if size % sampler.num_shards:
        raise ValueError(
          f'--{name}={size} is not a multiple of '
          f'--num_shards={sampler.num_shards}'
        )

  def _check_whole_paths(self) -> None:
    method = self.method.method
    if self.sampler.sampler == 'vine' or not self.sampler.whole_episodes:
      raise ValueError(
        f'--method={method} compares the returns of whole paths: add '
        '--whole_episodes with --sampler=single_path, or take --method=trpo'
      )
    if self.estimator.entropy_coefficient:
      raise ValueError(
        '--entropy_coefficient adds to a surrogate, which '
        f'--method={method} does not have: leave it out'
      )

  def _check_cut_paths(self) -> None:
    # Without a value of the state where a slot's share ends, the return of its
    # last steps would lack most of its terms.
    if self.estimator.baseline != 'value_network':
      raise ValueError(
        f'--baseline={self.estimator.baseline} takes returns to the end of an '
        'episode, which the end of a batch would cut short: add '
        '--whole_episodes, or use --baseline=value_network'
      )

  def _check_vine(self) -> None:
    sampler, objective = self.sampler, self.estimator.vine_objective
    if self.estimator.baseline not in ('none', 'value_network'):
      raise ValueError(
        f'--baseline={self.estimator.baseline} cannot continue a branch that '
        'was cut: --sampler=vine takes --baseline=value_network or none'
      )
    if sampler.whole_episodes:
      raise ValueError(
        '--sampler=vine draws its states from trunks of fixed length: drop '
        '--whole_episodes'
      )
    if sampler.rollout_set_size > sampler.batch_steps:
      raise ValueError(
        f'--rollout_set_size={sampler.rollout_set_size} exceeds the '
        f'--batch_steps={sampler.batch_steps} states that the trunks visit'
      )
    every = sampler.branch_proposal == 'all'
    if (objective == 'all_actions') != every:
      raise ValueError(
        '--vine_objective=all_actions and --branch_proposal=all need each '
        f'other; got --vine_objective={objective} and '
        f'--branch_proposal={sampler.branch_proposal}'
      )
    self._check_every_step()
    centred = objective in ('self_normalized', 'mean_baseline')
    if centred and sampler.branch_actions < 2:
      raise ValueError(
        f'--vine_objective={objective} compares the actions of a state: take '
        f'--branch_actions of 2 or more, not {sampler.branch_actions}'
      )

  def _check_every_step(self) -> None:
    sampler, objective = self.sampler, self.estimator.vine_objective
    antithetic = sampler.branch_proposal == 'antithetic'
    if antithetic and sampler.branch_actions % 2:
      raise ValueError(
        '--branch_proposal=antithetic draws pairs: take an even '
        f'--branch_actions, not {sampler.branch_actions}'
      )
    if antithetic and objective in ('self_normalized', 'mean_baseline'):
      raise ValueError(
        f'--vine_objective={objective} has no gradient of log_std from pairs '
        'of --branch_proposal=antithetic: take --vine_objective=every_step or '
        'importance_sampled'
      )
    if objective != 'every_step':
      return
    if sampler.branch_proposal not in ('policy', 'antithetic'):
      raise ValueError(
        '--vine_objective=every_step needs first actions of the policy: take '
        f'--branch_proposal=policy, not {sampler.branch_proposal}'
      )
    if self.estimator.baseline != 'value_network':
      raise ValueError(
        '--vine_objective=every_step estimates the advantage of every step: '
        'take --baseline=value_network'
      )
    if self.atari.life_loss_ends_return and self.estimator.occupancy_weights:
      raise ValueError(
        '--occupancy_weights count the steps of an episode, but '
        '--life_loss_ends_return ends a branch within one: add '
        '--nooccupancy_weights'
      )

  def _check_amortized(self) -> None:
    if not self.uses_every_step:
      raise ValueError(
        '--amortized_advantage corrects every step by what pairs of branches '
        'teach: add --sampler=vine with --vine_objective=every_step'
      )
    if self.sampler.branch_actions < 2:
      raise ValueError(
        '--amortized_advantage compares the actions of a state: take '
        f'--branch_actions of 2 or more, not {self.sampler.branch_actions}'
      )

  @property
  def network_seed(self) -> int:
    """Seed from which the function of --policy draws."""
    own = self.policy.network_seed
    return self.run.seed if own < 0 else own

  def reseeded(self, seed: int) -> 'ExperimentConfig':
    """Returns the settings of other samples of the same run.

    Args:
      seed: the new --seed. The network of --policy keeps its own.
    """
    return dataclasses.replace(
      self,
      policy=dataclasses.replace(self.policy, network_seed=self.network_seed),
      run=dataclasses.replace(self.run, seed=seed),
    )

  @property
  def uses_every_step(self) -> bool:
    """Whether the steps of branches enter the surrogate."""
    every = self.estimator.vine_objective == 'every_step'
    return every and self.sampler.sampler == 'vine'

  def max_branch_steps(self, num_actions: int = 0) -> int:
    """Returns the most env steps of the branches of an iteration, N K M L.

    Args:
      num_actions: how many actions the task has, which is K for
        --branch_proposal=all and not used otherwise.
    """
    sampler = self.sampler
    every = sampler.branch_proposal == 'all'
    K = num_actions if every else sampler.branch_actions
    branches = K * sampler.branch_trials
    return sampler.rollout_set_size * branches * sampler.branch_length

  @property
  def branches_have_time_limit(self) -> bool:
    """Whether the task's time limit ends a branch.

    Where every step counts, branches must not visit states that trunks cannot.
    """
    return self.sampler.branch_time_limit or self.uses_every_step


def settings(config: ExperimentConfig) -> dict[str, Any]:
  """Flattens an ExperimentConfig into {flag name: value}."""
  return {
    field.name: getattr(group, field.name)
    for group in (getattr(config, g.name) for g in dataclasses.fields(config))
    for field in dataclasses.fields(group)
  }


def from_settings(values: Mapping[str, Any]) -> ExperimentConfig:
  """Builds an ExperimentConfig from {flag name: value}; others keep defaults.

  Raises:
    ValueError: an unknown name, or a value out of range.
  """
  remaining = dict(values)
  groups = {}
  for group in dataclasses.fields(ExperimentConfig):
    make: Any = group.default_factory
    names = [f.name for f in dataclasses.fields(make)]
    chosen = {n: remaining.pop(n) for n in names if n in remaining}
    groups[group.name] = make(**chosen)
  if remaining:
    raise ValueError(f'unknown settings: {", ".join(sorted(remaining))}')
  return ExperimentConfig(**groups)
