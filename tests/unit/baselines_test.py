"""Baselines against solutions in closed form; Adam against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from trpo_tf import config
from trpo_tf.estimation import baselines, value_network
from trpo_tf.policies import mlp


def rng(seed=0):
  return np.random.default_rng(seed)


def explained(baseline, state, x, timesteps, returns):
  predictions = baseline.predict(state, x, timesteps)
  return baselines.explained_variance(predictions, returns)


def test_none_predicts_zero():
  baseline = baselines.make_baseline(
    config.EstimatorConfig(baseline='none'), mlp.MLP(2, (), 1)
  )
  x, t, returns = np.ones((3, 2), np.float32), np.arange(3), np.ones(3)
  state, found = baselines.fit(
    baseline, baseline.initial_state(rng()), x, t, returns, rng()
  )
  np.testing.assert_array_equal(baseline.predict(state, x, t), 0)
  assert found.loss_after == 1
  assert np.isnan(found.explained_before)


def test_constant_returns_have_no_variance_to_explain():
  predictions = rng().normal(size=1000)
  for value in (0.0, 0.1, -1e9):
    returns = np.full(1000, value)  # whose variance may be 1e-34
    assert np.isnan(baselines.explained_variance(predictions, returns))


def test_time_is_the_mean_return_of_each_step():
  baseline = baselines.TimeBaseline()
  timesteps = np.array([0, 1, 3, 0, 1, 0])
  returns = np.array([3.0, 10, 7, 6, 20, 0])
  state = baseline.fit(
    baseline.initial_state(rng()), None, timesteps, returns, rng()
  )
  # Nothing was seen at step 2, nor after 3: each takes the one before.
  np.testing.assert_array_equal(
    baseline.predict(state, None, np.array([0, 1, 2, 3, 9])), [3, 15, 15, 7, 7]
  )


def test_linear_recovers_a_function_of_its_features():
  baseline = baselines.LinearBaseline(2, ridge=1e-12)
  x = rng().normal(size=(300, 2)).astype(np.float32)
  t = rng(1).integers(1000, size=300)
  wide = x.astype(np.float64)
  returns = 3 + 2 * wide[:, 0] - wide[:, 1] ** 2 + (t / 100) ** 3
  state, found = baselines.fit(
    baseline, baseline.initial_state(rng()), x, t, returns, rng()
  )
  # The returns reach 1000: the ridge moves them by 1e-12 of that, times the
  # conditioning of t, t^2, t^3.
  np.testing.assert_allclose(baseline.predict(state, x, t), returns, atol=1e-5)
  assert explained(baseline, state, x, t, returns) > 1 - 1e-12
  assert abs(found.explained_before) < 1e-12


def test_linear_clips_observations_and_survives_constant_ones():
  baseline = baselines.LinearBaseline(1)
  x = np.zeros((5, 1), np.float32)
  state = baseline.fit(
    baseline.initial_state(rng()), x, np.zeros(5, int), np.full(5, 7.0), rng()
  )
  assert np.isfinite(state.weights).all()
  state = state._replace(weights=np.array([1.0, 0, 0, 0, 0, 0]))
  assert baseline.predict(state, np.full((1, 1), 99.0), np.zeros(1)) == 10


def network(**kwargs):
  settings = config.EstimatorConfig(
    **{'value_hidden_sizes': (8,), 'value_minibatch': 16, **kwargs}
  )
  return value_network.ValueNetwork(settings, mlp.MLP(3, (), 1))


def batch(n=100):
  x = rng(3).normal(size=(n, 3)).astype(np.float32)
  return x, 50 + 20 * np.sin(x[:, 0].astype(float))


def test_rescaling_preserves_predictions():
  theta = rng().normal(size=20).astype(np.float32)
  h = rng(1).normal(size=(30, 4))
  old, new = (3.0, 2.0), (-40.0, 70.0)
  moved = value_network.rescale(theta, 4, old, new)
  np.testing.assert_array_equal(moved[:-5], theta[:-5])

  def predict(theta, statistics):
    w, b = theta[-5:-1].astype(float), float(theta[-1])
    return statistics[0] + statistics[1] * (h @ w + b)

  # Five float32 weights of at most 3, seen through a scale of 70.
  np.testing.assert_allclose(
    predict(moved, new), predict(theta, old), rtol=0, atol=5 * 3 * 70 * 6e-8
  )


def test_fit_moves_the_statistics_without_moving_predictions(monkeypatch):
  baseline = network()
  x, returns = batch()
  state = baseline.fit(baseline.initial_state(rng()), x, None, returns, rng())
  before = baseline.predict(state, x, None)
  # A fit of no Adam steps leaves what the statistics alone do.
  monkeypatch.setattr(
    value_network, '_minibatches', lambda *_: np.zeros((0, 16), np.int32)
  )
  moved = baseline.fit(state, x, None, 10 * returns, rng())
  assert moved.return_scale > 2 * state.return_scale
  assert np.abs(moved.theta - state.theta).max() > 0.1
  np.testing.assert_allclose(
    baseline.predict(moved, x, None), before, rtol=0, atol=1e-3
  )


def test_first_statistics_are_those_of_the_batch():
  baseline = network(value_epochs=1)
  x, returns = batch()
  state = baseline.fit(baseline.initial_state(rng()), x, None, returns, rng())
  assert state.return_mean == pytest.approx(returns.mean(), rel=1e-12)
  assert state.return_scale == pytest.approx(returns.std(), rel=1e-9)


def test_equal_returns_at_first_do_no_harm():
  """Their scale of 1e-6 would blow up the random weights, and Adam with it."""
  baseline = network(value_epochs=20, value_learning_rate=0.01)
  x, returns = batch()
  for equal in (0.0, 1000.0):
    state = baseline.initial_state(rng())
    state = baseline.fit(state, x, None, np.full(100, equal), rng())
    np.testing.assert_allclose(
      baseline.predict(state, x, None), equal, atol=1e-3
    )
    for _ in range(10):
      state = baseline.fit(state, x, None, returns, rng())
    assert explained(baseline, state, x, None, returns) > 0.9


def test_adam_equals_numpy():
  gradients = rng().normal(size=(3, 10)).astype(np.float32)
  theta, m, v = rng(1).normal(size=10), np.zeros(10), np.zeros(10)
  ours = [tf.constant(a.astype(np.float32)) for a in (theta, m, v)]
  theta = ours[0].numpy().astype(float)
  for t, gradient in enumerate(gradients, start=1):
    ours = value_network.adam_step(
      *ours, tf.constant(gradient), np.float32(t), 0.01
    )
    g = gradient.astype(float)
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    theta = theta - 0.01 * (m / (1 - 0.9**t)) / (
      np.sqrt(v / (1 - 0.999**t)) + 1e-8
    )
    # 1 - 0.999^t in float32 has a relative error of 6e-8 / (0.001 t), half of
    # which reaches a step of 0.01.
    np.testing.assert_allclose(ours[0], theta, rtol=0, atol=3e-6)
    np.testing.assert_allclose(ours[1], m, rtol=0, atol=1e-6)


def test_one_adam_step_descends_the_squared_error():
  """A fit of one minibatch is one Adam step on the network's own gradient."""
  baseline = network(value_epochs=1, value_minibatch=100)
  x, returns = batch()
  state = baseline.initial_state(rng())
  result = baseline.fit(state, x, None, returns, rng())
  theta = tf.constant(
    value_network.rescale(
      state.theta, 8, (0, 1), (result.return_mean, result.return_scale)
    )
  )
  targets = (returns - result.return_mean) / result.return_scale
  with tf.GradientTape() as tape:
    tape.watch(theta)
    outputs = baseline.network.outputs(theta, tf.constant(x))[:, 0]
    loss = tf.reduce_mean((outputs - targets.astype(np.float32)) ** 2) / 2
  gradient = tape.gradient(loss, theta).numpy()
  assert result.adam_steps == 1
  np.testing.assert_allclose(
    result.first_moment, 0.1 * gradient, rtol=1e-3, atol=1e-7
  )


def test_learns_and_counts_its_steps():
  baseline = network(value_epochs=200, value_learning_rate=0.01)
  x, returns = batch()
  start = baseline.initial_state(rng())
  before = np.square(baseline.predict(start, x, None) - returns).mean()
  state, found = baselines.fit(baseline, start, x, None, returns, rng())
  assert state.adam_steps == 200 * (100 // 16)
  assert state.fits == 1
  assert explained(baseline, state, x, None, returns) > 0.9
  assert found.loss_after < 0.1 * returns.var() < before


@pytest.mark.parametrize('n', [5, 16, 100])
def test_minibatches_cover_each_epoch(n):
  rows = value_network._minibatches(rng(), n, 16, 3)
  per_epoch = max(1, n // 16)
  assert rows.shape == (3 * per_epoch, 16)
  for epoch in rows.reshape(3, -1):
    counts = np.bincount(epoch, minlength=n)
    if n < 16:
      assert counts.min() >= 16 // n
    else:
      assert counts.max() == 1


def test_padding_beyond_the_batch_is_never_read():
  baseline = network(value_epochs=1)
  x, returns = batch()
  start = baseline.initial_state(rng())
  alone = baseline.fit(start, x, None, returns, rng(7))
  compiled = baseline._fit

  def poisoned(theta, m, v, count, steps, x, targets, rows):
    x[100:], targets[100:], rows[steps:] = np.nan, np.nan, 4000
    return compiled(theta, m, v, count, steps, x, targets, rows)

  baseline._fit = poisoned
  again = baseline.fit(start, x, None, returns, rng(7))
  np.testing.assert_array_equal(again.theta, alone.theta)


def test_fit_is_a_function_of_its_arguments():
  x, returns = batch()
  start = network().initial_state(rng())
  kept = start.theta.copy()
  first, second = (
    network().fit(start, x, None, returns, rng(7)) for _ in range(2)
  )
  for a, b in zip(first, second, strict=True):
    np.testing.assert_array_equal(a, b)
  np.testing.assert_array_equal(start.theta, kept)
  other = network().fit(start, x, None, returns, rng(8))
  assert (other.theta != first.theta).any()
