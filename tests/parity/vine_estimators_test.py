"""The vine's objectives against exact theory, on an enumerable MDP.

An expectation over the sampled actions is a finite sum over all of them, so
bias is computed, not estimated. The exact objective is the finite-horizon one:
undiscounted occupancy of pi_old, Q to the horizon.
"""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import tabular
import tensorflow as tf

from trpo_tf import config
from trpo_tf.estimation import surrogate, vine
from trpo_tf.optim import trust_region
from trpo_tf.optim.step import StepStatus
from trpo_tf.policies import categorical, gaussian, mlp

S, A = 4, 3
POLICY = categorical.CategoricalPolicy(mlp.MLP(S, (), A), (A,))
# Rounding of sums of at most 1e5 float64 terms of order 1, and far below any
# bias that a wrong formula makes.
EXACT = 1e-10


class World(NamedTuple):
  """An MDP, two policies on it, and pi_old's visits and Q.

  Attributes:
    mdp: the MDP.
    old, new: [P] parameters of pi_old and of another policy.
    pi_old, pi_new: [S, A].
    visits: [H, S] share of the visited states, sums to 1.
    q, variance: [H, S, A] of the return to the horizon.
  """

  mdp: tabular.MDP
  old: np.ndarray
  new: np.ndarray
  pi_old: np.ndarray
  pi_new: np.ndarray
  visits: np.ndarray
  q: np.ndarray
  variance: np.ndarray


@functools.cache
def world(gamma=0.9):
  rng = np.random.default_rng(0)
  mdp = tabular.random_mdp(rng, S, A, gamma=gamma)
  old = rng.normal(size=POLICY.num_parameters)
  new = old + 0.3 * rng.normal(size=old.size)
  pi_old, pi_new = (tabular.softmax_table(theta, S) for theta in (old, new))
  visits = tabular.occupancy(mdp, pi_old)
  return World(
    mdp,
    old,
    new,
    pi_old,
    pi_new,
    visits / visits.sum(),
    *tabular.moments(mdp, pi_old),
  )


def proposal(name):
  """A table q [S, A] that the actions are drawn from."""
  return {
    'pi_old': world().pi_old,
    'uniform': np.full((S, A), 1 / A),
    'skewed': np.random.default_rng(5).dirichlet(np.full(A, 5.0), size=S),
  }[name]


def exact(theta):
  """The exact objective at theta and its gradient."""
  w = world()
  pi = tabular.softmax_table(theta, S)
  return (
    tabular.surrogate(w.visits, pi, w.q),
    tabular.surrogate_gradient(w.visits, pi, w.q),
  )


def tuples(k):
  """Every ordered draw of k actions, once each."""
  draws = np.array(list(itertools.product(range(A), repeat=k)))
  return draws, np.ones(len(draws))


def counts(k):
  """Every multiset of k actions, with the number of its orders."""
  draws, orders = [], []
  for n in itertools.product(range(k + 1), repeat=A - 1):
    if sum(n) <= k:
      n = (*n, k - sum(n))
      draws.append(np.repeat(np.arange(A), n))
      orders.append(math.factorial(k) / math.prod(map(math.factorial, n)))
  return np.array(draws), np.array(orders)


def enumerated(q_table, draws, orders):
  """All visits times all draws: one-hot x, VineData, probabilities."""
  w = world()
  t, s, c = (i.ravel() for i in np.indices((*w.visits.shape, len(draws))))
  actions = draws[c]
  log_q = np.log(q_table[s[:, np.newaxis], actions])
  q = w.q[t[:, np.newaxis], s[:, np.newaxis], actions]
  data = vine.VineData(actions[..., np.newaxis].astype(np.int32), log_q, q)
  weights = w.visits[t, s] * orders[c] * np.exp(log_q.sum(axis=1))
  return np.eye(S)[s], data, weights


def expectation(objective, theta, x, data, weights):
  """Weighted sum of the objective's terms, and its gradient in theta."""
  theta, data = tf.constant(theta), vine.VineData(*map(tf.constant, data))
  with tf.GradientTape() as tape:
    tape.watch(theta)
    outputs = POLICY.outputs(theta, tf.constant(x))
    new = surrogate.distribution64(POLICY, theta, outputs)
    value = tf.tensordot(weights, objective(new, data), 1)
  return value.numpy(), tape.gradient(value, theta).numpy()


def errors(found, expected):
  """Largest errors of value and gradient."""
  return (abs(found[0] - expected[0]), np.abs(found[1] - expected[1]).max())


# --- the oracle ---


def test_the_exact_gradient_at_theta_old_is_that_of_the_return():
  """So it is worth following: with gamma = 1, times the expected steps."""
  w = world(gamma=1.0)
  steps = tabular.occupancy(w.mdp, w.pi_old).sum()
  h, basis = 1e-4, np.eye(w.old.size)

  def value(theta):
    return tabular.expected_return(w.mdp, tabular.softmax_table(theta, S))

  slopes = [
    (value(w.old + h * e) - value(w.old - h * e)) / (2 * h) for e in basis
  ]
  gradient = tabular.surrogate_gradient(w.visits, w.pi_old, w.q)
  # Central differences err by h^2 / 6 times a third derivative of order 10.
  np.testing.assert_allclose(steps * gradient, slopes, rtol=0, atol=1e-7)


def test_the_draws_are_a_distribution():
  for name, (draws, orders) in itertools.product(
    ('pi_old', 'uniform', 'skewed'), (tuples(2), counts(4), counts(16))
  ):
    *_, weights = enumerated(proposal(name), draws, orders)
    assert weights.sum() == pytest.approx(1, rel=1e-12)


# --- bias, exactly ---


def unbiased_errors(objective, name, k):
  w = world()
  found = expectation(objective, w.new, *enumerated(proposal(name), *tuples(k)))
  return errors(found, exact(w.new))


@pytest.mark.parametrize('k', [1, 2, 4])
@pytest.mark.parametrize('name', ['pi_old', 'uniform', 'skewed'])
def test_importance_sampling_is_unbiased(name, k):
  assert max(unbiased_errors(vine.importance_sampled, name, k)) < EXACT


def every_action(order=(0, 1, 2)):
  """Each visit with the three actions once, in some order."""
  return enumerated(np.ones((S, A)), np.array([order]), np.ones(1))


@pytest.mark.parametrize('order', [(0, 1, 2), (2, 0, 1)])
def test_all_actions_is_the_exact_objective(order):
  w = world()
  found = expectation(vine.all_actions, w.new, *every_action(order))
  assert max(errors(found, exact(w.new))) < EXACT


def shrunk_gradient_error(objective, k):
  """From (1 - 1/K) times the exact gradient, at theta_old with q = pi_old."""
  w = world()
  draws = counts(k) if k > 4 else tuples(k)
  _, found = expectation(objective, w.old, *enumerated(w.pi_old, *draws))
  return np.abs(found - (1 - 1 / k) * exact(w.old)[1]).max()


@pytest.mark.parametrize('k', [2, 4, 16])
@pytest.mark.parametrize('name', ['self_normalized', 'mean_baseline'])
def test_gradient_at_theta_old_is_one_less_one_in_k_of_the_exact(name, k):
  assert shrunk_gradient_error(vine.OBJECTIVES[name], k) < EXACT


def test_self_normalized_is_unbiased_in_value_at_theta_old():
  w = world()
  data = enumerated(w.pi_old, *tuples(2))
  value, _ = expectation(vine.self_normalized, w.old, *data)
  assert value == pytest.approx(exact(w.old)[0], abs=EXACT)


@pytest.mark.parametrize('k', [2, 4])
@pytest.mark.parametrize('name', ['pi_old', 'uniform', 'skewed'])
def test_mean_baseline_is_one_less_one_in_k_of_the_improvement_on_q(name, k):
  """E w_i = 1 and E w_i Q_i = L, so E w_i Q_j = E_q Q for j != i."""
  w = world()
  found = expectation(
    vine.mean_baseline, w.new, *enumerated(proposal(name), *tuples(k))
  )
  value, gradient = exact(w.new)
  at_q = tabular.surrogate(w.visits, proposal(name), w.q)
  expected = (1 - 1 / k) * (value - at_q), (1 - 1 / k) * gradient
  assert max(errors(found, expected)) < EXACT


@pytest.mark.slow
@pytest.mark.parametrize('name', ['pi_old', 'uniform'])
def test_self_normalized_is_consistent(name):
  """Its bias at theta != theta_old is c / K + O(1 / K^2) with a known c."""
  w, q = world(), proposal(name)
  ratio = w.pi_new / q
  centred = w.q - np.einsum('sa,tsa->ts', w.pi_new, w.q)[..., np.newaxis]
  c = -np.einsum('ts,sa,sa,tsa->', w.visits, q, ratio**2, centred)
  value, gradient = exact(w.new)
  values, gradients = {}, {}
  for k in (4, 16, 64):
    found = expectation(vine.self_normalized, w.new, *enumerated(q, *counts(k)))
    values[k] = abs(k * (found[0] - value) - c)
    gradients[k] = np.abs(found[1] - gradient).max()
  assert abs(c) > 1e-2  # Or there is no bias to speak of.
  # Four times the actions leave a quarter, but for terms of the next order:
  # relative to the leading one they are of order 1 / K.
  for k in (16, 64):
    assert values[k] < values[k // 4] / 4 * (1 + 8 / k)
    assert gradients[k] == pytest.approx(gradients[k // 4] / 4, rel=8 / k)


# --- wrong formulas do not pass the bars above ---


def _parts(distribution, data):
  log_pi = tf.stack(
    [
      distribution.log_prob(data.actions[:, k])
      for k in range(data.actions.shape[1])
    ],
    axis=1,
  )
  return tf.exp(log_pi), tf.exp(log_pi - data.log_q), data.q_values


def no_division_by_q(distribution, data):
  pi, _, q = _parts(distribution, data)
  return tf.reduce_mean(pi * q, axis=1)


def sum_over_k(distribution, data):
  _, w, q = _parts(distribution, data)
  return tf.reduce_sum(w * q, axis=1)


def mean_over_others(distribution, data):
  _, w, q = _parts(distribution, data)
  k = tf.cast(tf.shape(q)[1], tf.float64)
  return tf.reduce_sum(w * q, axis=1) / (k - 1)


def actions_against_shifted_q(distribution, data):
  _, w, q = _parts(distribution, data)
  return tf.reduce_mean(w * tf.roll(q, 1, axis=1), axis=1)


def constant_normalizer(distribution, data):
  _, w, q = _parts(distribution, data)
  total = tf.stop_gradient(tf.reduce_sum(w, axis=1))
  return tf.reduce_sum(w * q, axis=1) / total


def normalizer_of_the_batch(distribution, data):
  _, w, q = _parts(distribution, data)
  return tf.reduce_sum(w * q, axis=1) / tf.reduce_mean(tf.reduce_sum(w, axis=1))


@pytest.mark.parametrize(
  'wrong',
  [
    no_division_by_q,
    sum_over_k,
    mean_over_others,
    actions_against_shifted_q,
    vine.self_normalized,
    vine.mean_baseline,
    vine.all_actions,
  ],
)
def test_a_wrong_importance_sampling_is_biased(wrong):
  assert min(unbiased_errors(wrong, 'uniform', 2)) > 1e-3


@pytest.mark.parametrize(
  'wrong',
  [
    no_division_by_q,
    sum_over_k,
    mean_over_others,
    actions_against_shifted_q,
    constant_normalizer,
    normalizer_of_the_batch,
    vine.importance_sampled,
  ],
)
@pytest.mark.parametrize('k', [2, 4])
def test_a_wrong_self_normalized_has_another_gradient(wrong, k):
  assert shrunk_gradient_error(wrong, k) > 1e-3


# --- sampled branches ---


def branched_q(w, rng, m, t, s, a):
  """Q [N, K] of m sampled branches to the horizon from each (t, s, a)."""
  starts = (np.repeat(i[..., np.newaxis], m, axis=2) for i in (t, s, a))
  returns, lengths, ends, _ = tabular.branches(w.mdp, w.pi_old, rng, *starts)
  q, valid = vine.q_values(returns, lengths, ends, None, w.mdp.gamma)
  assert valid.all()
  return q


@pytest.mark.slow
@pytest.mark.parametrize('m', [1, 8, 64])
def test_all_actions_error_falls_as_one_over_root_m(m):
  """Its variance is known, so the errors of 200 vines are chi-squared."""
  w, repeats = world(), 200
  x, data, weights = every_action()
  variance = np.einsum('ts,sa,tsa->', w.visits**2, w.pi_new**2, w.variance)
  rng = np.random.default_rng(m)
  # In the order of every_action's rows.
  starts = [i.reshape(-1, A) for i in np.indices(w.q.shape)]
  found = []
  for _ in range(repeats):
    sampled = data._replace(q_values=branched_q(w, rng, m, *starts))
    found.append(expectation(vine.all_actions, w.new, x, sampled, weights)[0])
  z = (np.array(found) - exact(w.new)[0]) / np.sqrt(variance / m)
  assert abs(z.mean()) < 4 / np.sqrt(repeats)
  assert (
    scipy.stats.chi2.ppf(1e-5, repeats)
    < (z**2).sum()
    < scipy.stats.chi2.ppf(1 - 1e-5, repeats)
  )


def state_values():
  """V of pi_old, [H + 1, S]; 0 at the horizon."""
  w = world()
  values = np.einsum('sa,tsa->ts', w.pi_old, w.q)
  return np.concatenate([values, np.zeros((1, S))])


def every_path(s, a, steps):
  """All branches from (s, a): probability, return, length, end, final s, a."""
  w = world()
  paths = [(1.0, 0.0, 0, 0, s, a)]
  for i in range(steps):
    longer = []
    for p, total, length, end, s, a in paths:
      if end:
        longer.append((p, total, length, end, s, a))
        continue
      total += w.mdp.gamma**i * w.mdp.rewards[s, a]
      *follow, terminal = w.mdp.transitions[s, a]
      longer.append((p * terminal, total, i + 1, 1, s, a))
      longer += [
        (p * follow[n] * w.pi_old[n, b], total, i + 1, 0, n, b)
        for n in range(S)
        for b in range(A)
      ]
    paths = longer
  return paths


@pytest.mark.parametrize('steps', [1, 2, 3])
def test_bootstrapped_q_values_are_exact_in_expectation(steps):
  """Over all paths of a short branch that ends with the true V."""
  w, t = world(), 1
  for s, a in itertools.product(range(S), range(A)):
    p, total, length, end, final, _ = map(
      np.array, zip(*every_path(s, a, steps), strict=True)
    )
    last = state_values()[t + length, final]
    q, _ = vine.q_values(
      *(each[:, np.newaxis, np.newaxis] for each in (total, length, end, last)),
      w.mdp.gamma,
    )
    assert p.sum() == pytest.approx(1, rel=1e-12)
    assert p @ q[:, 0] == pytest.approx(w.q[t, s, a], abs=EXACT)


# --- Gaussian policies ---


@pytest.mark.slow
def test_gaussian_gradient_at_theta_old_is_one_less_one_in_k_of_the_exact():
  """Q quadratic in the action, one state: the exact gradient is known."""
  policy = gaussian.GaussianPolicy(mlp.MLP(1, (), 2))
  theta = tf.constant([0.3, -0.2, 0.1, 0.4, 0.2, -0.3], tf.float64)
  mean, std = theta[:2] + theta[2:4], tf.exp(theta[4:])
  slope, bend = np.array([1.0, -2.0]), np.array([0.7, -0.4])
  by_mean = slope + bend * mean
  full = np.concatenate([by_mean, by_mean, bend * std**2])
  groups, rows = 50, 2000
  x = tf.ones((rows, 1), tf.float64)
  rng = np.random.default_rng(0)
  for k in (2, 4, 16):
    found = []
    for _ in range(groups):
      actions = mean + std * rng.normal(size=(rows, k, 2))
      q = (actions @ slope[:, np.newaxis])[..., 0] + tf.reduce_sum(
        bend * actions**2 / 2, axis=2
      )
      log_q = scipy.stats.norm.logpdf(actions, mean, std).sum(axis=2)
      data = vine.VineData(actions, tf.constant(log_q), q)
      with tf.GradientTape() as tape:
        tape.watch(theta)
        new = surrogate.distribution64(policy, theta, policy.outputs(theta, x))
        value = tf.reduce_mean(vine.self_normalized(new, data))
      found.append(tape.gradient(value, theta).numpy())
    error = np.std(found, axis=0, ddof=1) / np.sqrt(groups)
    distance = np.abs(np.mean(found, axis=0) - (1 - 1 / k) * full)
    # Student's t of 49 degrees: 5 is passed by chance once in 1e5.
    assert (distance < 5 * error).all()
    # And the whole gradient is out of reach.
    assert (np.abs(full) / k > 10 * error).any()


# --- every kind of policy ---


def numpy_term(name, log_pi, log_q, q):
  """One state's term by its definition, in Python floats."""
  pi = [math.exp(v) for v in log_pi]
  w = [p / math.exp(v) for p, v in zip(pi, log_q, strict=True)]
  mean = sum(q) / len(q)
  return {
    'all_actions': sum(p * v for p, v in zip(pi, q, strict=True)),
    'importance_sampled': sum(u * v for u, v in zip(w, q, strict=True))
    / len(q),
    'mean_baseline': sum(u * (v - mean) for u, v in zip(w, q, strict=True))
    / len(q),
    'self_normalized': sum(u * v for u, v in zip(w, q, strict=True)) / sum(w),
  }[name]


def any_problem(kind, n=7, k=5, seed=0):
  """A policy, theta, x, data with random numbers, log pi of the actions."""
  rng = np.random.default_rng(seed)
  sizes = {'gaussian': (1, 1), 'categorical': (5,), 'factored': (3, 3, 2)}[kind]
  network = mlp.MLP(3, (4,), sum(sizes))
  x = rng.normal(size=(n, 3)).astype(np.float32)
  if kind == 'gaussian':
    policy = gaussian.GaussianPolicy(network, output_scale=1.0)
    actions = rng.normal(size=(n, k, 2))
  else:
    policy = categorical.CategoricalPolicy(network, sizes, output_scale=1.0)
    actions = rng.integers(0, sizes, size=(n, k, len(sizes)), dtype=np.int32)
  theta = policy.initial_parameters(rng)
  theta += 0.3 * rng.normal(size=theta.shape).astype(np.float32)
  outputs = policy.outputs(tf.constant(theta), tf.constant(x)).numpy()
  outputs = outputs.astype(np.float64)
  if kind == 'gaussian':
    std = np.exp(theta[-2:].astype(np.float64))
    log_pi = scipy.stats.norm.logpdf(actions, outputs[:, np.newaxis], std)
  else:
    ends = np.cumsum(sizes)
    log_pi = np.stack(
      [
        np.take_along_axis(
          part - np.log(np.exp(part).sum(axis=1, keepdims=True)),
          actions[..., i],
          axis=1,
        )
        for i, part in enumerate(np.split(outputs, ends[:-1], axis=1))
      ],
      axis=-1,
    )
  data = vine.VineData(
    actions, rng.normal(-2, 0.5, size=(n, k)), rng.normal(size=(n, k))
  )
  return policy, theta, x, data, log_pi.sum(axis=-1)


@pytest.mark.parametrize('kind', ['gaussian', 'categorical', 'factored'])
@pytest.mark.parametrize('name', list(vine.OBJECTIVES))
def test_terms_against_the_definition(name, kind):
  policy, theta, x, data, log_pi = any_problem(kind)
  outputs = policy.outputs(tf.constant(theta), tf.constant(x))
  new = surrogate.distribution64(policy, theta, outputs)
  found = vine.OBJECTIVES[name](new, data)
  assert found.dtype == tf.float64
  expected = [
    numpy_term(name, *row)
    for row in zip(log_pi, data.log_q, data.q_values, strict=True)
  ]
  np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['gaussian', 'categorical', 'factored'])
@pytest.mark.parametrize('name', list(vine.OBJECTIVES))
def test_one_trace_serves_every_batch(name, kind):
  traces = []

  def counted(distribution, data):
    traces.append(distribution)
    return vine.OBJECTIVES[name](distribution, data)

  settings = config.ExperimentConfig()
  policy, theta, *_ = any_problem(kind)
  step = trust_region.make_step(policy, counted, settings, 50)
  after_first = None
  for n in (50, 31, 64):
    _, _, x, data, _ = any_problem(kind, n=n, seed=n)
    result = step(theta, x, data)
    assert result.status == StepStatus.ACCEPTED
    assert result.surrogate_after > result.surrogate_before
    after_first = after_first or len(traces)
  assert len(traces) == after_first


# --- the step ---


def vine_batch(rng, name, n=1000):
  """n visits drawn as a rollout set, their actions, sampled branches of Q."""
  w = world(gamma=1.0)
  visit = rng.choice(w.visits.size, size=n, p=w.visits.ravel())
  t, s = np.unravel_index(visit, w.visits.shape)
  if name == 'all_actions':
    actions = np.tile(np.arange(A), (n, 1))
  else:
    cumulative = np.cumsum(w.pi_old[s], axis=1)[:, np.newaxis, :-1]
    actions = (rng.random((n, 4, 1)) >= cumulative).sum(axis=2)
  state = np.broadcast_to(s[:, np.newaxis], actions.shape)
  time = np.broadcast_to(t[:, np.newaxis], actions.shape)
  q = branched_q(w, rng, 4, time, state, actions)
  log_q = np.log(w.pi_old[state, actions])
  q /= vine.spread(q).mean()
  data = vine.VineData(actions[..., np.newaxis].astype(np.int32), log_q, q)
  return np.eye(S, dtype=np.float32)[s], s, data


@pytest.mark.parametrize('name', list(vine.OBJECTIVES))
def test_a_step_improves_the_return_within_the_bound(name):
  w, max_kl = world(gamma=1.0), 0.005
  x, s, data = vine_batch(np.random.default_rng(3), name)
  theta = w.old.astype(np.float32)
  step = trust_region.make_step(
    POLICY,
    vine.OBJECTIVES[name],
    config.ExperimentConfig(
      trust_region=config.TrustRegionConfig(max_kl=max_kl)
    ),
    len(x),
  )
  result = step(theta, x, data)
  assert result.status == StepStatus.ACCEPTED
  old, new = (
    tabular.softmax_table(v.astype(np.float64), S)
    for v in (theta, result.theta)
  )
  kl = (old * np.log(old / new)).sum(axis=1)[s].mean()
  assert kl <= max_kl
  before, after = (tabular.surrogate(w.visits, pi, w.q) for pi in (old, new))
  assert after > before
  assert tabular.expected_return(w.mdp, new) > tabular.expected_return(
    w.mdp, old
  )
  # Most of what the constrained optimum, to first order, would gain.
  gradient = tabular.surrogate_gradient(w.visits, old, w.q)
  fisher = scipy.linalg.block_diag(
    *(
      p * (np.diag(row) - np.outer(row, row))
      for p, row in zip(w.visits.sum(axis=0), old, strict=True)
    )
  )
  by_logits = gradient.reshape(S + 1, A)[:S].ravel()
  best = np.sqrt(2 * max_kl * by_logits @ np.linalg.pinv(fisher) @ by_logits)
  assert after - before > 0.5 * best
