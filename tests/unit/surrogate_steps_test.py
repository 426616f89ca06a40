"""The steps that the paper compares TRPO with, against dense algebra."""

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from trpo_tf import config
from trpo_tf.estimation import surrogate
from trpo_tf.methods.kl_penalty import adapted, after_step
from trpo_tf.optim import (
  empirical_fisher,
  fisher,
  full_step,
  kl_penalty,
  natural_gradient,
  policy_gradient,
)
from trpo_tf.optim.step import StepStatus
from trpo_tf.policies import categorical, gaussian, mlp

N = 300
KINDS = pytest.mark.parametrize('kind', ['gaussian', 'categorical'])


def _make(kind, count=N):
  """A policy, its theta, observations and a batch drawn from it."""
  rng = np.random.default_rng(3)
  if kind == 'gaussian':
    policy = gaussian.GaussianPolicy(mlp.MLP(3, (4,), 2), output_scale=0.5)
  else:
    network = mlp.MLP(3, (4,), 5)
    policy = categorical.CategoricalPolicy(network, (3, 2), output_scale=0.5)
  theta = policy.initial_parameters(rng)
  x = rng.normal(size=(count, 3)).astype(np.float32)
  outputs = policy.outputs(tf.constant(theta), tf.constant(x))
  distribution = surrogate.distribution64(policy, theta, outputs)
  actions = distribution.sample(seed=(1, 2)).numpy()
  log_probs = distribution.log_prob(actions).numpy().astype(np.float32)
  advantages = actions[:, 0] * x[:, 0] + rng.normal(size=count)
  return policy, theta, x, surrogate.PathData(actions, log_probs, advantages)


def _step(module, policy, region=None, **method):
  """The module's step, with these settings of the method."""
  experiment = config.ExperimentConfig(
    trust_region=region or config.TrustRegionConfig(),
    method=config.MethodConfig(**method),
  )
  objective = surrogate.importance_sampled
  return module.make_step(policy, objective, experiment, N)


def _log_probs(policy, theta, x, actions):
  """Float64 throughout, and no code of the steps."""
  outputs = policy.outputs(theta, tf.constant(x, tf.float64))
  return policy.distribution(theta, outputs).log_prob(actions)


def _scores(policy, theta, x, actions):
  """d log pi(a|s) / d theta of every step, [N, P]."""
  theta = tf.constant(theta, tf.float64)
  columns = []
  for entry in np.eye(theta.shape[0]):
    with tf.autodiff.ForwardAccumulator(theta, tf.constant(entry)) as forward:
      values = _log_probs(policy, theta, x, actions)
    columns.append(forward.jvp(values).numpy())
  return np.stack(columns, axis=1)


def _dense(product, size):
  return np.stack([product(tf.constant(e)).numpy() for e in np.eye(size)], 1)


def _gradient(policy, theta, x, data):
  """At theta the ratio is 1: the mean of score times advantage."""
  scores = _scores(policy, theta, x, data.actions)
  return (scores * data.advantages[:, None]).mean(0)


@pytest.mark.slow
@KINDS
def test_natural_gradient_solves_the_dense_system(kind):
  policy, theta, x, data = _make(kind)
  settings = config.TrustRegionConfig(cg_iterations=60, cg_damping=0.02)
  linearized = fisher.linearize(policy, tf.constant(theta), tf.constant(x), 1)
  matrix = _dense(lambda v: fisher.product(policy, linearized, v), theta.size)
  wanted = np.linalg.solve(
    matrix + 0.02 * np.eye(theta.size), _gradient(policy, theta, x, data)
  )
  for multiplier in (3.0, 30.0):
    step = _step(
      natural_gradient, policy, settings, lagrange_multiplier=multiplier
    )
    result = step(theta, x, data)
    assert result.status == StepStatus.ACCEPTED
    moved = result.theta.astype(float) - theta
    # theta is float32: its rounding against a step of about 0.1 / multiplier
    np.testing.assert_allclose(moved, wanted / multiplier, atol=1e-5)


def test_natural_gradient_knows_no_bound():
  policy, theta, x, data = _make('gaussian')
  settings = config.TrustRegionConfig(max_kl=1e-6)
  step = _step(natural_gradient, policy, settings, lagrange_multiplier=0.5)
  result = step(theta, x, data)
  assert result.status == StepStatus.ACCEPTED
  assert result.mean_kl > 1e-3
  assert result.evaluations == 1


@pytest.mark.slow
@KINDS
def test_policy_gradient_has_the_length_of_its_bound(kind):
  policy, theta, x, data = _make(kind)
  step = _step(policy_gradient, policy, l2_bound=0.02)
  result = step(theta, x, data)
  assert result.status == StepStatus.ACCEPTED
  moved = result.theta.astype(float) - theta
  assert np.square(moved).sum() / 2 == pytest.approx(0.02, rel=1e-4)
  gradient = _gradient(policy, theta, x, data)
  cosine = moved @ gradient / np.linalg.norm(moved) / np.linalg.norm(gradient)
  assert cosine == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize('module', [natural_gradient, policy_gradient])
@pytest.mark.parametrize(
  ('advantage', 'status'),
  [(np.nan, StepStatus.NON_FINITE_GRADIENT), (0.0, StepStatus.ZERO_GRADIENT)],
)
def test_a_useless_gradient_is_refused(module, advantage, status):
  policy, theta, x, data = _make('gaussian')
  data = data._replace(advantages=np.full(N, advantage))
  result = _step(module, policy)(theta, x, data)
  assert result.status == status
  assert result.theta.tobytes() == theta.tobytes()
  assert result.mean_kl == 0


@pytest.mark.parametrize(
  ('multiplier', 'least'),
  [
    (1e-9, None),
    (1e-4, np.inf),
    (1e-2, 1e3),
  ],
)
def test_a_step_to_nowhere_is_refused(multiplier, least):
  """Small multipliers send log_std where KL is vast, infinite and NaN."""
  policy, theta, x, data = _make('gaussian')
  step = _step(natural_gradient, policy, lagrange_multiplier=multiplier)
  result = step(theta, x, data)
  assert result.status == StepStatus.KL_EXCEEDED
  if least is None:
    assert np.isnan(result.tried_kl)
  else:
    assert result.tried_kl >= least
  assert result.theta.tobytes() == theta.tobytes()


@pytest.mark.slow
@KINDS
@pytest.mark.parametrize('blocks', [1, 3])
def test_covariance_of_the_scores(kind, blocks):
  policy, theta, x, data = _make(kind)
  scores = _scores(policy, theta, x, data.actions)
  wanted = scores.T @ scores / N
  at = tf.constant(theta)
  linearized = fisher.linearize(policy, at, tf.constant(x), blocks)
  product = empirical_fisher.covariance(policy, at, linearized, data)
  found = _dense(product, theta.size)
  np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.slow
@KINDS
def test_covariance_tends_to_the_fisher_matrix(kind):
  """Entry by entry, within 5 standard errors of the mean over 20,000 steps."""
  count = 20_000
  policy, theta, x, data = _make(kind, count)
  scores = _scores(policy, theta, x, data.actions)
  at = tf.constant(theta)
  linearized = fisher.linearize(policy, at, tf.constant(x), 1)
  empirical = _dense(
    empirical_fisher.covariance(policy, at, linearized, data), theta.size
  )
  analytic = _dense(lambda v: fisher.product(policy, linearized, v), theta.size)
  squares = np.square(scores)
  error = np.sqrt((squares.T @ squares) / count / count)
  assert np.all(np.abs(empirical - analytic) <= 5 * error + 1e-5)
  assert np.abs(empirical - analytic).max() > 1e-4  # not the same thing


@pytest.mark.slow
def test_empirical_step_stays_in_the_region():
  policy, theta, x, data = _make('gaussian')
  settings = config.TrustRegionConfig(max_kl=0.01)
  step = _step(empirical_fisher, policy, settings)
  result = step(theta, x, data, np.arange(0, N, 2))
  assert result.status == StepStatus.ACCEPTED
  assert 0 < result.mean_kl <= 0.01
  assert result.surrogate_after > result.surrogate_before


def _penalized(policy, theta, x, data, coefficient):
  """The penalised surrogate in float64, and its gradient."""
  old = policy.distribution(
    tf.constant(theta, tf.float64),
    policy.outputs(tf.constant(theta, tf.float64), tf.constant(x, tf.float64)),
  )

  @tf.function
  def graph(candidate):
    with tf.GradientTape() as tape:
      tape.watch(candidate)
      outputs = policy.outputs(candidate, tf.constant(x, tf.float64))
      new = policy.distribution(candidate, outputs)
      ratio = tf.exp(new.log_prob(data.actions) - old.log_prob(data.actions))
      found = tf.reduce_mean(ratio * data.advantages) - coefficient * (
        tf.reduce_mean(old.kl_divergence(new))
      )
    return -found, -tape.gradient(found, candidate)

  def value(candidate):
    return [x.numpy() for x in graph(tf.constant(candidate, tf.float64))]

  return value


@pytest.mark.slow
def test_penalty_reaches_the_optimum():
  """Against SciPy's trust region, from the same point, in float64."""
  policy, theta, x, data = _make('gaussian')
  step = _step(kl_penalty, policy, kl_coefficient=50.0, fit_evaluations=200)
  result = step(theta, x, data)
  assert result.status == StepStatus.ACCEPTED
  value = _penalized(policy, theta, x, data, 50.0)
  best = scipy.optimize.minimize(
    value,
    theta.astype(float),
    jac=True,
    method='BFGS',
    options=dict(maxiter=100),
  )
  reached = -value(result.theta.astype(float))[0]
  start = -value(theta.astype(float))[0]
  assert reached - start > 0.99 * (-best.fun - start) > 0


@pytest.mark.slow
def test_a_larger_penalty_is_a_shorter_step():
  policy, theta, x, data = _make('categorical')
  step = _step(kl_penalty, policy)
  kls = [
    step(theta, x, data, kl_coefficient=c).mean_kl for c in (1.0, 10.0, 100.0)
  ]
  assert kls[0] > 2 * kls[1] > 4 * kls[2] > 0


@pytest.mark.parametrize(
  ('mean_kl', 'factor'),
  [(0.0151, 2), (0.0149, 1), (0.0067, 1), (0.0066, 0.5), (0.0, 0.5)],
)
def test_the_coefficient_adapts(mean_kl, factor):
  assert adapted(3.0, mean_kl, 0.01) == 3.0 * factor


def test_a_penalty_too_small_for_a_usable_policy_is_refused(monkeypatch):
  monkeypatch.setattr(full_step, 'MAX_KL', 100)  # its optimum is at 200 nats
  policy, theta, x, data = _make('gaussian')
  step = _step(kl_penalty, policy, fit_evaluations=200)
  result = step(theta, x, data, kl_coefficient=1e-12)
  assert result.status == StepStatus.KL_EXCEEDED
  assert result.tried_kl >= 100 and result.mean_kl == 0
  np.testing.assert_array_equal(result.theta, theta)


@pytest.mark.parametrize(
  ('status', 'tried_kl', 'factor'),
  [
    (StepStatus.KL_EXCEEDED, 2e3, 2),
    (StepStatus.NO_IMPROVEMENT, 0.02, 0.5),
    (StepStatus.ZERO_GRADIENT, 0.0, 1),
    (StepStatus.NON_FINITE_GRADIENT, np.nan, 1),
  ],
)
def test_the_coefficient_adapts_to_refused_steps(status, tried_kl, factor):
  policy, theta, x, data = _make('gaussian')
  taken = _step(kl_penalty, policy)(theta, x, data)
  refused = taken._replace(status=status, mean_kl=0.0, tried_kl=tried_kl)
  settings = config.from_settings(
    dict(method='kl_penalty', adapt_kl_coefficient=True)
  )
  assert after_step(settings, 3.0, refused) == {'kl_coefficient': 3 * factor}
