"""The convolutional network against SciPy and dense Jacobians."""

import dataclasses

import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from trpo_tf import config
from trpo_tf.distributed import stages as stages_lib
from trpo_tf.errors import UserError
from trpo_tf.estimation import baselines, surrogate, value_network
from trpo_tf.optim import blocks, fisher, problem, trust_region
from trpo_tf.policies import (
  categorical,
  chunks,
  conv,
  gaussian,
  linearization,
  mlp,
  stacks,
)
from trpo_tf.policies.stacks import FrameStacks

SMALL = conv.ConvNet((13, 12, 4), (3, 2), (5,), 8)
N, F = 13, 9


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch):
  monkeypatch.setattr(chunks, '_CHUNK', 5)


def parameters(network=SMALL, dtype=np.float32, seed=0):
  rng = np.random.default_rng(seed)
  theta = network.initial_parameters(rng, 1.0).astype(dtype)
  return tf.constant(theta + rng.normal(0, 0.05, theta.shape).astype(dtype))


def observations(n=N, seed=1):
  rng = np.random.default_rng(seed)
  frames = rng.integers(0, 256, (F, 13, 12)).astype(np.uint8)
  frames[0] = 0
  rows = rng.integers(0, F, (n, 4)).astype(np.int32)
  return of_frames(frames, rows)


def of_frames(frames, rows):
  return FrameStacks(tf.constant(stacks.tiled(frames)), tf.constant(rows))


def of_pixels(pixels):
  """FrameStacks of pixels [N, H, W, 4]."""
  frames = np.moveaxis(pixels, -1, 1).reshape(-1, *pixels.shape[1:3])
  rows = np.arange(len(frames), dtype=np.int32).reshape(-1, 4)
  return of_frames(frames, rows)


def dense(x):
  """uint8 [N, 2Y, 2X, 4] by NumPy, of frames [F, Y, X] of cells."""
  F, Y, X = x.frames.shape
  cells = x.frames.numpy().view(np.uint8).reshape(F, Y, X, 2, 2)
  frames = cells.swapaxes(2, 3).reshape(F, 2 * Y, 2 * X)
  return np.moveaxis(frames[x.rows.numpy()], 1, -1)


def plain_outputs(network, theta, pixels):
  """Runs the network on pixels [N, H, W, 4], without chunks and cells."""
  h = tf.cast(pixels, theta.dtype) / 255
  for filters in network.filters:
    size = 16 * h.shape[3] * filters
    kernel = tf.reshape(theta[:size], [4, 4, -1, filters])
    convolved = tf.nn.conv2d(h, kernel, 2, 'VALID')
    activation, _ = mlp.ACTIVATIONS[network.activation]
    h = activation(convolved + theta[size : size + filters])
    theta = theta[size + filters :]
  return network.head.outputs(
    theta, tf.reshape(h, [-1, network.head.input_size])
  )


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
  found = network.outputs(theta, of_pixels(pixels))
  np.testing.assert_allclose(found, expected, atol=2e-6)


def test_initial_kernels_are_orthogonal():
  theta = SMALL.initial_parameters(np.random.default_rng(0), 0.01)
  rows, columns = SMALL.layer_shapes[0]
  kernel = theta[: (rows - 1) * columns].reshape(-1, columns)
  np.testing.assert_allclose(kernel.T @ kernel, 2 * np.eye(columns), atol=1e-6)
  last = SMALL.layer_shapes[-1]
  output = theta[-last[0] * last[1] : -last[1]]
  assert np.abs(output).max() <= 0.01 and not theta[-last[1] :].any()


@pytest.mark.parametrize('height, width', [(6, 8), (7, 8), (6, 9), (13, 11)])
def test_cells_are_the_pixels_of_the_rows(height, width):
  rng = np.random.default_rng(1)
  frames = rng.integers(0, 256, (F, height, width)).astype(np.uint8)
  rows = rng.integers(0, F, (N, 4)).astype(np.int32)
  x = of_frames(frames, rows)
  found = stacks.cells(x).numpy()
  assert found.shape == (N, height // 2, width // 2, 16)
  for frame, row, column in np.ndindex(4, 2, 2):
    expected = frames[rows[:, frame], row::2, column::2]
    expected = expected[:, : height // 2, : width // 2]
    channel = 4 * frame + 2 * row + column
    np.testing.assert_array_equal(found[..., channel], expected)
  chosen = tf.constant([3, 0, 7])
  np.testing.assert_array_equal(
    stacks.cells(stacks.take(x, chosen)), found[[3, 0, 7]]
  )
  np.testing.assert_array_equal(stacks.take(found, chosen)[2], found[7])


@pytest.mark.parametrize('n', [1, 5, N])
def test_chunks_do_not_matter(n):
  theta, x = parameters(), observations(n)
  found = compiled(lambda x: SMALL.outputs(theta, x))(x)
  expected = plain_outputs(SMALL, theta, dense(x))
  np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('n', [4, N])
@pytest.mark.parametrize('static', [True, False])
@pytest.mark.parametrize('keep', [True, False])
@pytest.mark.parametrize('activation', ['tanh', 'softplus', 'relu'])
def test_products_are_those_of_the_dense_jacobian(n, static, keep, activation):
  theta, x = parameters(dtype=np.float64), observations(n)
  network = dataclasses.replace(SMALL, activation=activation)
  with tf.GradientTape() as tape:
    tape.watch(theta)
    outputs = plain_outputs(network, theta, dense(x))
  jacobian = tape.jacobian(outputs, theta).numpy()
  rng = np.random.default_rng(3)
  v, u = tf.constant(rng.normal(size=theta.shape)), rng.normal(size=(n, 8))

  def products(x):
    linearized = network.linearize(theta, x, keep)
    return linearized.outputs, linearized.jvp(v), linearized.vjp(tf.constant(u))

  found = products(x) if static else compiled(products)(x)
  np.testing.assert_allclose(found[0], outputs, rtol=1e-12)
  np.testing.assert_allclose(found[1], jacobian @ v.numpy(), rtol=1e-9)
  np.testing.assert_allclose(
    found[2], np.einsum('nm,nmp->p', u, jacobian), rtol=1e-9
  )


@pytest.mark.parametrize('keep', [True, False])
def test_assembled_observations_give_the_same_bytes(keep):
  x, theta = observations(), parameters()
  cells = stacks.assembled(x, N)
  assert cells.dtype == tf.uint8 and cells.shape == (N, 6, 6, 16)
  v = parameters(seed=5)
  found = []
  for given in (x, cells):
    linearized = SMALL.linearize(theta, given, keep)
    u = linearized.jvp(v)
    found.append((linearized.outputs, u, linearized.vjp(u)))
  for a, b in zip(*found, strict=True):
    assert a.numpy().tobytes() == b.numpy().tobytes()
  of_some = stacks.rows(cells, 3, 7)
  np.testing.assert_array_equal(of_some, stacks.cells(stacks.rows(x, 3, 7)))


def test_only_what_fits_is_assembled():
  x = observations()
  most = stacks.ASSEMBLED_BYTES // (6 * 6 * 16)
  assert stacks.assembled(x, most) is not x
  assert stacks.assembled(x, most + 1) is x
  vectors = np.zeros((3, 2))
  assert stacks.assembled(vectors, 3) is vectors


@pytest.mark.parametrize('n', [4, N])
def test_one_pass_gives_outputs_product_and_sums(n):
  theta, x = parameters(dtype=np.float64), observations(n)
  scale = tf.constant(np.random.default_rng(3).normal(size=(n, 8)))

  def cotangent(outputs, cut):
    u = cut(scale) * outputs
    return u, (tf.reduce_sum(u), tf.shape(outputs)[0])

  start = tf.zeros([], tf.float64), tf.constant(0)
  linearized = SMALL.linearize(theta, x)
  outputs, product, (total, count) = compiled(
    lambda x: SMALL.linearize(theta, x).pullback(cotangent, start)
  )(x)
  np.testing.assert_allclose(outputs, linearized.outputs, rtol=1e-12)
  u = scale * linearized.outputs
  np.testing.assert_allclose(product, linearized.vjp(u), rtol=1e-9, atol=1e-12)
  assert total.numpy() == pytest.approx(np.sum(u)) and count == n


def test_a_gaussian_policy_keeps_the_one_pass():
  policy = gaussian.GaussianPolicy(SMALL, -0.5)
  theta = np.append(parameters(dtype=np.float64), np.zeros(8))
  linearized = policy.linearize(tf.constant(theta), observations())
  outputs, product, _ = linearized.pullback(lambda y, cut: (y, ()), ())
  np.testing.assert_allclose(outputs, linearized.outputs, rtol=1e-12)
  expected = linearized.vjp(linearized.outputs)
  np.testing.assert_allclose(product, expected, rtol=1e-9, atol=1e-12)
  assert len(product) == policy.num_parameters


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
    return plain_outputs(self.network, theta, x)

  def linearize(self, theta, x, keep=False):
    del keep
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


def test_a_step_in_stages_keeps_the_activations():
  theta, x, rng = parameters(), observations(), np.random.default_rng(7)
  rows = np.array([0, 2, 3, 5, 8, 9, 12])
  policy = categorical.CategoricalPolicy(SMALL, (3, 3, 2))
  actions = rng.integers(0, 2, (N, 3)).astype(np.int32)
  log_probs = policy.distribution(theta, policy.outputs(theta, x))
  data = surrogate.PathData(
    actions,
    log_probs.log_prob(actions).numpy(),
    rng.normal(size=N).astype(np.float32),
  )
  in_stages = stages_lib.ProblemStages(
    policy, surrogate.importance_sampled, fisher.analytic, N, 0.5
  )
  (before, gradient, _), kept = in_stages.begin(theta, x, data, rows)
  v = rng.normal(size=theta.shape)
  pixels = Autodiff(SMALL, (3, 3, 2))
  plain = problem.make_problem(
    pixels,
    surrogate.importance_sampled,
    theta,
    tf.constant(dense(x)),
    tf.nest.map_structure(tf.constant, data),
    fisher_rows=tf.constant(rows),
  )
  # float32 networks
  np.testing.assert_allclose(before, plain.surrogate, atol=1e-6)
  np.testing.assert_allclose(gradient, plain.gradient, atol=1e-5)
  for _ in range(2):
    (found,) = in_stages.finish('product', kept, v)
    np.testing.assert_allclose(found, plain.products()(v), atol=1e-5)


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
