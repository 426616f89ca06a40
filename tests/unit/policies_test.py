"""Networks and action distributions against closed forms in NumPy."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from trpo_tf import config
from trpo_tf.policies import categorical, gaussian, linearization, mlp

EPSILON = np.finfo(np.float64).eps


def numpy_mlp(theta, x, sizes, function):
  at = 0
  for i, (rows, columns) in enumerate(zip(sizes, sizes[1:], strict=False)):
    w = theta[at : at + rows * columns].reshape(rows, columns)
    at += rows * columns
    b = theta[at : at + columns]
    at += columns
    x = x @ w + b
    if i < len(sizes) - 2:
      x = function(x)
  assert at == len(theta)
  return x


@pytest.mark.parametrize('hidden', [(), (5,), (6, 4)])
@pytest.mark.parametrize(
  'activation, function',
  [
    ('tanh', np.tanh),
    ('softplus', lambda z: np.log1p(np.exp(z))),
    ('relu', lambda z: np.where(z > 0, z, 0)),
  ],
)
def test_mlp_is_layers_of_a_flat_vector(hidden, activation, function):
  rng = np.random.default_rng(0)
  network = mlp.MLP(3, hidden, 2, activation)
  theta = rng.normal(size=network.num_parameters)
  x = rng.normal(size=(7, 3))
  expected = numpy_mlp(theta, x, (3, *hidden, 2), function)
  outputs = network.outputs(tf.constant(theta), tf.constant(x))
  np.testing.assert_allclose(outputs, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('hidden', [(), (5,), (6, 4)])
@pytest.mark.parametrize('activation', ['tanh', 'softplus', 'relu'])
def test_hand_written_linearization_is_the_derivative(hidden, activation):
  rng = np.random.default_rng(1)
  network = mlp.MLP(3, hidden, 2, activation)
  theta = tf.constant(rng.normal(size=network.num_parameters))
  x = tf.constant(rng.normal(size=(7, 3)))
  v = tf.constant(rng.normal(size=network.num_parameters))
  u = tf.constant(rng.normal(size=(7, 2)))
  ours = network.linearize(theta, x)
  theirs = linearization.linearize_autodiff(network.outputs, theta, x)
  for a, b in (
    (ours.outputs, theirs.outputs),
    (ours.jvp(v), theirs.jvp(v)),
    (ours.vjp(u), theirs.vjp(u)),
  ):
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_orthogonal_initialisation():
  network = mlp.MLP(11, (64, 32), 3)
  theta = network.initial_parameters(np.random.default_rng(0), 0.01)
  assert theta.dtype == np.float32
  for layer, gain in zip(
    network.layers(tf.constant(theta)), (2**0.5, 2**0.5, 0.01), strict=True
  ):
    w, b = layer.numpy()[:-1].astype(np.float64), layer.numpy()[-1]
    np.testing.assert_array_equal(b, 0)
    gram = w @ w.T if len(w) <= w.shape[1] else w.T @ w
    # A float32 entry is off by 6e-8 of itself, a sum of 64 products by more.
    np.testing.assert_allclose(gram, gain**2 * np.eye(len(gram)), atol=2e-6)


def test_unknown_activation_is_refused():
  with pytest.raises(ValueError, match='elu'):
    mlp.MLP(3, (4,), 2, 'elu')


def test_the_papers_cart_pole_policy_has_six_parameters():
  settings = config.PolicyConfig(hidden_sizes=())
  assert gaussian.gaussian_policy(settings, 4, 1).num_parameters == 6


def test_gaussian_against_closed_forms():
  rng = np.random.default_rng(2)
  policy = gaussian.GaussianPolicy(mlp.MLP(3, (4,), 2))
  old, new = rng.normal(size=(2, policy.num_parameters))
  mean, other = rng.normal(size=(2, 5, 2))
  actions = rng.normal(size=(5, 2))
  std, new_std = np.exp(old[-2:]), np.exp(new[-2:])
  p = policy.distribution(tf.constant(old), tf.constant(mean))
  q = policy.distribution(tf.constant(new), tf.constant(other))
  log_prob = scipy.stats.norm.logpdf(actions, mean, std).sum(axis=1)
  entropy = np.log(std * np.sqrt(2 * np.pi * np.e)).sum()
  kl = (
    np.log(new_std / std)
    + (std**2 + (mean - other) ** 2) / (2 * new_std**2)
    - 0.5
  ).sum(axis=1)
  np.testing.assert_allclose(p.log_prob(actions), log_prob, rtol=1e-12)
  np.testing.assert_allclose(p.entropy(), np.full(5, entropy), rtol=1e-12)
  np.testing.assert_allclose(
    tfp.distributions.kl_divergence(p, q), kl, rtol=1e-11
  )


@pytest.mark.parametrize('factors', [(4,), (3, 3, 2), (1, 5)])
@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_categorical_against_closed_forms(factors, dtype):
  rng = np.random.default_rng(3)
  policy = categorical.CategoricalPolicy(mlp.MLP(2, (), sum(factors)), factors)
  logits, other = rng.normal(size=(2, 6, sum(factors))).astype(dtype) * 3
  actions = np.stack([rng.integers(n, size=6) for n in factors], axis=1)
  log_prob, entropy, kl = np.zeros((3, 6))
  cuts = np.cumsum(factors)[:-1]
  for i, (a, b) in enumerate(
    zip(np.split(logits, cuts, 1), np.split(other, cuts, 1), strict=True)
  ):
    a = scipy.special.log_softmax(a.astype(np.float64), axis=1)
    b = scipy.special.log_softmax(b.astype(np.float64), axis=1)
    log_prob += a[np.arange(6), actions[:, i]]
    entropy -= (np.exp(a) * a).sum(axis=1)
    kl += (np.exp(a) * (a - b)).sum(axis=1)
  p = policy.distribution(None, tf.constant(logits))
  q = policy.distribution(None, tf.constant(other))
  # Sums of fewer than ten terms below 20.
  near = dict(rtol=0, atol=200 * np.finfo(dtype).eps)
  np.testing.assert_allclose(
    p.log_prob(actions.astype(np.int32)), log_prob, **near
  )
  np.testing.assert_allclose(p.entropy(), entropy, **near)
  np.testing.assert_allclose(tfp.distributions.kl_divergence(p, q), kl, **near)


def test_factors_must_fill_the_outputs():
  with pytest.raises(ValueError, match='8 outputs'):
    categorical.CategoricalPolicy(mlp.MLP(2, (), 8), (3, 3))


@pytest.mark.parametrize('kind', ['gaussian', 'categorical'])
def test_metric_is_the_second_derivative_of_kl(kind):
  rng = np.random.default_rng(4)
  if kind == 'gaussian':
    policy = gaussian.GaussianPolicy(mlp.MLP(2, (), 3))
  else:
    policy = categorical.CategoricalPolicy(mlp.MLP(2, (), 5), (3, 2))
  size = policy.output_size
  theta = tf.constant(rng.normal(size=policy.num_parameters))
  outputs = tf.constant(rng.normal(size=(1, size)))
  # A tensor of its own: the derivative is in the second argument alone.
  old = policy.distribution(theta, tf.identity(outputs))
  with tf.GradientTape() as outer:
    outer.watch(outputs)
    with tf.GradientTape() as inner:
      inner.watch(outputs)
      kl = tfp.distributions.kl_divergence(
        old, policy.distribution(theta, outputs)
      )
    slope = inner.gradient(kl, outputs)
  hessian = outer.jacobian(slope, outputs)[0, :, 0]
  metric = policy.metric(theta, outputs)
  ours = np.concatenate(
    [metric(row[tf.newaxis]) for row in tf.eye(size, dtype=tf.float64)]
  )
  np.testing.assert_allclose(
    ours, hessian, rtol=0, atol=1e-13 * np.abs(hessian).max() + 50 * EPSILON
  )


@pytest.mark.parametrize('convert', [np.asarray, tf.constant])
@pytest.mark.parametrize('kind', ['gaussian', 'categorical'])
def test_theta_is_the_network_then_log_std(kind, convert):
  rng = np.random.default_rng(5)
  if kind == 'gaussian':
    policy, width = gaussian.GaussianPolicy(mlp.MLP(2, (3,), 4)), 4
  else:
    network = mlp.MLP(2, (3,), 5)
    policy, width = categorical.CategoricalPolicy(network, (3, 2)), 0
  d = policy.network.num_parameters
  assert policy.num_parameters == d + width
  thetas = rng.normal(size=(2, 6, d + width)).astype(np.float32)
  for theta in (thetas, thetas[0, 0]):
    given = convert(theta)
    np.testing.assert_array_equal(
      policy.network_parameters(given), theta[..., :d]
    )
    np.testing.assert_array_equal(policy.log_std(given), theta[..., d:])
  theta, parameters = thetas[0, 0], rng.normal(size=(2, 6, d))
  for chosen in (parameters, parameters[0, 0]):
    moved = policy.with_network(convert(theta), convert(chosen))
    assert moved.dtype == np.float32
    assert tf.is_tensor(moved) == (convert is tf.constant)
    assert moved.shape == (*chosen.shape[:-1], d + width)
    for row in np.reshape(moved, (-1, d + width)):
      np.testing.assert_array_equal(row[d:], theta[d:])
    np.testing.assert_array_equal(
      policy.network_parameters(moved), chosen.astype(np.float32)
    )
