"""The constrained step: its optimum, its refusals, its guarantees."""

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from trpo_tf import config
from trpo_tf.estimation import surrogate
from trpo_tf.optim import step as step_lib
from trpo_tf.optim import trust_region
from trpo_tf.policies import categorical, gaussian, mlp

Status = step_lib.StepStatus
N = 200


def make(kind='gaussian', hidden=(8,), **kwargs):
  """A policy, its theta, observations and a batch drawn from it."""
  rng = np.random.default_rng(0)
  if kind == 'gaussian':
    policy = gaussian.GaussianPolicy(mlp.MLP(3, hidden, 2), **kwargs)
  else:
    policy = categorical.CategoricalPolicy(mlp.MLP(3, hidden, 5), (3, 2))
  theta = policy.initial_parameters(rng)
  x = rng.normal(size=(N, 3)).astype(np.float32)
  outputs = policy.outputs(tf.constant(theta), tf.constant(x))
  distribution = surrogate.distribution64(policy, theta, outputs)
  actions = distribution.sample(seed=(1, 2)).numpy()
  log_probs = distribution.log_prob(actions).numpy().astype(np.float32)
  advantages = actions[:, 0] * x[:, 0] + rng.normal(size=N)
  data = surrogate.PathData(actions, log_probs, advantages)
  return policy, theta, x, data


def settings(**kwargs):
  region = config.TrustRegionConfig(**kwargs)
  return config.ExperimentConfig(trust_region=region)


def step(policy, theta, x, data, rows=None, objective=None, **kwargs):
  objective = objective or surrogate.importance_sampled
  run = trust_region.make_step(policy, objective, settings(**kwargs), len(x))
  return run(theta, x, data, rows)


def numpy_mean_kl(policy, old, new, x):
  """Closed form in NumPy float64 from the networks' float32 outputs."""
  a, b = (
    policy.outputs(tf.constant(t), tf.constant(x)).numpy().astype(float)
    for t in (old, new)
  )
  if isinstance(policy, gaussian.GaussianPolicy):
    s, t = (v[-2:].astype(float) for v in (old, new))
    terms = t - s + (np.exp(2 * s) + (a - b) ** 2) / (2 * np.exp(2 * t)) - 0.5
    return terms.sum(axis=1)
  total = 0
  for cut in (slice(0, 3), slice(3, 5)):
    p, q = (
      v[:, cut] - np.log(np.exp(v[:, cut]).sum(1, keepdims=True))
      for v in (a, b)
    )
    total = total + (np.exp(p) * (p - q)).sum(axis=1)
  return total


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['gaussian', 'categorical'])
@pytest.mark.parametrize('max_kl', [1e-4, 0.01, 0.5])
def test_accepted_step_improves_within_the_bound(kind, max_kl):
  policy, theta, x, data = make(kind)
  result = step(policy, theta, x, data, max_kl=max_kl)
  assert result.status == Status.ACCEPTED
  assert result.surrogate_after > result.surrogate_before
  kl = numpy_mean_kl(policy, theta, result.theta, x)
  assert 0 < kl.mean() <= max_kl
  # Float64 rounding of sums of order 1, relative to KLs that may be small.
  np.testing.assert_allclose(result.mean_kl, kl.mean(), rtol=0, atol=1e-14)
  np.testing.assert_allclose(result.max_state_kl, kl.max(), rtol=0, atol=1e-14)
  assert result.tried_kl == result.mean_kl
  assert result.tried_surrogate == result.surrogate_after
  assert result.step_fraction == pytest.approx(
    0.8 ** (result.evaluations - 1), rel=1e-14
  )


def test_step_size_comes_from_the_undamped_curvature():
  policy, theta, x, data = make()
  result = step(policy, theta, x, data, cg_damping=0.3, max_kl=0.001)
  assert result.step_size == pytest.approx(
    np.sqrt(2 * 0.001 / result.curvature), rel=1e-14
  )
  # s = theta change / (beta * fraction), known to float32.
  s = (result.theta.astype(float) - theta) / (
    result.step_size * result.step_fraction
  )
  assert result.damped_curvature - result.curvature == pytest.approx(
    0.3 * s @ s, rel=1e-4
  )


def test_reaches_the_optimum_of_the_constrained_problem():
  """One state, a linear Gaussian: SLSQP solves the very same problem."""
  policy = gaussian.GaussianPolicy(mlp.MLP(1, (), 2))
  theta = np.array([0.3, -0.2, 0.1, 0.4, 0.2, -0.3], np.float32)
  x = np.ones((1, 1), np.float32)
  slope = np.array([1.0, -2.0])

  def objective(distribution, data):
    del data
    return tf.linalg.matvec(distribution.mean(), slope)

  max_kl = 1e-3
  result = step(
    policy, theta, x, (), objective=objective, max_kl=max_kl, cg_damping=0.0
  )
  assert result.status == Status.ACCEPTED

  def mean(t):
    return t[:2] + t[2:4]

  old = theta.astype(float)

  def kl(t):
    ratio = np.exp(2 * (old[4:] - t[4:]))
    shift = (mean(t) - mean(old)) ** 2 / np.exp(2 * t[4:])
    return (t[4:] - old[4:] + (ratio + shift) / 2 - 0.5).sum()

  # Not from old itself, where the constraint has no slope.
  start = old + 0.01 * np.array([1, -1, 1, -1, 0, 0])
  best = scipy.optimize.minimize(
    lambda t: -slope @ mean(t),
    start,
    method='SLSQP',
    constraints=dict(type='ineq', fun=lambda t: 1 - kl(t) / max_kl),
    options=dict(ftol=1e-12, maxiter=200),
  )
  assert best.success
  gain = result.surrogate_after - result.surrogate_before
  best_gain = -best.fun - slope @ mean(old)
  # The quadratic model leaves log_std alone; SLSQP gains by O(max_kl) more,
  # relative. Backtracking by 0.8 only follows from float32 rounding of KL.
  assert result.step_fraction in (1.0, 0.8)
  assert gain == pytest.approx(result.step_fraction * best_gain, rel=5 * max_kl)


def test_damping_and_iterations_lead_to_the_dense_solution():
  policy, theta, x, data = make(hidden=())
  result = step(
    policy, theta, x, data, cg_iterations=10, cg_damping=0.0, max_kl=1e-4
  )
  with tf.GradientTape() as tape:
    t = tf.constant(theta.astype(float))
    tape.watch(t)
    outputs = policy.outputs(t, tf.constant(x.astype(float)))
    value = tf.reduce_mean(
      surrogate.importance_sampled(policy.distribution(t, outputs), data)
    )
  gradient = tape.gradient(value, t).numpy()
  features = np.concatenate([x, np.ones((N, 1))], axis=1).astype(float)
  precision = np.exp(-2 * theta[-2:].astype(float))
  gram = features.T @ features / N
  means = np.linalg.solve(gram, gradient[:-2].reshape(4, 2)) / precision
  s = np.concatenate([means[:3].ravel(), means[3], gradient[-2:] / 2])
  assert result.curvature == pytest.approx(s @ gradient, rel=1e-5)
  assert result.gradient_norm == pytest.approx(
    np.linalg.norm(gradient), rel=1e-5
  )


def refused(result, theta, status):
  assert result.status == status
  assert result.theta is theta
  assert result.mean_kl == 0 and result.step_fraction == 0
  np.testing.assert_equal(result.surrogate_after, result.surrogate_before)


def test_zero_gradient():
  policy, theta, x, data = make()
  kept = theta.copy()
  result = step(policy, theta, x, data._replace(advantages=np.zeros(N)))
  refused(result, theta, Status.ZERO_GRADIENT)
  assert result.evaluations == 0 and result.cg_iterations == 0
  np.testing.assert_array_equal(theta, kept)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_non_finite_gradient(value):
  policy, theta, x, data = make()
  advantages = data.advantages.copy()
  advantages[7] = value
  result = step(policy, theta, x, data._replace(advantages=advantages))
  refused(result, theta, Status.NON_FINITE_GRADIENT)
  assert result.evaluations == 0


def test_non_positive_curvature():
  """Saturated softmaxes: a gradient, and a Fisher matrix of exactly zero."""
  policy = categorical.CategoricalPolicy(mlp.MLP(1, (), 2), (2,))
  theta = np.array([0, 0, 200, -200], np.float32)
  x = np.ones((4, 1), np.float32)

  def objective(distribution, data):
    del data
    return distribution.distribution.logits[:, 0, 0]

  result = step(policy, theta, x, (), objective=objective, cg_damping=0.0)
  refused(result, theta, Status.NON_POSITIVE_CURVATURE)
  assert result.gradient_norm > 0 and result.cg_failed
  damped = step(policy, theta, x, (), objective=objective, cg_damping=0.1)
  refused(damped, theta, Status.NON_POSITIVE_CURVATURE)
  assert damped.damped_curvature > 0 and damped.curvature == 0


@pytest.mark.slow
def test_kl_exceeded():
  """The Fisher matrix of rows that do not see the direction is too small."""
  policy, theta, x, data = make(hidden=())
  x = x.copy()
  x[0] = 1e-3
  result = step(
    policy,
    theta,
    x,
    data,
    np.zeros(3, np.int32),
    fisher_fraction=0.5,
    max_backtracks=2,
    cg_damping=1e-2,
  )
  refused(result, theta, Status.KL_EXCEEDED)
  assert result.tried_kl > 0.01 and result.evaluations == 2


def test_no_improvement():
  """A gradient that leads nowhere: the terms fall off at any finite step."""
  policy, theta, x, data = make()
  start = tf.constant(policy.outputs(tf.constant(theta), tf.constant(x)))

  def objective(distribution, data):
    moved = distribution.mean() - tf.cast(start, tf.float64)
    return tf.reduce_sum(moved - 1e9 * moved**2, axis=1)

  result = step(policy, theta, x, data, objective=objective)
  refused(result, theta, Status.NO_IMPROVEMENT)
  assert result.tried_surrogate < result.surrogate_before
  assert result.tried_kl <= 0.01 and result.evaluations == 10


@pytest.mark.slow
def test_all_rows_as_the_fisher_sample_change_nothing_but_rounding():
  policy, theta, x, data = make()
  whole = step(policy, theta, x, data)
  rows = np.random.default_rng(1).permutation(N).astype(np.int32)
  sampled = step(policy, theta, x, data, rows)
  np.testing.assert_allclose(sampled.theta, whole.theta, rtol=0, atol=1e-5)
  part = step(policy, theta, x, data, rows[:20], fisher_fraction=0.1)
  assert part.status == Status.ACCEPTED
  assert np.abs(part.theta - whole.theta).max() > 1e-4


@pytest.mark.slow
def test_one_trace_serves_batches_of_any_size():
  policy, theta, x, data = make()
  traces = []

  def objective(distribution, data):
    traces.append(1)
    return surrogate.importance_sampled(distribution, data)

  run = trust_region.make_step(policy, objective, settings(), N)
  run(theta, x, data)
  count = len(traces)
  for n in (150, 37):
    part = surrogate.PathData(*(a[:n] for a in data))
    result = run(theta, x[:n], part)
    assert len(traces) == count
    alone = step(policy, theta, x[:n], part)
    np.testing.assert_array_equal(result.theta, alone.theta)


@pytest.mark.slow
def test_same_bits_every_time():
  policy, theta, x, data = make()
  first, second = (step(policy, theta, x, data) for _ in range(2))
  for a, b in zip(first, second, strict=True):
    np.testing.assert_array_equal(a, b)
