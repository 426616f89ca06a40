"""Fisher-vector products against the dense matrix and the KL's Hessian."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from trpo_tf.optim import blocks as blocks_lib
from trpo_tf.optim import fisher
from trpo_tf.policies import categorical, gaussian, linearization, mlp

KINDS = ['gaussian', 'factored']


class Autodiff(mlp.MLP):
  """The same network, linearised by automatic differentiation."""

  def linearize(self, theta, x, keep=False):
    del keep
    return linearization.linearize_autodiff(self.outputs, theta, x)


def make(kind, network=mlp.MLP):
  if kind == 'gaussian':
    return gaussian.GaussianPolicy(network(3, (4,), 2))
  return categorical.CategoricalPolicy(network(3, (4,), 5), (3, 2))


def problem(policy, n=23, dtype=np.float64):
  rng = np.random.default_rng(0)
  theta = rng.normal(size=policy.num_parameters) * 0.5
  x = rng.normal(size=(n, 3))
  return tf.constant(theta.astype(dtype)), tf.constant(x.astype(dtype))


def matrix(policy, theta, x, blocks=1):
  linearized = fisher.linearize(policy, theta, x, blocks)
  columns = tf.eye(policy.num_parameters, dtype=tf.float64)
  return np.stack([fisher.product(policy, linearized, v) for v in columns], 1)


def kl_hessian(policy, theta, x):
  old = policy.distribution(theta, policy.outputs(theta, x))
  theta = tf.identity(theta)  # So that old does not depend on it.
  with tf.GradientTape() as outer:
    outer.watch(theta)
    with tf.GradientTape() as inner:
      inner.watch(theta)
      new = policy.distribution(theta, policy.outputs(theta, x))
      kl = tf.reduce_mean(tfp.distributions.kl_divergence(old, new))
    slope = inner.gradient(kl, theta)
  return outer.jacobian(slope, theta).numpy()


@pytest.mark.parametrize('kind', KINDS)
def test_equals_the_hessian_of_the_mean_kl(kind):
  policy = make(kind)
  theta, x = problem(policy)
  np.testing.assert_allclose(
    matrix(policy, theta, x), kl_hessian(policy, theta, x), rtol=0, atol=1e-12
  )


@pytest.mark.parametrize('kind', KINDS)
def test_equals_the_dense_product_j_m_j(kind):
  policy = make(kind)
  theta, x = problem(policy)
  with tf.GradientTape() as tape:
    tape.watch(theta)
    outputs = policy.outputs(theta, x)
  jacobian = tape.jacobian(outputs, theta).numpy()
  dense = np.zeros((policy.num_parameters,) * 2)
  for j, mu in zip(jacobian, outputs.numpy(), strict=True):
    if kind == 'gaussian':
      m = np.diag(np.exp(-2 * theta.numpy()[-2:]))
    else:
      p = [np.exp(part) / np.exp(part).sum() for part in (mu[:3], mu[3:])]
      m = np.zeros((5, 5))
      m[:3, :3] = np.diag(p[0]) - np.outer(p[0], p[0])
      m[3:, 3:] = np.diag(p[1]) - np.outer(p[1], p[1])
    dense += j.T @ m @ j / len(outputs)
  if kind == 'gaussian':
    dense[-2:, -2:] = 2 * np.eye(2)
  np.testing.assert_allclose(
    matrix(policy, theta, x), dense, rtol=0, atol=1e-13
  )


@pytest.mark.parametrize('kind', KINDS)
def test_symmetric_and_positive(kind):
  policy = make(kind)
  a = matrix(policy, *problem(policy))
  np.testing.assert_allclose(a, a.T, rtol=0, atol=1e-14)
  assert np.linalg.eigvalsh(a).min() > -1e-14


@pytest.mark.parametrize('kind', KINDS)
def test_hand_written_equals_autodiff(kind):
  theta, x = problem(make(kind))
  np.testing.assert_allclose(
    matrix(make(kind), theta, x),
    matrix(make(kind, Autodiff), theta, x),
    rtol=0,
    atol=1e-14,
  )


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_blocks_only_change_the_rounding(kind):
  policy = make(kind)
  theta, x = problem(policy)
  one = matrix(policy, theta, x)
  for blocks in (2, 5, 23):
    np.testing.assert_allclose(
      matrix(policy, theta, x, blocks), one, rtol=0, atol=1e-14
    )


def test_float32_networks_lose_little():
  policy = make('gaussian')
  exact = matrix(policy, *problem(policy))
  single = matrix(policy, *problem(policy, dtype=np.float32))
  # Entries are means of products of some 10 float32 roundings.
  np.testing.assert_allclose(
    single, exact, rtol=0, atol=30 * 6e-8 * np.abs(exact).max()
  )


def test_blocks_are_even_and_cover_everything():
  parts = blocks_lib.split(tf.range(103), 4)
  np.testing.assert_array_equal(tf.concat(parts, 0), np.arange(103))
  assert {len(part) for part in parts} == {25, 26}
  assert blocks_lib.num_blocks(1) == 1
  assert blocks_lib.num_blocks(50_000) == 13


def test_outputs_are_those_of_one_pass():
  policy = make('gaussian')
  theta, x = problem(policy)
  for blocks in (1, 4):
    np.testing.assert_allclose(
      blocks_lib.outputs(policy, theta, x, blocks),
      policy.outputs(theta, x),
      rtol=0,
      atol=1e-15,
    )
