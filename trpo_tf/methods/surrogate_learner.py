"""The learner of steps on a surrogate: estimate, take the step, fit a baseline.

The batch holds paths or a vine, and the step is TRPO's or another one. Of the
methods that section 8 of the paper compares TRPO with, all but the
derivative-free ones differ from it only in the step.
"""

from typing import Any

import numpy as np

from trpo_tf import seeding
from trpo_tf.config import ExperimentConfig
from trpo_tf.estimation import amortized, baselines, surrogate, vine
from trpo_tf.estimation.every_step import Partners
from trpo_tf.estimation.surrogate import Objective
from trpo_tf.methods import consistency, surrogate_data
from trpo_tf.methods.estimates import Estimates, Estimator, check_states
from trpo_tf.methods.learner import OnPolicyLearner, Update, check_steps
from trpo_tf.methods.record import IterationRecord
from trpo_tf.methods.surrogate_data import SurrogateData
from trpo_tf.optim.step import MakeStep, Step, StepResult
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.protocols import Policy
from trpo_tf.sampling.batch import Batch
from trpo_tf.seeding import Stream

__all__ = [
  'SurrogateLearner',
  'fisher_rows',
  'initial_state',
  'make_record',
  'objective',
]


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
    self._estimator = Estimator(config, policy, self._baseline)
    terms, num_states = objective(config)
    self._step = make_step(policy, terms, config, num_states)

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
    return initial_state(self._config, self._policy, self._baseline, rng)

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
    check_steps(batch.summary())
    found = self.estimate(theta, state, normalizer, batch)
    given = found.given
    rows = fisher_rows(self._config, len(given.advantages), iteration)
    step, changed = self.take_step(theta, given, rows, state)
    outputs = step.outputs if given.x is found.x else None
    checked = consistency.check(self._policy, theta, found.x, batch, outputs)
    if found.partners is not None:
      partners = Partners(**state['partners']).updated(found.partners)
      changed['partners'] = partners._asdict()
    if found.amortized is not None:
      changed['amortized'] = found.amortized._asdict()
    seed, targets = self._config.run.seed, found.fit
    baseline, fit = baselines.fit(
      self._baseline,
      self._baseline.state_type(**state['baseline']),
      targets.x,
      targets.timesteps,
      targets.targets,
      seeding.generator(seed, Stream.VALUE_MINIBATCHES, iteration),
      targets.predictions,
    )
    record = make_record(
      step,
      fit,
      sampler_output_error=checked.outputs_error,
      masked_states=self._estimator.num_states(batch) - len(given.advantages),
    )
    state = state | changed | {'baseline': baseline._asdict()}
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
      The Estimates, whose data are scaled.

    Raises:
      UserError: every state of the rollout set was left out.
    """
    branches = sum(len(part.kept) for part in batch.parts[1:])
    found = self._estimator(
      theta, state, normalizer, batch, branches / int(batch.lengths.sum())
    )
    check_states(len(found.given.advantages))
    spread = surrogate_data.spread(found.given, found.fit.targets)
    standardize = self._config.estimator.standardize_advantages
    given = surrogate_data.scaled(found.given, spread, standardize)
    return found._replace(given=given)


def initial_state(
  config: ExperimentConfig,
  policy: Policy,
  baseline: baselines.Baseline,
  rng: np.random.Generator,
) -> dict[str, Any]:
  """Returns a learner's state before any batch.

  Args:
    config: the experiment.
    policy: the policy to update.
    baseline: the baseline.
    rng: source of the baseline's initial values.
  """
  state = {'baseline': baseline.initial_state(rng)._asdict()}
  if config.uses_every_step:
    state['partners'] = Partners()._asdict()
  if config.estimator.amortized_advantage:
    state['amortized'] = amortized.initial(policy, rng)._asdict()
  if config.method.method == 'kl_penalty':
    state['kl_coefficient'] = config.method.kl_coefficient
  return state


def fisher_rows(
  config: ExperimentConfig, num_states: int, iteration: int
) -> np.ndarray | None:
  """Draws the states of the Fisher matrix.

  Args:
    config: the experiment.
    num_states: number N of the step's states.
    iteration: key of the draw.

  Returns:
    int [n], ascending; None: all states.
  """
  fraction = config.trust_region.fisher_fraction
  if fraction == 1:
    return None
  rng = seeding.generator(config.run.seed, Stream.FISHER_STATES, iteration)
  count = max(1, round(fraction * num_states))
  return np.sort(rng.choice(num_states, count, replace=False))


def objective(config: ExperimentConfig) -> tuple[Objective, int]:
  """Returns the surrogate's terms and about how many states a batch has.

  Args:
    config: the experiment.
  """
  sampler, estimator = config.sampler, config.estimator
  terms: Objective = surrogate.importance_sampled
  if sampler.sampler != 'vine':
    num_states = sampler.batch_steps
  elif config.uses_every_step:
    num_states = sampler.batch_steps + config.max_branch_steps()
  else:
    terms = vine.OBJECTIVES[estimator.vine_objective]
    num_states = sampler.rollout_set_size
  if estimator.entropy_coefficient:
    terms = surrogate.with_entropy(terms, estimator.entropy_coefficient)
  return terms, num_states


def make_record(
  step: StepResult, fit: baselines.FitDiagnostics, **fields: Any
) -> IterationRecord:
  """Makes the record of an update.

  Args:
    step: the step.
    fit: how well the baseline predicts.
    **fields: further fields.
  """
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
