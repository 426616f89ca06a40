"""The convolutional network against SciPy and dense Jacobians."""

import dataclasses

import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from trpo_tf import config
from trpo_tf.errors import UserError
from trpo_tf.estimation import baselines, surrogate, value_network
from trpo_tf.optim import blocks, trust_region
from trpo_tf.policies import categorical, conv, stacks
from trpo_tf.policies.stacks import FrameStacks

SMALL = conv.ConvNet((13, 12, 4), (3, 2), (5,), 8)
N, F = 13, 9


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch):
  monkeypatch.setattr(conv, '_CHUNK', 5)


def parameters(network=SMALL, dtype=np.float32, seed=0):
  rng = np.random.default_rng(seed)
  theta = network.initial_parameters(rng, 1.0).astype(dtype)
  return tf.constant(theta + rng.normal(0, 0.05, theta.shape).astype(dtype))


def observations(n=N, seed=1):
  rng = np.random.default_rng(seed)
  frames = rng.integers(0, 256, (F, 13, 12)).astype(np.uint8)
  frames[0] = 0
  rows = rng.integers(0, F, (n, 4)).astype(np.int32)
  return FrameStacks(tf.constant(frames), tf.constant(rows))


def dense(x):
  """uint8 [N, H, W, 4] by NumPy."""
  return np.moveaxis(x.frames.numpy()[x.rows.numpy()], 1, -1)


def compiled(function):
  """As the samplers and steps call it, N unknown."""
  spec = SMALL.input_spec
  return tf.function(function, input_signature=[spec], autograph=False)


def by_scipy(network, theta, pixels):
  """Outputs of one observation [H, W, C], in float64."""
  theta, h = theta.numpy().astype(float), pixels / 255.0
  for filters in network.filters:
    size = 16 * h.shape[2] * filters
    kernel = theta[:size].reshape(4, 4, h.shape[2], filters)
    bias = theta[size : size + filters]
    theta = theta[size + filters :]
    planes = [
      sum(
        scipy.signal.correlate2d(h[..., c], kernel[..., c, k], 'valid')
        for c in range(h.shape[2])
      )[::2, ::2]
      + bias[k]
      for k in range(filters)
    ]
    h = np.tanh(np.stack(planes, -1))
  h = h.ravel()
  for units in (*network.hidden_sizes, network.output_size):
    size = h.size * units
    z = h @ theta[:size].reshape(-1, units) + theta[size : size + units]
    theta, h = theta[size + units :], np.tanh(z)
  assert not theta.size
  return z


def test_the_papers_network_has_33500_parameters():
  settings = config.PolicyConfig(hidden_sizes=(20,))
  policy = categorical.atari_policy(settings, (52, 40), (3, 3, 2))
  assert policy.num_parameters == 33_500  # Table 3
  theta = policy.initial_parameters(np.random.default_rng(0))
  assert theta.shape == (33_500,) and theta.dtype == np.float32


@pytest.mark.parametrize(
  'network',
  [
    SMALL,
    dataclasses.replace(SMALL, input_shape=(10, 12, 4), filters=(4,)),
  ],
)
def test_outputs_are_those_of_scipy(network):
  theta = parameters(network)
  pixels = (
    np.random.default_rng(2)
    .integers(0, 256, (3, *network.input_shape))
    .astype(np.uint8)
  )
  expected = [by_scipy(network, theta, image) for image in pixels]
  found = network.pixel_outputs(theta, tf.constant(pixels))
  np.testing.assert_allclose(found, expected, atol=2e-6)


def test_initial_kernels_are_orthogonal():
  theta = SMALL.initial_parameters(np.random.default_rng(0), 0.01)
  rows, columns = SMALL.layer_shapes[0]
  kernel = theta[: (rows - 1) * columns].reshape(-1, columns)
  np.testing.assert_allclose(kernel.T @ kernel, 2 * np.eye(columns), atol=1e-6)
  last = SMALL.layer_shapes[-1]
  output = theta[-last[0] * last[1] : -last[1]]
  assert np.abs(output).max() <= 0.01 and not theta[-last[1] :].any()


def test_pixels_are_the_frames_of_the_rows():
  x = observations(200)
  np.testing.assert_array_equal(stacks.pixels(x), dense(x))
  chosen = tf.constant([3, 0, 7])
  np.testing.assert_array_equal(
    stacks.pixels(stacks.take(x, chosen)), dense(x)[[3, 0, 7]]
  )
  np.testing.assert_array_equal(stacks.take(dense(x), chosen)[2], dense(x)[7])


@pytest.mark.parametrize('n', [1, 5, N])
def test_chunks_do_not_matter(n):
  theta, x = parameters(), observations(n)
  found = compiled(lambda x: SMALL.outputs(theta, x))(x)
  expected = SMALL.pixel_outputs(theta, tf.constant(dense(x)))
  np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('n', [4, N])
@pytest.mark.parametrize('static', [True, False])
def test_products_are_those_of_the_dense_jacobian(n, static):
  theta, x = parameters(dtype=np.float64), observations(n)
  with tf.GradientTape() as tape:
    tape.watch(theta)
    outputs = SMALL.pixel_outputs(theta, tf.constant(dense(x)))
  jacobian = tape.jacobian(outputs, theta).numpy()
  rng = np.random.default_rng(3)
  v, u = tf.constant(rng.normal(size=theta.shape)), rng.normal(size=(n, 8))

  def products(x):
    linearized = SMALL.linearize(theta, x)
    return linearized.outputs, linearized.jvp(v), linearized.vjp(tf.constant(u))

  found = products(x) if static else compiled(products)(x)
  np.testing.assert_allclose(found[0], outputs, rtol=1e-12)
  np.testing.assert_allclose(found[1], jacobian @ v.numpy(), rtol=1e-9)
  np.testing.assert_allclose(
    found[2], np.einsum('nm,nmp->p', u, jacobian), rtol=1e-9
  )


def test_blocks_share_the_frames():
  x = observations()
  parts = blocks.split(x, 3)
  assert all(part.frames is x.frames for part in parts)
  np.testing.assert_array_equal(
    np.concatenate([part.rows for part in parts]), x.rows
  )


class Autodiff(categorical.CategoricalPolicy):
  """The same policy on pixels, without anything of this project's loops."""

  def outputs(self, theta, x):
    return self.network.pixel_outputs(theta, x)

  def linearize(self, theta, x):
    from trpo_tf.policies import linearization

    return linearization.linearize_autodiff(self.outputs, theta, x)


@pytest.mark.slow
@pytest.mark.parametrize('rows', [None, np.array([1, 4, 5, 9])])
def test_a_step_is_that_of_the_same_policy_on_pixels(rows):
  x, rng = observations(), np.random.default_rng(4)
  theta = parameters().numpy()
  settings = config.ExperimentConfig(
    trust_region=config.TrustRegionConfig(cg_iterations=5)
  )
  actions = rng.integers(0, 2, (N, 3)).astype(np.int32)
  taken = []
  for make, inputs in (
    (categorical.CategoricalPolicy, x),
    (Autodiff, tf.constant(dense(x))),
  ):
    policy = make(SMALL, (3, 3, 2))
    outputs = policy.outputs(tf.constant(theta), inputs)
    log_probs = policy.distribution(theta, outputs).log_prob(actions)
    data = surrogate.PathData(
      actions, log_probs.numpy(), np.linspace(-1, 1, N).astype(np.float32)
    )
    step = trust_region.make_step(
      policy, surrogate.importance_sampled, settings, N
    )
    taken.append(step(theta, inputs, data, rows))
  ours, expected = taken
  assert ours.status.name == expected.status.name == 'ACCEPTED'
  # float32 networks, five ill-conditioned steps of conjugate gradient
  np.testing.assert_allclose(ours.theta, expected.theta, atol=2e-5)
  assert ours.mean_kl == pytest.approx(expected.mean_kl, rel=1e-3)
  assert 0 < ours.mean_kl <= settings.trust_region.max_kl
  assert np.abs(ours.theta - theta).max() > 1e-3


def test_value_network_sees_frames():
  x = observations(40)
  settings = config.EstimatorConfig(
    value_hidden_sizes=(32,), value_minibatch=4, value_epochs=60
  )
  network = value_network.ValueNetwork(settings, SMALL)
  rng = np.random.default_rng(5)
  state = network.initial_state(rng)
  returns = 100 + 10 * dense(x)[:, 3, 3, 3].astype(float)
  t = np.zeros(40)
  first = network.fit(state, x, t, returns, np.random.default_rng(6))
  again = network.fit(state, x, t, returns, np.random.default_rng(6))
  np.testing.assert_array_equal(first.theta, again.theta)
  error = network.predict(first, x, t) - returns
  assert np.square(error).mean() < 0.1 * returns.var()
  # any number of observations and frames
  part = FrameStacks(x.frames[:5], np.minimum(x.rows[:7], 4))
  assert network.predict(first, part, t[:7]).shape == (7,)


def test_refuses_what_it_cannot_see():
  with pytest.raises(UserError, match='=2,2,2: .* nothing of 13 x .* fewer'):
    dataclasses.replace(SMALL, filters=(2, 2, 2))
  with pytest.raises(UserError, match='--conv_filters=: at least one'):
    dataclasses.replace(SMALL, filters=())
  with pytest.raises(UserError, match='vectors: take --baseline=value_network'):
    baselines.make_baseline(config.EstimatorConfig(baseline='linear'), SMALL)
