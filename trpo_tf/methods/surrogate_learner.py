"""The learner of steps on a surrogate: estimate, take the step, fit a baseline.

The batch holds paths or a vine, and the step is TRPO's or another one. Of the
methods that section 8 of the paper compares TRPO with, all but the
derivative-free ones differ from it only in the step.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from trpo_tf import seeding
from trpo_tf.config import ExperimentConfig
from trpo_tf.estimation import amortized, baselines, surrogate, vine
from trpo_tf.estimation.amortized import Amortized
from trpo_tf.estimation.every_step import Partners
from trpo_tf.estimation.surrogate import Consistency, Objective
from trpo_tf.methods import surrogate_data
from trpo_tf.methods.learner import OnPolicyLearner, Update, check_steps
from trpo_tf.methods.record import IterationRecord
from trpo_tf.methods.surrogate_data import SurrogateData
from trpo_tf.optim.step import MakeStep, Step, StepResult
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.protocols import Inputs, Policy
from trpo_tf.sampling.batch import Batch, VineBatch
from trpo_tf.seeding import Stream

__all__ = ['Estimates', 'SamplerMismatch', 'SurrogateLearner']

_OUTPUT_TOLERANCE = 1e-4
_LOG_PROB_TOLERANCE = 1e-2


class SamplerMismatch(RuntimeError):
  """The sampler's policy is not the one that is about to be updated."""


class Estimates(NamedTuple):
  """What a learner estimates from a batch of N kept steps.

  Attributes:
    x: inputs of the steps.
    timesteps: int [N].
    predictions: float64 [N], of the baseline, before its fit.
    targets: float64 [N], which the baseline is fitted to.
    weights: float64 [N] of mean 1, of the steps; None: all are 1.
    given: the surrogate's states and data.
    changed: parts of the learner's state that the estimates change.
  """

  x: Inputs
  timesteps: np.ndarray
  predictions: np.ndarray
  targets: np.ndarray
  weights: np.ndarray | None
  given: SurrogateData
  changed: dict[str, Any]


class SurrogateLearner(OnPolicyLearner):
  """Learner that takes a step on the surrogate of sections 5.1 and 5.2."""

  _step: Step

  def __init__(
    self, policy: Policy, config: ExperimentConfig, make_step: MakeStep
  ):
    """Compiles the step and builds the baseline.

    Args:
      policy: the policy to update.
      config: the experiment.
      make_step: compiles the step.

    Raises:
      UserError: the baseline or the step does not fit the other settings.
    """
    self._policy, self._config = policy, config
    if config.estimator.amortized_advantage:
      amortized.check(policy)
    self._baseline = baselines.make_baseline(config.estimator, policy.network)
    objective, num_states = _objective(config)
    self._step = make_step(policy, objective, config, num_states)

  def initial_state(
    self, theta: np.ndarray, rng: np.random.Generator
  ) -> dict[str, Any]:
    """Returns the baseline's state before any batch.

    Args:
      theta: not used.
      rng: source of the baseline's initial values.

    Returns:
      The learner's state.
    """
    del theta
    state = {'baseline': self._baseline.initial_state(rng)._asdict()}
    if self._config.uses_every_step:
      state['partners'] = Partners()._asdict()
    if self._config.estimator.amortized_advantage:
      state['amortized'] = amortized.initial(self._policy, rng)._asdict()
    return state

  def take_step(
    self,
    theta: np.ndarray,
    given: SurrogateData,
    fisher_rows: np.ndarray | None,
    state: dict[str, Any],
  ) -> tuple[StepResult, dict[str, Any]]:
    """Takes the step.

    Args:
      theta: float32 [P], the policy that sampled the batch.
      given: the surrogate's states and data.
      fisher_rows: int [n], rows for the Fisher matrix; None: all.
      state: the learner's state.

    Returns:
      The step, and the parts of the state that it changes.
    """
    del state
    return self._step(theta, given.x, given.data, fisher_rows), {}

  def update(
    self,
    theta: np.ndarray,
    state: dict[str, Any],
    normalizer: Normalizer,
    batch: Batch,
    iteration: int,
  ) -> Update:
    """Updates the policy and the baseline.

    The advantages are computed with the old baseline. A baseline that was first
    fitted to this batch would explain the batch's noise away.

    Args:
      theta: float32 [P], the policy that sampled the batch.
      state: the learner's state.
      normalizer: normaliser of observations, as used while sampling.
      batch: the experience.
      iteration: key of the random draws.

    Returns:
      The update, with a histogram of the advantages before scaling.

    Raises:
      SamplerMismatch: the recorded and the recomputed policy differ.
      UserError: every step of the batch was dropped, or every state of the
        rollout set was left out.
    """
    check_steps(batch)
    found = self.estimate(theta, state, normalizer, batch)
    given = found.given
    consistency = self._check(theta, found.x, batch)
    rows = self._fisher_rows(len(given.advantages), iteration)
    step, changed = self.take_step(theta, given, rows, state)
    seed = self._config.run.seed
    baseline, fit = baselines.fit(
      self._baseline,
      self._baseline.state_type(**state['baseline']),
      found.x,
      found.timesteps,
      found.targets,
      seeding.generator(seed, Stream.VALUE_MINIBATCHES, iteration),
      found.predictions,
      found.weights,
    )
    record = _record(
      step,
      fit,
      sampler_output_error=consistency.outputs_error,
      masked_states=self._num_states(batch) - len(given.advantages),
    )
    state = state | found.changed | changed | {'baseline': baseline._asdict()}
    return Update(step.theta, state, record, {'advantages': given.advantages})

  def estimate(
    self,
    theta: np.ndarray,
    state: dict[str, Any],
    normalizer: Normalizer,
    batch: Batch,
  ) -> Estimates:
    """Estimates advantages and value targets with the old baseline.

    Args:
      theta: float32 [P], the policy that sampled the batch.
      state: the learner's state.
      normalizer: normaliser of observations, as used while sampling.
      batch: the experience.

    Returns:
      The Estimates.

    Raises:
      UserError: every state of the rollout set was left out.
    """
    settings = self._config.estimator
    baseline = self._baseline.state_type(**state['baseline'])
    x = batch.inputs(batch.steps('observations'), normalizer)
    timesteps = batch.steps('timesteps')
    predictions = self._baseline.predict(baseline, x, timesteps)
    weights = surrogate_data.step_weights(settings, batch)
    advantages, targets, changed = self._advantages(
      theta, state, baseline, normalizer, batch, x, predictions
    )
    given = (
      surrogate_data.of_vine(
        settings, self._baseline, baseline, normalizer, batch
      )
      if isinstance(batch, VineBatch) and not self._config.uses_every_step
      else surrogate_data.of_steps(settings, x, batch, advantages, weights)
    )
    return Estimates(
      x, timesteps, predictions, targets, weights, given, changed
    )

  def _advantages(
    self,
    theta: np.ndarray,
    state: dict[str, Any],
    baseline: Any,
    normalizer: Normalizer,
    batch: Batch,
    x: Inputs,
    predictions: np.ndarray,
  ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Returns advantages and value targets [N], and a change of the state."""
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
    changed = {}
    if isinstance(batch, VineBatch) and self._config.uses_every_step:
      if self._config.estimator.amortized_advantage:
        changed['amortized'] = surrogate_data.amortize(
          self._config.estimator,
          Amortized(**state['amortized']),
          self._policy.log_std(theta),
          normalizer,
          batch,
          x,
          [advantages for advantages, _ in found],
        )._asdict()
      partners = surrogate_data.control_first_actions(
        self._config.sampler, Partners(**state['partners']), batch, found[1][0]
      )
      changed['partners'] = partners._asdict()
    advantages, targets = (
      np.concatenate(
        [part.flat(f) for part, f in zip(batch.parts, fields, strict=True)]
      )
      for fields in zip(*found, strict=True)
    )
    return advantages, targets, changed

  def _num_states(self, batch: Batch) -> int:
    """Returns the number of the step's states before any is left out."""
    if isinstance(batch, VineBatch) and not self._config.uses_every_step:
      return len(batch.rollout_set)
    return sum(int(part.kept.sum()) for part in batch.parts)

  def _check(self, theta: np.ndarray, x: Inputs, batch: Batch) -> Consistency:
    check = functools.partial(
      surrogate.check_consistency,
      self._policy,
      theta,
      x,
      batch.steps('actions'),
      batch.steps('outputs'),
      batch.steps('log_probs'),
    )
    found = check()
    if found.log_probs_error > _LOG_PROB_TOLERANCE:
      # a small deviation magnifies the rounding of the outputs
      found = check(rounding=True)
    scale = 1 + np.abs(batch.steps('outputs')[found.outputs_row]).max()
    if (
      found.outputs_error <= _OUTPUT_TOLERANCE * scale
      and found.log_probs_error <= _LOG_PROB_TOLERANCE
    ):
      return found
    raise SamplerMismatch(
      "the sampler's policy and TensorFlow's differ: outputs by "
      f'{found.outputs_error:.3g} at row {found.outputs_row}, '
      f'log-probabilities by {found.log_probs_error:.3g} at row '
      f'{found.log_probs_row}'
    )

  def _fisher_rows(self, num_states: int, iteration: int) -> np.ndarray | None:
    fraction = self._config.trust_region.fisher_fraction
    if fraction == 1:
      return None
    rng = seeding.generator(
      self._config.run.seed, Stream.FISHER_STATES, iteration
    )
    count = max(1, round(fraction * num_states))
    return np.sort(rng.choice(num_states, count, replace=False))


def _objective(config: ExperimentConfig) -> tuple[Objective, int]:
  """Returns the surrogate's terms and about how many states a batch has."""
  sampler, name = config.sampler, config.estimator.vine_objective
  if sampler.sampler != 'vine':
    return surrogate.importance_sampled, sampler.batch_steps
  if not config.uses_every_step:
    return vine.OBJECTIVES[name], sampler.rollout_set_size
  steps = sampler.batch_steps + config.max_branch_steps
  return surrogate.importance_sampled, steps


def _record(
  step: StepResult, fit: baselines.FitDiagnostics, **fields: Any
) -> IterationRecord:
  return IterationRecord(
    mean_kl=float(step.mean_kl),
    max_state_kl=float(step.max_state_kl),
    surrogate_before=float(step.surrogate_before),
    surrogate_after=float(step.surrogate_after),
    step_status=step.status.name.lower(),
    step_fraction=float(step.step_fraction),
    step_evaluations=int(step.evaluations),
    cg_iterations=int(step.cg_iterations),
    cg_residual=float(step.cg_residual),
    gradient_norm=float(step.gradient_norm),
    curvature=float(step.curvature),
    entropy=float(step.entropy),
    explained_variance=fit.explained_before,
    value_loss=fit.loss_after,
    **fields,
  )
