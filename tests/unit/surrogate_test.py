"""Surrogate, its gradient and the consistency check."""

import numpy as np
import tensorflow as tf
from scipy import special

from trpo_tf.estimation import surrogate
from trpo_tf.optim import fisher
from trpo_tf.policies import categorical, gaussian, mlp

N = 40


def problem():
  rng = np.random.default_rng(0)
  policy = gaussian.GaussianPolicy(mlp.MLP(3, (4,), 2))
  theta = rng.normal(size=policy.num_parameters) * 0.3
  x = rng.normal(size=(N, 3))
  data = surrogate.PathData(
    rng.normal(size=(N, 2)), rng.normal(size=N) - 3, rng.normal(size=N)
  )
  return policy, tf.constant(theta), tf.constant(x), data


def value(policy, theta, x, data):
  mean = policy.outputs(theta, x)
  log_std = theta[-2:]
  z = (data.actions - mean) / tf.exp(log_std)
  log_prob = tf.reduce_sum(
    -z * z / 2 - log_std - 0.5 * np.log(2 * np.pi), axis=1
  )
  return tf.reduce_mean(tf.exp(log_prob - data.log_probs) * data.advantages)


def test_value_and_gradient_against_the_formula():
  policy, theta, x, data = problem()
  with tf.GradientTape() as tape:
    tape.watch(theta)
    expected = value(policy, theta, x, data)
  linearized = fisher.linearize(policy, theta, x, 3)
  result, by_outputs, direct = surrogate.output_gradient(
    policy, surrogate.importance_sampled, data, theta, linearized.outputs
  )
  np.testing.assert_allclose(result, expected, rtol=1e-12)
  np.testing.assert_allclose(
    fisher.vjp(linearized, by_outputs) + direct,
    tape.gradient(expected, theta),
    rtol=1e-10,
    atol=1e-13,
  )


def recorded():
  policy, theta, x, data = problem()
  theta, x = tf.cast(theta, tf.float32), tf.cast(x, tf.float32)
  outputs = policy.outputs(theta, x)
  log_probs = policy.distribution(theta, outputs).log_prob(
    data.actions.astype(np.float32)
  )
  return policy, theta, x, data.actions, outputs.numpy(), log_probs.numpy()


def test_a_faithful_sampler_is_consistent():
  result = surrogate.check_consistency(*recorded())
  assert result.outputs_error == 0
  # Log probabilities below 100 in float32.
  assert result.log_probs_error < 100 * 1.2e-7


def test_the_worst_rows_are_named():
  *rest, outputs, log_probs = recorded()
  outputs[17, 1] += 0.5
  log_probs[[3, 21]] -= [0.25, 0.125]
  result = surrogate.check_consistency(*rest, outputs, log_probs)
  assert (result.outputs_row, result.log_probs_row) == (17, 3)
  np.testing.assert_allclose(
    [result.outputs_error, result.log_probs_error], [0.5, 0.25], rtol=1e-4
  )


def test_a_nan_is_the_worst():
  *rest, outputs, log_probs = recorded()
  outputs[5], outputs[9, 0] = 1e9, np.nan
  result = surrogate.check_consistency(*rest, outputs, log_probs)
  assert np.isnan(result.outputs_error) and result.outputs_row == 9


def test_small_deviations_magnify_the_rounding_of_outputs():
  """A deviation of e^-14 turns the last bits of a mean into nats."""
  policy, theta, x, *_ = recorded()
  theta = np.append(theta[:-2], np.full(2, -14, np.float32))
  outputs = policy.outputs(theta, x).numpy()
  rng = np.random.default_rng(1)
  for error, explained in ((2e-7, True), (1e-4, False)):
    sampled = outputs + error * np.sign(outputs)
    deviations = np.exp(theta[-2:]).astype(np.float64)
    actions = sampled + deviations * rng.normal(size=outputs.shape)
    distribution = surrogate.distribution64(policy, theta, sampled)
    log_probs = distribution.log_prob(actions).numpy()
    batch = policy, theta, x, actions, sampled, log_probs
    assert surrogate.check_consistency(*batch).log_probs_error > 0.1
    left = surrogate.check_consistency(*batch, rounding=True).log_probs_error
    assert (left < 1e-3) == explained


def test_the_entropy_of_a_gaussian_adds_its_closed_form():
  policy, theta, x, data = problem()
  outputs = policy.outputs(theta, x)
  plain, by_outputs, direct = surrogate.output_gradient(
    policy, surrogate.importance_sampled, data, theta, outputs
  )
  objective = surrogate.with_entropy(surrogate.importance_sampled, 0.3)
  total, total_by_outputs, total_direct = surrogate.output_gradient(
    policy, objective, data, theta, outputs
  )
  entropy = np.sum(theta[-2:] + 0.5 * np.log(2 * np.pi * np.e))
  np.testing.assert_allclose(total - plain, 0.3 * entropy, rtol=1e-12)
  # the entropy depends on log_std alone, with a derivative of 1 in each
  np.testing.assert_array_equal(total_by_outputs, by_outputs)
  expected = np.append(np.zeros(len(theta) - 2), [0.3, 0.3])
  np.testing.assert_allclose(total_direct - direct, expected, atol=1e-12)


def test_the_entropy_of_factors_adds_its_closed_form():
  sizes = (3, 2)  # the second is padded to three
  policy = categorical.CategoricalPolicy(mlp.MLP(3, (4,), sum(sizes)), sizes)
  rng = np.random.default_rng(1)
  theta = tf.constant(rng.normal(size=policy.num_parameters))
  logits = tf.constant(rng.normal(size=(N, sum(sizes))))
  actions = np.stack([rng.integers(n, size=N) for n in sizes], 1)
  data = surrogate.PathData(
    actions.astype(np.int32), rng.normal(size=N) - 2, np.zeros(N)
  )
  objective = surrogate.with_entropy(surrogate.importance_sampled, 0.5)
  total, by_outputs, _ = surrogate.output_gradient(
    policy, objective, data, theta, logits
  )
  entropy, gradients = 0, []
  for part in np.split(logits.numpy(), [3], axis=1):
    log_p = part - special.logsumexp(part, axis=1, keepdims=True)
    p = np.exp(log_p)
    of_factor = -np.sum(p * log_p, axis=1, keepdims=True)
    entropy += of_factor.mean()
    gradients.append(-p * (log_p + of_factor) / N)
  np.testing.assert_allclose(total, 0.5 * entropy, rtol=1e-12)
  np.testing.assert_allclose(
    by_outputs, 0.5 * np.hstack(gradients), rtol=1e-9, atol=1e-15
  )
