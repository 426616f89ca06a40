"""Updates by a step on the surrogate: estimate, step, fit the baseline.

The batch is of paths or of a vine. The step is TRPO's or another one: all that
section 8 of the paper compares TRPO with, but for the derivative-free methods,
differs from it in nothing else.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from trpo_tf import seeding
from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.estimation import baselines, returns, surrogate, vine
from trpo_tf.estimation.surrogate import Consistency, Objective, PathData
from trpo_tf.estimation.vine import VineData
from trpo_tf.methods.learner import (
  RECORD,
  OnPolicyLearner,
  Update,
  check_steps,
)
from trpo_tf.optim.step import Step, StepResult
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.batch import Batch, VineBatch
from trpo_tf.seeding import Stream

# float32 networks agree to about 1e-6 per unit of output; a log-probability
# divides that by the deviation
_OUTPUT_TOLERANCE = 1e-4
_LOG_PROB_TOLERANCE = 1e-2


class SamplerMismatch(RuntimeError):
  """The sampler's policy is not the one that is about to be updated."""


class _Problem(NamedTuple):
  """What the trust-region step is to solve; x: inputs of N states."""

  x: Any
  data: Any
  advantages: np.ndarray


class SurrogateLearner(OnPolicyLearner):
  """Sections 5.1 and 5.2, and a step."""

  def __init__(
    self,
    policy: Any,
    config: ExperimentConfig,
    make_step: Callable[[Objective, int], Step],
  ):
    """Compiles the step and builds the baseline.

    Args:
      policy: the policy to update.
      config: the experiment.
      make_step: compiles the step for an objective and about that many states.
    """
    self._policy, self._config = policy, config
    self._baseline = baselines.make_baseline(config.estimator, policy.network)
    self._vine = config.sampler.sampler == 'vine'
    objective, num_states = (
      (
        vine.OBJECTIVES[config.estimator.vine_objective],
        config.sampler.rollout_set_size,
      )
      if self._vine
      else (surrogate.importance_sampled, config.sampler.batch_steps)
    )
    self._step = make_step(objective, num_states)

  def initial_state(
    self, theta: np.ndarray, rng: np.random.Generator
  ) -> dict[str, Any]:
    """The baseline's state before any batch; `rng` initialises it."""
    del theta
    return {'baseline': self._baseline.initial_state(rng)._asdict()}

  def take_step(
    self,
    theta: np.ndarray,
    problem: _Problem,
    fisher_rows: np.ndarray | None,
    state: dict[str, Any],
  ) -> tuple[StepResult, dict[str, Any]]:
    """Solves the problem.

    Args:
      theta: float32 [P].
      problem: the surrogate's states and data.
      fisher_rows: int [n], rows for the Fisher matrix; None: all.
      state: the learner's.

    Returns:
      The step, and the parts of the state that it changes.
    """
    del state
    return self._step(theta, problem.x, problem.data, fisher_rows), {}

  def update(
    self,
    theta: np.ndarray,
    state: dict[str, Any],
    normalizer: Normalizer,
    batch: Batch,
    iteration: int,
  ) -> Update:
    """Updates policy and baseline.

    The baseline that gives the advantages is the old one: fitted to this
    batch first, it would explain the batch's noise away.

    Args:
      theta: float32 [P], the policy that sampled the batch.
      state: the learner's.
      normalizer: as used while sampling.
      batch: the experience.
      iteration: key of the random draws.

    Returns:
      The update. Its histogram of advantages has, before scaling, those of
      every step [N], or with the vine of the first actions over their state's
      mean [N, K].

    Raises:
      SamplerMismatch: recorded and recomputed policy differ.
      UserError: every step of the batch was dropped, or every state of the
        rollout set masked.
    """
    check_steps(batch)
    baseline = self._baseline.state_type(**state['baseline'])
    x = batch.inputs(batch.flat(batch.observations), normalizer)
    timesteps = batch.flat(batch.timesteps)
    predictions = self._baseline.predict(baseline, x, timesteps)
    advantages, targets = self._estimate(
      baseline, normalizer, batch, predictions
    )
    consistency = self._check(theta, x, batch)
    problem = (
      self._vine_problem(baseline, normalizer, batch)
      if isinstance(batch, VineBatch)
      else self._path_problem(x, batch, advantages)
    )
    rows = self._fisher_rows(len(problem.advantages), iteration)
    step, changed = self.take_step(theta, problem, rows, state)
    seed = self._config.run.seed
    baseline, fit = baselines.fit(
      self._baseline,
      baseline,
      x,
      timesteps,
      targets,
      seeding.generator(seed, Stream.VALUE_MINIBATCHES, iteration),
      predictions,
    )
    record = (
      RECORD
      | _step_record(step)
      | dict(
        explained_variance=fit.explained_before,
        value_loss=fit.loss_after,
        sampler_output_error=consistency.outputs_error,
        masked_states=self._num_states(batch) - len(problem.advantages),
      )
    )
    state = state | changed | {'baseline': baseline._asdict()}
    return Update(step.theta, state, record, {'advantages': problem.advantages})

  def _num_states(self, batch: Batch) -> int:
    """States of the step before any is left out."""
    if isinstance(batch, VineBatch):
      return len(batch.rollout_set)
    return int(batch.kept.sum())

  def _path_problem(
    self, x: Any, batch: Batch, advantages: np.ndarray
  ) -> _Problem:
    scaled = advantages
    if self._config.estimator.standardize_advantages:
      scaled = (scaled - scaled.mean()) / (scaled.std() + 1e-8)
    data = PathData(
      batch.flat(batch.actions),
      batch.flat(batch.log_probs),
      scaled.astype(np.float32),
    )
    return _Problem(x, data, advantages)

  def _vine_problem(
    self, baseline: Any, normalizer: Normalizer, batch: VineBatch
  ) -> _Problem:
    """Q of the first actions; with a baseline it continues cut branches."""
    estimator = self._config.estimator
    final_values = None
    if estimator.baseline != 'none':
      shape = batch.branch_lengths.shape
      timesteps = batch.at_rollout_set(batch.timesteps)[:, None, None]
      timesteps = (timesteps + batch.branch_lengths).ravel()
      finals = batch.inputs(batch.final_observations, normalizer)
      final_values = self._baseline.predict(
        baseline, finals, timesteps
      ).reshape(shape)
    q, valid = vine.q_values(
      batch.branch_returns,
      batch.branch_lengths,
      batch.branch_ends,
      final_values,
      estimator.gamma,
    )
    valid &= batch.at_rollout_set(batch.kept)
    if not valid.any():
      raise UserError(
        'a branch of every state of the rollout set diverged: lower the '
        "model's time step, or the spread of the first actions"
      )
    q = q[valid]
    scaled = vine.scaled(q) if estimator.standardize_advantages else q
    data = VineData(batch.first_actions[valid], batch.log_q[valid], scaled)
    states = batch.at_rollout_set(batch.observations)[valid]
    x = batch.inputs(states, normalizer)
    return _Problem(x, data, q - q.mean(axis=1, keepdims=True))

  def _estimate(
    self,
    baseline: Any,
    normalizer: Normalizer,
    batch: Batch,
    predictions: np.ndarray,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Advantages and targets of the baseline at the kept steps, [N] each."""
    estimator = self._config.estimator
    arrays = batch.rewards, batch.ends, batch.lengths
    values = np.zeros(batch.rewards.shape)
    values[batch.kept] = predictions
    if estimator.baseline != 'value_network':
      found = returns.monte_carlo(*arrays, estimator.gamma)[batch.kept]
      return found - predictions, found

    def value_of(observations: np.ndarray) -> np.ndarray:
      unused = np.zeros(len(observations), np.int32)
      inputs = batch.inputs(observations, normalizer)
      return self._baseline.predict(baseline, inputs, unused)

    boundary = np.zeros(batch.rewards.shape)
    if len(batch.boundary_index):
      slots, steps = batch.boundary_index.T
      boundary[slots, steps] = value_of(batch.boundary_observations)
    advantages, targets = returns.gae(
      *arrays,
      values,
      boundary,
      value_of(batch.last_observations),
      estimator.gamma,
      estimator.gae_lambda,
    )
    return advantages[batch.kept], targets[batch.kept]

  def _check(self, theta: np.ndarray, x: Any, batch: Batch) -> Consistency:
    found = surrogate.check_consistency(
      self._policy,
      theta,
      x,
      batch.flat(batch.actions),
      batch.flat(batch.outputs),
      batch.flat(batch.log_probs),
    )
    scale = 1 + np.abs(batch.flat(batch.outputs)[found.outputs_row]).max()
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


def _step_record(step: StepResult) -> dict[str, Any]:
  return dict(
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
  )
