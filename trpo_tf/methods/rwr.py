"""Reward-weighted regression (Peters and Schaal 2007, Kober and Peters 2009).

The new policy is fitted to the sampled actions by maximum likelihood, with a
weight for each path or step, so that good actions become more likely.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.estimation import returns, surrogate
from trpo_tf.estimation.closed_form import TimeSums
from trpo_tf.methods.learner import OnPolicyLearner, Update, check_steps
from trpo_tf.methods.record import IterationRecord
from trpo_tf.optim import blocks, lbfgs
from trpo_tf.optim.problem import make_problem
from trpo_tf.optim.step import StepStatus
from trpo_tf.policies import graphs
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.protocols import Policy
from trpo_tf.sampling.batch import Batch

__all__ = ['Rwr', 'advantage_weights', 'elite_weights', 'paths']

# Below this a Gaussian's noise is about as small as float32's rounding errors.
_MIN_LOG_STD = -10.0
# Lower bound on the standard deviation of advantages that scales the weights,
# relative to the returns. Smaller advantages are noise: they would distinguish
# equal paths, and the policy's variance would collapse.
_MIN_DEVIATION = 0.01


class _RegressionData(NamedTuple):
  """The data that the regression needs of each step.

  Attributes:
    actions: [N, A] float64 (Gaussian) or int32 (categorical), unclipped.
    weights: float64 [N], of mean 1.
  """

  actions: Any
  weights: Any


def _log_likelihood(
  distribution: tfd.Distribution, data: _RegressionData
) -> tf.Tensor:
  """Returns the terms weight * log pi(a|s), float64 [N]."""
  return data.weights * distribution.log_prob(data.actions)


def paths(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
  """Finds the paths of a batch and their returns.

  Args:
    batch: whole episodes, with N kept steps.

  Returns:
    The path of each kept step, int [N], and the undiscounted returns, float64
    [number of paths].
  """
  ended = batch.ends != 0
  before = np.cumsum(ended, axis=1) - ended
  slots, length = ended.shape
  keys = np.arange(slots)[:, None] * (length + 1) + before
  _, index = np.unique(keys[batch.kept], return_inverse=True)
  return index, np.bincount(index, batch.flat(batch.rewards))


def elite_weights(path_returns: np.ndarray, fraction: float) -> np.ndarray:
  """Gives the best paths weight one and the others weight zero.

  Args:
    path_returns: float64 [paths].
    fraction: fraction of the paths that are the elite; at least one path is.

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
  """Weights steps by exp(A / (temperature * standard deviation of A)).

  A is a step's discounted return minus the mean return of its time step. Peters
  and Schaal use immediate rewards instead. The return of the whole path in
  place of A would also credit an action for the rewards before it.

  Args:
    batch: whole episodes, with N kept steps.
    gamma: discount per env step.
    temperature: increase of A, in standard deviations, that multiplies a weight
      by e.

  Returns:
    float64 [N], divided by the largest weight.
  """
  every = returns.monte_carlo(batch.rewards, batch.ends, batch.lengths, gamma)
  to_go, timesteps = every[batch.kept], batch.flat(batch.timesteps)
  advantages = to_go - TimeSums.of(timesteps, to_go).means()[timesteps]
  scale = max(advantages.std(), _MIN_DEVIATION * np.abs(to_go).mean())
  exponents = (advantages - advantages.max()) / (temperature * (scale or 1.0))
  return np.exp(exponents)


class Rwr(OnPolicyLearner):
  """Learner that regresses on the policy's own actions; it has no state."""

  def __init__(self, policy: Policy, config: ExperimentConfig):
    """Compiles the graphs of the likelihood and of the KL divergence.

    Args:
      policy: the policy to update.
      config: the experiment.

    Raises:
      UserError: the policy has no noise.
    """
    gaussian = policy.log_std(np.zeros(policy.num_parameters)).size > 0
    log_std = config.policy.initial_log_std
    if gaussian and log_std < _MIN_LOG_STD:
      raise UserError(
        "--method=rwr is a regression on the policy's own noise: raise "
        f'--initial_log_std={log_std:g} to {_MIN_LOG_STD:g} or more, or take '
        '--method=cem or cma'
      )
    self._method, self._gamma = config.method, config.estimator.gamma
    num_blocks = blocks.num_blocks(config.sampler.batch_steps)
    self._likelihood = _compile_likelihood(policy, num_blocks)
    self._compare = _compile_comparison(policy, num_blocks)

  def initial_state(
    self, theta: np.ndarray, rng: np.random.Generator
  ) -> dict[str, Any]:
    """Returns an empty state.

    Args:
      theta: not used.
      rng: not used.

    Returns:
      An empty dict.
    """
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
      state: an empty dict.
      normalizer: normaliser of observations, as used while sampling.
      batch: whole episodes.
      iteration: not used.

    Returns:
      The update. The surrogate of its record is the weighted mean of the steps'
      log-likelihood, in nats. The KL and the entropy (of the old policy) are
      means over all steps. If the likelihood does not increase, the status is
      'no_improvement' and theta is unchanged.

    Raises:
      UserError: every step of the batch was dropped.
    """
    del iteration
    check_steps(batch.summary())
    index, path_returns = paths(batch)
    weights = self._weights(batch, index, path_returns)
    x, actions = (
      normalizer(batch.flat(batch.observations)),
      batch.flat(batch.actions),
    )
    used = weights > 0
    data = _RegressionData(actions[used], weights[used] / weights[used].mean())
    fitted, data = tf.nest.map_structure(tf.constant, (x[used], data))

    def value_and_gradient(candidate):
      return self._likelihood(candidate, fitted, data)

    evaluations = self._method.fit_evaluations
    before, gradient = value_and_gradient(theta)
    found = lbfgs.maximize(value_and_gradient, theta, evaluations)
    after, _ = value_and_gradient(found.theta)
    improved = bool(after > before)
    new = found.theta if improved else theta
    mean_kl, max_kl, entropy = self._compare(theta, new, x)
    status = StepStatus.ACCEPTED if improved else StepStatus.NO_IMPROVEMENT
    record = IterationRecord(
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
    """Weights the kept steps by their path's return or by their advantage."""
    method = self._method
    if method.rwr_weights == 'elite':
      return elite_weights(path_returns, method.elite_fraction)[index]
    return advantage_weights(batch, self._gamma, method.rwr_temperature)


def _compile_likelihood(
  policy: Policy, num_blocks: int
) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
  """Compiles (theta, x, data) -> weighted mean log-likelihood, gradient.

  Args:
    policy: the policy.
    num_blocks: number of blocks of states.

  Returns:
    The graph function, for any N; its results are float64 [] and [P].
  """

  def likelihood(theta, x, data):
    found = make_problem(policy, _log_likelihood, theta, x, data, num_blocks)
    return found.surrogate, found.gradient

  return graphs.compile_any_batch(likelihood, fixed=1)


def _compile_comparison(
  policy: Policy, num_blocks: int
) -> Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
  """Compiles (old theta, new theta, x) -> mean KL, largest KL, entropy.

  Args:
    policy: the policy.
    num_blocks: number of blocks of states.

  Returns:
    The graph function, for any N; its results are float64 [], in nats. The
    entropy is the mean entropy of the old policy.
  """

  def distribution(theta, x):
    outputs = blocks.outputs(policy, theta, x, num_blocks)
    return surrogate.distribution64(policy, theta, outputs)

  def compare(old, new, x):
    old, new = distribution(old, x), distribution(new, x)
    kl = tfd.kl_divergence(old, new)
    return tf.reduce_mean(kl), tf.reduce_max(kl), tf.reduce_mean(old.entropy())

  return graphs.compile_any_batch(compare, fixed=2)
