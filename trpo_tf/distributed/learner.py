"""The sampler and the learner of a run that is cut into shards.

They are those of a run in one part, except that every mean over the batch is a
sum over shards. Conjugate gradient, the line search and Adam run here, on
vectors of parameters.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from trpo_tf.config import ExperimentConfig
from trpo_tf.distributed import kit, problem
from trpo_tf.distributed.local import Engine
from trpo_tf.distributed.results import AtTheta, Estimated, Sampled
from trpo_tf.distributed.value_fit import AdamState
from trpo_tf.estimation import baselines
from trpo_tf.estimation.baselines import FitDiagnostics
from trpo_tf.estimation.closed_form import TimeState
from trpo_tf.estimation.every_step import Partners
from trpo_tf.estimation.value_network import ValueNetwork, ValueState
from trpo_tf.methods import estimates, learner, surrogate_learner
from trpo_tf.methods import kl_penalty as penalty
from trpo_tf.methods.learner import OnPolicyLearner, Update
from trpo_tf.moments import Moments
from trpo_tf.optim import kl_penalty
from trpo_tf.optim.compiled import numpy_result
from trpo_tf.optim.step import StepResult
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.protocols import Policy
from trpo_tf.sampling.summary import Summary

__all__ = ['ShardedBatch', 'ShardedLearner', 'ShardedSampler']


@dataclasses.dataclass(frozen=True)
class ShardedBatch:
  """What is known here of a batch that the shards keep.

  Attributes:
    sampled: counts, moments and the samplers' states.
    engine: calls the shards.
  """

  sampled: Sampled
  engine: Engine

  def summary(self) -> Summary:
    """Returns what a record says about the batch."""
    summary = self.sampled.summary
    deaths = self.engine.deaths()
    return summary._replace(deaths=summary.deaths + deaths)

  def observation_moments(self) -> Moments:
    """Returns the moments [O] of the kept steps' raw observations."""
    return self.sampled.observations

  def histograms(self) -> dict[str, np.ndarray]:
    """Returns {}: trajectories stay where they are."""
    return {}


class ShardedSampler:
  """Sampler of shards; see Sampler. Its state has a part for each shard."""

  def __init__(self, engine: Engine, num_shards: int):
    """Makes the sampler.

    Args:
      engine: calls the shards.
      num_shards: their number S.
    """
    self._engine, self._num_shards = engine, num_shards
    self._states: dict[int, Any] | None = None

  def state(self) -> dict[str, Any]:
    """Returns what the next batch depends on, by the number of the shard."""
    if self._states is None:
      self._states = self._engine.map('state').by_shard
    return {str(i): state for i, state in sorted(self._states.items())}

  def restore(self, state: dict[str, Any]) -> None:
    """Continues from a state; see Sampler."""
    if sorted(state) != sorted(map(str, range(self._num_shards))):
      raise ValueError(f'sampler does not have {self._num_shards} shards')
    states = {int(i): part for i, part in state.items()}
    self._engine.begin(None)
    self._engine.map('restore', states)
    self._states = states

  def close(self) -> None:
    """Ends the workers."""
    self._engine.close()

  def sample(
    self,
    theta: np.ndarray,
    normalizer: Normalizer,
    iteration: int,
    deterministic: bool = False,
  ) -> Any:
    """Lets every shard sample its part of a batch; see Sampler."""
    if deterministic:
      raise ValueError('shards have no deterministic batches')
    self._engine.begin(self._states)
    sampled = self._engine.map('sample', theta, normalizer, iteration)
    self._states = sampled.states.by_shard
    return ShardedBatch(sampled, self._engine)


class ShardedLearner(OnPolicyLearner):
  """Learner of the steps of section 5 and 6 from sums over shards."""

  def __init__(self, policy: Policy, config: ExperimentConfig, engine: Engine):
    """Makes the learner.

    Args:
      policy: the policy to update.
      config: the experiment.
      engine: calls the shards.
    """
    self._config, self._policy, self._engine = config, policy, engine
    self._baseline = baselines.make_baseline(config.estimator, policy.network)

  def initial_state(
    self, theta: np.ndarray, rng: np.random.Generator
  ) -> dict[str, Any]:
    """Returns the state before any batch; see SurrogateLearner."""
    del theta
    return surrogate_learner.initial_state(
      self._config, self._policy, self._baseline, rng
    )

  def update(
    self,
    theta: np.ndarray,
    state: dict[str, Any],
    normalizer: Normalizer,
    batch: Any,
    iteration: int,
  ) -> Update:
    """Updates the policy and the baseline; see SurrogateLearner."""
    del normalizer  # the shards have it
    sampled, engine = batch.sampled, self._engine
    learner.check_steps(sampled.summary)
    per_step = sampled.branches / sampled.summary.trunk_steps
    found = engine.map('estimate', self._for_prediction(state), per_step)
    counts = found.counts.by_shard
    count = sum(counts.values())
    estimates.check_states(count)
    kit.check_states(self._config, max(counts.values()))
    prepared = engine.map(
      'prepare', counts, found.spread, found.weight / count, iteration
    )
    step, changed = self._take_step(theta, state, count, prepared.at_theta)
    baseline, loss = self._fit(state['baseline'], found, iteration)
    variance = found.targets.variance
    explained = 1 - found.errors.variance / variance if variance else np.nan
    record = surrogate_learner.make_record(
      step,
      FitDiagnostics(float(explained), loss / found.targets.weight),
      sampler_output_error=prepared.outputs_error.value,
      masked_states=found.left_out,
    )
    changed['baseline'] = baseline
    if 'partners' in state:
      partners = Partners(**state['partners']).updated(found.partners)
      changed['partners'] = partners._asdict()
    return Update(step.theta, state | changed, record, {})

  def _take_step(
    self,
    theta: np.ndarray,
    state: dict[str, Any],
    count: int,
    at_theta: AtTheta | None,
  ) -> tuple[StepResult, dict[str, Any]]:
    """Takes the step on shards that are prepared.

    Args:
      theta: float32 [P], the policy that sampled the batch.
      state: the learner's state.
      count: number of states.
      at_theta: sums over the states at theta.

    Returns:
      The step, and the parts of the state that it changes.
    """
    config, engine = self._config, self._engine
    if at_theta is not None:
      here = problem.make_problem(engine, tf.constant(theta), count, at_theta)
      rule = kit.STEPS[config.method.method].rule
      return numpy_result(rule(here, config), theta), {}
    coefficient = state['kl_coefficient']

    def value(candidate):
      found = engine.map('penalized', candidate, coefficient)
      return found.mean(count)

    evaluations = config.method.fit_evaluations
    step = kl_penalty.take(value, theta, evaluations)
    return step, penalty.after_step(config, coefficient, step)

  def _for_prediction(self, state: dict[str, Any]) -> dict[str, Any]:
    """Returns the learner's state without what only a fit needs."""
    nothing = np.zeros(0, np.float32)
    moments = {'first_moment': nothing, 'second_moment': nothing}
    baseline = state['baseline']
    return state | {
      'baseline': {k: moments.get(k, v) for k, v in baseline.items()}
    }

  def _fit(
    self,
    state: dict[str, Any],
    found: Estimated,
    iteration: int,
  ) -> tuple[dict[str, Any], float]:
    """Fits the baseline; returns its state and the sum of squared errors."""
    engine = self._engine
    if isinstance(self._baseline, ValueNetwork):
      state = self._fit_network(
        self._baseline, ValueState(**state), found, iteration
      )._asdict()
    elif self._config.estimator.baseline == 'time':
      state = TimeState(engine.map('time_sums').means())._asdict()
    shown = self._for_prediction({'baseline': state})['baseline']
    return state, engine.map('squared_error', shown)

  def _fit_network(
    self,
    network: ValueNetwork,
    state: ValueState,
    found: Estimated,
    iteration: int,
  ) -> ValueState:
    """Takes the steps of Adam of ValueNetwork.fit."""
    engine, settings = self._engine, self._config.estimator
    targets, counts = found.targets, found.fitted.by_shard
    mean = float(targets.mean)
    square = float(targets.variance) + mean**2
    state = network.with_statistics(state, mean, square)
    engine.map(
      'begin_fit',
      float(state.return_mean),
      state.return_scale,
      counts,
      iteration,
    )
    rounds = max(1, sum(counts.values()) // settings.value_minibatch)
    steps = rounds * settings.value_epochs
    start = AdamState(state.theta, state.first_moment, state.second_moment)
    fitted = engine.fit(start, int(state.adam_steps), steps)
    return state._replace(
      **fitted._asdict(), adam_steps=state.adam_steps + steps
    )
