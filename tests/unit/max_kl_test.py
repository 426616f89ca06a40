"""The step that bounds every state's KL, against SLSQP and closed forms."""

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from trpo_tf import config
from trpo_tf.errors import UserError
from trpo_tf.estimation import surrogate
from trpo_tf.optim import max_kl, trust_region
from trpo_tf.optim.problem import make_problem
from trpo_tf.optim.step import StepStatus
from trpo_tf.policies import gaussian, mlp

N = 40


def _make(hidden=(), seed=0):
  """A policy and states of very different size: their Fisher blocks too."""
  rng = np.random.default_rng(seed)
  policy = gaussian.GaussianPolicy(mlp.MLP(3, hidden, 1), output_scale=0.5)
  theta = policy.initial_parameters(rng)
  scale = rng.exponential(size=(N, 1)) + 0.1
  x = (scale * rng.normal(size=(N, 3))).astype(np.float32)
  outputs = policy.outputs(tf.constant(theta), tf.constant(x))
  distribution = surrogate.distribution64(policy, theta, outputs)
  actions = distribution.sample(seed=(seed, 2)).numpy()
  log_probs = distribution.log_prob(actions).numpy().astype(np.float32)
  advantages = actions[:, 0] * x[:, 0] + rng.normal(size=N)
  return policy, theta, x, surrogate.PathData(actions, log_probs, advantages)


def _make_step(policy, settings, count=N):
  experiment = config.ExperimentConfig(trust_region=settings)
  return max_kl.make_step(
    policy, surrogate.importance_sampled, experiment, count
  )


def _settings(**values):
  return config.TrustRegionConfig(
    **dict(dict(cg_damping=0.0, max_kl=0.01, cg_iterations=30), **values)
  )


def _blocks(x):
  """Fisher matrix of each state of the linear policy with log_std = 0."""
  rows = np.concatenate([x, np.ones((N, 1)), np.zeros((N, 1))], axis=1)
  matrices = rows[:, :, None] * rows[:, None, :]
  matrices[:, -1, -1] = 2
  return matrices.astype(float)


def _gains(problem, matrices, direction):
  """g^T d after scaling d until the worst state is at the bound."""
  worst = np.einsum('npq,p,q->n', matrices, direction, direction).max()
  return problem.gradient.numpy() @ direction / np.sqrt(worst)


def test_direction_is_the_optimum_of_the_statewise_problem():
  policy, theta, x, data = _make()
  problem = make_problem(
    policy,
    surrogate.importance_sampled,
    tf.constant(theta),
    tf.constant(x),
    tf.nest.map_structure(tf.constant, data),
  )
  matrices = _blocks(x)
  found = max_kl.solve(problem, _settings()).s.numpy()
  mean = trust_region.solve(problem, _settings()).s.numpy()
  gradient = problem.gradient.numpy()
  best = scipy.optimize.minimize(
    lambda d: -gradient @ d,
    mean / np.linalg.norm(mean) * 0.01,
    jac=lambda d: -gradient,
    method='SLSQP',
    options=dict(maxiter=500),
    constraints=dict(
      type='ineq',
      fun=lambda d: 1 - np.einsum('npq,p,q->n', matrices, d, d),
      jac=lambda d: -2 * matrices @ d,
    ),
  )
  assert best.success
  optimum = _gains(problem, matrices, best.x)
  assert _gains(problem, matrices, found) >= 0.99 * optimum
  # and it is not TRPO's direction, which is worse
  assert _gains(problem, matrices, mean) < 0.9 * optimum
  cosine = found @ mean / np.linalg.norm(found) / np.linalg.norm(mean)
  assert cosine < 0.98


def _statewise_kl(policy, old, new, x):
  """Closed form, float64 from the networks' float32 outputs."""
  a, b = (
    policy.outputs(tf.constant(t), tf.constant(x)).numpy().astype(float)
    for t in (old, new)
  )
  s, t = (v[-1:].astype(float) for v in (old, new))
  terms = t - s + (np.exp(2 * s) + (a - b) ** 2) / (2 * np.exp(2 * t)) - 0.5
  return terms.sum(axis=1)


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(3))
def test_no_state_exceeds_the_bound(seed):
  policy, theta, x, data = _make((4,), seed)
  settings = _settings(cg_damping=0.01, backtrack_ratio=0.5)
  step = _make_step(policy, settings)
  for i in range(3):
    result = step(theta, x, data)
    if i and result.status == StepStatus.NO_IMPROVEMENT:
      break  # this batch has nothing more to give
    assert result.status == StepStatus.ACCEPTED
    assert result.surrogate_after > result.surrogate_before
    kl = _statewise_kl(policy, theta, result.theta, x)
    assert 0.001 < kl.max() <= 0.01
    assert result.max_state_kl == pytest.approx(kl.max(), abs=1e-12)
    theta = result.theta
    data = data._replace(log_probs=_log_probs(policy, theta, x, data.actions))


def _log_probs(policy, theta, x, actions):
  outputs = policy.outputs(tf.constant(theta), tf.constant(x))
  distribution = surrogate.distribution64(policy, theta, outputs)
  return distribution.log_prob(actions).numpy().astype(np.float32)


def test_refusals():
  policy, theta, x, data = _make()
  with pytest.raises(UserError, match='--fisher_fraction=1, not 0.1'):
    _make_step(policy, _settings(fisher_fraction=0.1))
  with pytest.raises(UserError, match='or take --method=trpo'):
    _make_step(policy, _settings(), max_kl.MAX_STATES + 1)
  step = _make_step(policy, _settings())
  broken = data._replace(advantages=np.full(N, np.nan))
  result = step(theta, x, broken)
  assert result.status == StepStatus.NON_FINITE_GRADIENT
  assert result.theta.tobytes() == theta.tobytes()
