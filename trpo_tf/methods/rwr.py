"""Reward-weighted regression (Peters and Schaal 2007, Kober and Peters 2009).

The new policy is the one under which the good actions were most likely: maximum
likelihood, with a weight for each path or step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.estimation import baselines, returns, surrogate
from trpo_tf.methods.learner import (
  RECORD,
  OnPolicyLearner,
  Update,
  check_steps,
)
from trpo_tf.optim import fisher, lbfgs
from trpo_tf.optim.step import StepStatus, expand
from trpo_tf.policies import graphs
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.batch import Batch

__all__ = ['Rwr', 'advantage_weights', 'elite_weights', 'paths']

# Below this a Gaussian's noise is of the size of float32's rounding errors.
_LEAST_LOG_STD = -10.0
# Advantages smaller than this part of the returns are noise: without it equal
# paths would be told apart, and the policy's variance collapse.
_LEAST_DEVIATION = 0.01


class _Data(NamedTuple):
  """What the regression needs of each step.

  Attributes:
    actions: [N, A] float64 (Gaussian) or int32 (categorical), unclipped.
    weights: float64 [N], of mean 1.
  """

  actions: Any
  weights: Any


def _log_likelihood(distribution: tfd.Distribution, data: _Data) -> tf.Tensor:
  """Terms weight * log pi(a|s): [N]."""
  return data.weights * distribution.log_prob(data.actions)


def paths(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
  """The paths of a batch and what they earned.

  Args:
    batch: of whole episodes.

  Returns:
    The path of each kept step, int [N], and the returns, undiscounted,
    float64 [number of paths].
  """
  ended = batch.ends != 0
  before = np.cumsum(ended, axis=1) - ended
  slots, length = ended.shape
  keys = np.arange(slots)[:, None] * (length + 1) + before
  _, index = np.unique(keys[batch.kept], return_inverse=True)
  return index, np.bincount(index, batch.flat(batch.rewards))


def elite_weights(path_returns: np.ndarray, fraction: float) -> np.ndarray:
  """One for the best paths, zero for the rest.

  Args:
    path_returns: float64 [paths].
    fraction: of the paths that are the elite; one path at least.

  Returns:
    float64 [paths].
  """
  count = max(1, round(fraction * path_returns.size))
  weights = np.zeros(path_returns.size)
  weights[np.argsort(-path_returns, kind='stable')[:count]] = 1
  return weights


def advantage_weights(
  batch: Batch, gamma: float, temperature: float
) -> np.ndarray:
  """exp(A / (temperature * deviation of A)), up to a common factor.

  A is a step's discounted return over the mean of its time step. Peters and
  Schaal's weights are of immediate rewards; with a path's return in place of A
  an action is credited with what came before it, too.

  Args:
    batch: of whole episodes.
    gamma: discount.
    temperature: deviations over which a weight changes by e.

  Returns:
    float64 [kept steps], 1 at most.
  """
  every = returns.monte_carlo(batch.rewards, batch.ends, batch.lengths, gamma)
  to_go, timesteps = every[batch.kept], batch.flat(batch.timesteps)
  mean = baselines.TimeBaseline()
  state = mean.fit(None, None, timesteps, to_go, None)
  advantages = to_go - mean.predict(state, None, timesteps)
  scale = max(advantages.std(), _LEAST_DEVIATION * np.abs(to_go).mean())
  exponents = (advantages - advantages.max()) / (temperature * (scale or 1.0))
  return np.exp(exponents)


class Rwr(OnPolicyLearner):
  """Regression on the policy's own actions; it has no state."""

  def __init__(self, policy: Any, config: ExperimentConfig):
    """Compiles the likelihood.

    Args:
      policy: the policy to update.
      config: the experiment.

    Raises:
      UserError: a policy without noise.
    """
    gaussian = policy.log_std(np.zeros(policy.num_parameters)).size > 0
    log_std = config.policy.initial_log_std
    if gaussian and log_std < _LEAST_LOG_STD:
      raise UserError(
        "--method=rwr is a regression on the policy's own noise: raise "
        f'--initial_log_std={log_std:g} to {_LEAST_LOG_STD:g} or more, or take '
        '--method=cem or cma'
      )
    self._method, self._gamma = config.method, config.estimator.gamma
    blocks = fisher.num_blocks(config.sampler.batch_steps)
    self._evaluate, self._compare = _compile(policy, blocks)

  def initial_state(
    self, theta: np.ndarray, rng: np.random.Generator
  ) -> dict[str, Any]:
    """Nothing."""
    del theta, rng
    return {}

  def update(
    self,
    theta: np.ndarray,
    state: dict[str, Any],
    normalizer: Normalizer,
    batch: Batch,
    iteration: int,
  ) -> Update:
    """Maximises the weighted log-likelihood from theta.

    Args:
      theta: float32 [P], the policy that sampled the batch.
      state: none.
      normalizer: as used while sampling.
      batch: of whole episodes.
      iteration: unused.

    Returns:
      The update. The surrogate of its record is the weighted mean of the
      steps' log-likelihood, in nats; the KL and the entropy (of the old
      policy) are means over all steps. Where the likelihood does not grow the
      status is 'no_improvement' and theta stays.

    Raises:
      UserError: every step of the batch was dropped.
    """
    del iteration
    check_steps(batch)
    index, path_returns = paths(batch)
    weights = self._weights(batch, index, path_returns)
    x, actions = (
      normalizer(batch.flat(batch.observations)),
      batch.flat(batch.actions),
    )
    used = weights > 0
    data = _Data(actions[used], weights[used] / weights[used].mean())
    fitted, data = tf.nest.map_structure(tf.constant, (x[used], data))

    def value_and_gradient(candidate):
      return self._evaluate(candidate, fitted, data)

    most = self._method.fit_evaluations
    before, gradient = value_and_gradient(theta)
    found = lbfgs.maximize(value_and_gradient, theta, most)
    after, _ = value_and_gradient(found.theta)
    improved = bool(after > before)
    new = found.theta if improved else theta
    mean_kl, max_kl, entropy = self._compare(theta, new, x)
    status = StepStatus.ACCEPTED if improved else StepStatus.NO_IMPROVEMENT
    record = RECORD | dict(
      mean_kl=float(mean_kl),
      max_state_kl=float(max_kl),
      entropy=float(entropy),
      surrogate_before=float(before),
      surrogate_after=float(after if improved else before),
      step_status=status.name.lower(),
      step_evaluations=found.evaluations,
      gradient_norm=float(np.linalg.norm(gradient)),
    )
    return Update(new, state, record, {'path_returns': path_returns})

  def _weights(
    self, batch: Batch, index: np.ndarray, path_returns: np.ndarray
  ) -> np.ndarray:
    """Of the kept steps, by their path's return or by their advantage."""
    method = self._method
    if method.rwr_weights == 'elite':
      return elite_weights(path_returns, method.elite_fraction)[index]
    return advantage_weights(batch, self._gamma, method.rwr_temperature)


def _compile(policy: Any, blocks: int) -> tuple[Callable, Callable]:
  """The graphs of a policy, for any N.

  Args:
    policy: the policy.
    blocks: blocks to cut N rows into, see `fisher`.

  Returns:
    evaluate: (theta, x, data) -> weighted mean log-likelihood float64 [] and
      its gradient float64 [P].
    compare: (old theta, new theta, x) -> mean KL, largest KL, mean entropy of
      the old policy, float64 [].
  """

  def evaluate(theta, x, data):
    found = expand(policy, _log_likelihood, theta, x, data, blocks)
    return found.surrogate, found.gradient

  def distribution(theta, x):
    parts = [policy.outputs(theta, part) for part in fisher.split(x, blocks)]
    return surrogate.distribution64(policy, theta, tf.concat(parts, axis=0))

  def compare(old, new, x):
    old, new = distribution(old, x), distribution(new, x)
    kl = tfd.kl_divergence(old, new)
    return tf.reduce_mean(kl), tf.reduce_max(kl), tf.reduce_mean(old.entropy())

  return (
    graphs.compile_any_batch(evaluate, fixed=1),
    graphs.compile_any_batch(compare, fixed=2),
  )
