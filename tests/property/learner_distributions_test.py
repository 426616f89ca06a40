"""Invariants of the action distributions and of GAE."""

import hypothesis
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trpo_tf.estimation import returns
from trpo_tf.policies import categorical, mlp

LIMITS = hypothesis.settings(
  max_examples=30, deadline=None, derandomize=True, database=None
)
LOGITS = arrays.arrays(np.float64, (2, 8), elements=st.floats(-50, 50))
FACTORS = st.sampled_from([(8,), (3, 3, 2), (1, 7), (2, 2, 2, 2)])


@LIMITS
@hypothesis.given(LOGITS, FACTORS, st.floats(-20, 20))
def test_factored_categorical(logits, factors, shift):
  policy = categorical.CategoricalPolicy(mlp.MLP(1, (), 8), factors)
  p, q, moved = (
    policy.distribution(None, tf.constant(row[np.newaxis]))
    for row in (logits[0], logits[1], logits[0] + shift)
  )
  kl = tfp.distributions.kl_divergence(p, q).numpy()
  # Sums of at most 8 terms up to 200.
  slack = 8 * 200 * 2.3e-16
  assert np.isfinite(kl).all() and (kl >= -slack).all()
  assert abs(tfp.distributions.kl_divergence(p, moved).numpy()[0]) <= slack
  entropy = p.entropy().numpy()[0]
  assert -slack <= entropy <= np.log(factors).sum() + slack
  every = np.stack(np.meshgrid(*map(np.arange, factors)), -1)
  every = every.reshape(-1, 1, len(factors)).astype(np.int32)
  total = np.exp(p.log_prob(every).numpy()).sum()
  np.testing.assert_allclose(total, 1, rtol=0, atol=1e-12)


@LIMITS
@hypothesis.given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_gae_of_the_true_value_function_is_zero(seed, gamma, lam):
  """With rewards that V explains exactly, every advantage vanishes."""
  rng = np.random.default_rng(seed)
  shape = (3, 12)
  values, boundary = rng.normal(size=(2, *shape))
  last = rng.normal(size=3)
  ends = rng.choice([0, 1, 2, 3, 4], p=[0.6, 0.1, 0.1, 0.1, 0.1], size=shape)
  following = np.concatenate([values[:, 1:], last[:, np.newaxis]], axis=1)
  following = np.where(ends == 0, following, np.where(ends == 2, boundary, 0))
  rewards = values - gamma * following
  advantages, targets = returns.gae(
    rewards, ends, np.full(3, 12), values, boundary, last, gamma, lam
  )
  np.testing.assert_allclose(advantages, 0, rtol=0, atol=1e-13)
  np.testing.assert_allclose(targets, values, rtol=0, atol=1e-13)
