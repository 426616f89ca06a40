"""Invariants of the vine's objectives, and its Q-values by a slow loop."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trpo_tf.estimation import surrogate, vine
from trpo_tf.methods import surrogate_data
from trpo_tf.policies import categorical, gaussian, mlp
from trpo_tf.sampling.batch import End

LIMITS = hypothesis.settings(
  max_examples=30, deadline=None, derandomize=True, database=None
)
N, K, A = 5, 4, 2
KINDS = st.sampled_from(['gaussian', 'factored'])
EPS = np.finfo(np.float64).eps


def problem(seed, kind, spread=1.0):
  """A policy, old and new theta, x, and data sampled from the old policy."""
  rng = np.random.default_rng(seed)
  if kind == 'gaussian':
    policy = gaussian.GaussianPolicy(mlp.MLP(3, (4,), A))
  else:
    policy = categorical.CategoricalPolicy(mlp.MLP(3, (4,), 5), (3, 2))
  old = 0.5 * rng.normal(size=policy.num_parameters)
  new = old + 0.3 * rng.normal(size=old.size)
  x = rng.normal(size=(N, 3))
  sampler = distribution(policy, old, x)
  actions = sampler.sample(K, seed=(seed, 1))
  log_q = tf.transpose(sampler.log_prob(actions)).numpy()
  data = vine.VineData(
    tf.transpose(actions, [1, 0, 2]).numpy(),
    log_q,
    spread * rng.normal(size=(N, K)),
  )
  return policy, old, new, x, data


def distribution(policy, theta, x):
  outputs = policy.outputs(tf.constant(theta), tf.constant(x))
  return surrogate.distribution64(policy, theta, outputs)


def terms(objective, policy, theta, x, data):
  return objective(distribution(policy, theta, x), data).numpy()


def gradient(objective, policy, theta, x, data):
  theta = tf.constant(theta)
  with tf.GradientTape() as tape:
    tape.watch(theta)
    new = surrogate.distribution64(
      policy, theta, policy.outputs(theta, tf.constant(x))
    )
    value = tf.reduce_mean(objective(new, data))
  return tape.gradient(value, theta).numpy()


def shifted(data, constants):
  return data._replace(q_values=data.q_values + constants[:, np.newaxis])


CONSTANTS = arrays.arrays(np.float64, N, elements=st.floats(-1e3, 1e3))


@pytest.mark.slow
@LIMITS
@hypothesis.given(
  st.integers(0, 10**6),
  KINDS,
  CONSTANTS,
  st.sampled_from(['self_normalized', 'mean_baseline']),
)
def test_a_constant_per_state_changes_nothing(seed, kind, constants, name):
  policy, old, new, x, data = problem(seed, kind)
  objective = vine.OBJECTIVES[name]
  moved = shifted(data, constants)
  improvement, same = (
    terms(objective, policy, new, x, d) - terms(objective, policy, old, x, d)
    for d in (data, moved)
  )
  # Weights, that is ratios and their slopes, stay below 1e4: theta moves by
  # about 0.3 in each of some thirty coordinates. They multiply the rounding
  # of Q plus the constant.
  slack = 1e4 * EPS * (10 + np.abs(constants).max())
  np.testing.assert_allclose(same, improvement, rtol=0, atol=slack)
  for theta in (old, new):
    np.testing.assert_allclose(
      gradient(objective, policy, theta, x, moved),
      gradient(objective, policy, theta, x, data),
      rtol=0,
      atol=slack,
    )


@pytest.mark.slow
@LIMITS
@hypothesis.given(st.integers(0, 10**6), KINDS, st.floats(1, 100))
def test_importance_sampling_needs_a_baseline(seed, kind, constant):
  """A constant c adds c times the mean weight: 1 only in expectation."""
  policy, old, new, x, data = problem(seed, kind)
  moved = shifted(data, np.full(N, constant))
  of_one = data._replace(q_values=np.ones((N, K)))
  objective = vine.importance_sampled
  weight = terms(objective, policy, new, x, of_one)
  np.testing.assert_allclose(
    terms(objective, policy, new, x, moved),
    terms(objective, policy, new, x, data) + constant * weight,
    rtol=1e-10,
    atol=1e-10,
  )
  np.testing.assert_allclose(
    terms(objective, policy, old, x, of_one), 1, rtol=1e-12
  )
  assert np.abs(weight - 1).max() > 1e-6
  change = gradient(objective, policy, old, x, moved) - gradient(
    objective, policy, old, x, data
  )
  assert np.abs(change).max() > 1e-6


@pytest.mark.slow
@LIMITS
@hypothesis.given(
  st.integers(0, 10**6), KINDS, st.floats(-1e4, 1e4), st.floats(0, 300)
)
def test_self_normalized_is_a_weighted_mean(seed, kind, shift, extreme):
  """Of weights that sum to 1, whatever the scale of q."""
  policy, _, new, x, data = problem(seed, kind)
  data = data._replace(log_q=data.log_q * (1 + extreme))
  objective = vine.self_normalized
  ones = data._replace(q_values=np.ones((N, K)))
  np.testing.assert_allclose(
    terms(objective, policy, new, x, ones), 1, rtol=K * EPS
  )
  found = terms(objective, policy, new, x, data)
  q = data.q_values
  slack = 4 * K * EPS * np.abs(q).max()
  assert (found >= q.min(axis=1) - slack).all()
  assert (found <= q.max(axis=1) + slack).all()
  assert np.isfinite(gradient(objective, policy, new, x, data)).all()
  unnormalized = data._replace(log_q=data.log_q + shift)
  # log_q of up to about 1e4, so that rounding moves weights by 1e4 EPS or so.
  np.testing.assert_allclose(
    terms(objective, policy, new, x, unnormalized),
    found,
    rtol=0,
    atol=1e6 * EPS,
  )


@pytest.mark.slow
@LIMITS
@hypothesis.given(
  st.integers(0, 10**6),
  KINDS,
  st.permutations(range(K)),
  st.sampled_from(list(vine.OBJECTIVES)),
)
def test_the_order_of_actions_is_free(seed, kind, order, name):
  policy, _, new, x, data = problem(seed, kind)
  reordered = vine.VineData(*(field[:, list(order)] for field in data))
  np.testing.assert_allclose(
    terms(vine.OBJECTIVES[name], policy, new, x, reordered),
    terms(vine.OBJECTIVES[name], policy, new, x, data),
    rtol=1e-12,
    atol=1e-12,
  )


@pytest.mark.slow
@LIMITS
@hypothesis.given(
  st.integers(0, 10**6),
  KINDS,
  st.integers(0, N - 1),
  st.sampled_from(list(vine.OBJECTIVES)),
)
def test_states_do_not_mix(seed, kind, row, name):
  policy, _, new, x, data = problem(seed, kind)
  alone = vine.VineData(*(field[row : row + 1] for field in data))
  whole = terms(vine.OBJECTIVES[name], policy, new, x, data)
  np.testing.assert_allclose(
    terms(vine.OBJECTIVES[name], policy, new, x[row : row + 1], alone),
    whole[row : row + 1],
    rtol=1e-12,
    atol=1e-13,
  )


@pytest.mark.slow
@LIMITS
@hypothesis.given(st.integers(0, 10**6), KINDS)
def test_mean_baseline_has_the_gradient_of_self_normalized_at_theta_old(
  seed, kind
):
  policy, old, new, x, data = problem(seed, kind)
  at_old, at_new = (
    [
      gradient(f, policy, theta, x, data)
      for f in (vine.mean_baseline, vine.self_normalized)
    ]
    for theta in (old, new)
  )
  np.testing.assert_allclose(*at_old, rtol=1e-10, atol=1e-12)
  assert np.abs(at_new[0] - at_new[1]).max() > 1e-9


# --- Q-values ---


def slow_q_values(returns, lengths, ends, final_values, gamma):
  """By the definition, a branch at a time."""
  states, actions, sequences = returns.shape
  q, valid = np.zeros((states, actions)), np.zeros(states, bool)
  for n in range(states):
    usable = []
    for m in range(sequences):
      failed = any(int(ends[n, k, m]) & 4 for k in range(actions))
      if not failed:
        usable.append(m)
    valid[n] = bool(usable)
    for k in range(actions):
      total = 0.0
      for m in usable:
        total += returns[n, k, m]
        terminated = int(ends[n, k, m]) & 1
        if final_values is not None and not terminated:
          discount = 1.0
          for _ in range(lengths[n, k, m]):
            discount *= gamma
          total += discount * final_values[n, k, m]
      if usable:
        q[n, k] = total / len(usable)
  return q, valid


@st.composite
def branches(draw):
  shape = draw(arrays.array_shapes(min_dims=3, max_dims=3, max_side=4))
  numbers = st.floats(-100, 100)
  returns = draw(arrays.arrays(np.float64, shape, elements=numbers))
  lengths = draw(arrays.arrays(np.int32, shape, elements=st.integers(1, 50)))
  # Failures not so often that every noise sequence has one.
  ends = st.sampled_from([0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6])
  ends = draw(arrays.arrays(np.uint8, shape, elements=ends))
  values = draw(arrays.arrays(np.float64, shape, elements=numbers))
  gamma = draw(st.sampled_from([0.0, 0.5, 0.99, 1.0]))
  return returns, lengths, ends, values if draw(st.booleans()) else None, gamma


@hypothesis.settings(LIMITS, max_examples=200)
@hypothesis.given(branches())
def test_q_values_against_the_definition(case):
  q, valid = vine.q_values(*case)
  expected, expected_valid = slow_q_values(*case)
  assert q.dtype == np.float64 and valid.dtype == bool
  np.testing.assert_array_equal(valid, expected_valid)
  # Sums of at most four terms up to 200, powers by 50 products.
  np.testing.assert_allclose(q, expected, rtol=0, atol=100 * 200 * EPS)


@hypothesis.settings(LIMITS, max_examples=100)
@hypothesis.given(branches())
def test_what_a_broken_branch_holds_is_never_seen(case):
  """Nor V after a termination, nor the partners of a failed branch."""
  returns, lengths, ends, values, gamma = case
  failed = (ends & End.DIVERGED) != 0
  masked = np.broadcast_to(failed.any(axis=1, keepdims=True), ends.shape)
  poisoned = np.where(masked, np.nan, returns)
  if values is not None:
    gone = masked | ((ends & End.TERMINATED) != 0)
    values = np.where(gone, np.nan, values)
  found, _ = vine.q_values(poisoned, lengths, ends, values, gamma)
  np.testing.assert_array_equal(found, vine.q_values(*case)[0])


T, X, D = End.TERMINATED, End.TRUNCATED, End.DIVERGED


@pytest.mark.parametrize(
  'ends, expected, valid',
  [
    # Returns 1, 2 | 4, 8; V = 16, lengths 1 and gamma 1/2: a cut adds 8.
    ([[0, 0], [0, 0]], [9.5, 14], True),
    ([[X, 0], [T, X | T]], [9.5, 6], True),
    ([[T, D], [X, 0]], [1, 12], True),
    ([[D, 0], [0, T]], [10, 8], True),
    ([[D, 0], [0, D]], [0, 0], False),
  ],
)
def test_q_values_by_hand(ends, expected, valid):
  q, found = vine.q_values(
    np.array([[[1.0, 2.0], [4.0, 8.0]]]),
    np.ones((1, 2, 2), int),
    np.array([ends], np.uint8),
    np.full((1, 2, 2), 16.0),
    0.5,
  )
  np.testing.assert_array_equal(q, [expected])
  np.testing.assert_array_equal(found, [valid])


# --- scale ---


def scaled_q(q):
  """Q [N, K] of a rollout set as a learner scales it."""
  given = surrogate_data.SurrogateData(None, vine.VineData(None, None, q), q)
  over = surrogate_data.spread(given, q)
  return surrogate_data.scaled(given, over).data.q_values


NUMBERS = arrays.arrays(
  np.float64, (3, 4), elements=st.floats(-1e3, 1e3, width=32)
)


@LIMITS
@hypothesis.given(NUMBERS, st.sampled_from([1e-8, 0.3, 1.0, 1e8]))
def test_scaled_has_a_spread_of_one_whatever_the_unit(q, unit):
  hypothesis.assume(q.std(axis=1).mean() > 1e-6 * np.abs(q).max())
  found = scaled_q(unit * q)
  np.testing.assert_allclose(
    np.mean([np.std(row) for row in found]), 1, rtol=1e-8
  )
  np.testing.assert_allclose(found, scaled_q(q), rtol=1e-8)
  # One factor for all, positive: the states keep their relative weight.
  factor = np.mean([np.std(row) for row in q])
  np.testing.assert_allclose(found * factor, q, rtol=1e-8)


@LIMITS
@hypothesis.given(
  arrays.arrays(np.float64, (3, 1), elements=st.floats(-1e9, 1e9)),
  st.integers(1, 16),
)
def test_scaled_leaves_alone_what_does_not_depend_on_the_action(q, k):
  """Rounding makes the deviation of equal numbers a tiny one, not zero."""
  q = np.repeat(q, k, axis=1)
  np.testing.assert_array_equal(scaled_q(q), q)


@pytest.mark.parametrize('value', [0.0, 0.1, -1e9])
def test_scaled_of_one_number(value):
  q = np.full((5, 3), value)
  np.testing.assert_array_equal(scaled_q(q), q)
