"""The estimators of --vine_objective=every_step against exact sums.

Statistical tests have fixed seeds and demand that a mean is within five of its
standard errors of the exact value, and that these are small beside the effect.
"""

import functools
import math
import types

import numpy as np
import pytest
import scipy.stats
import tabular
import tensorflow as tf

from trpo_tf.config import (
  EstimatorConfig,
  ExperimentConfig,
  SamplerConfig,
  TrustRegionConfig,
)
from trpo_tf.estimation import every_step, surrogate
from trpo_tf.estimation.every_step import Partners, PartnerSums
from trpo_tf.estimation.surrogate import PathData, WeightedPathData
from trpo_tf.methods import surrogate_data
from trpo_tf.optim import fisher, trust_region
from trpo_tf.policies import categorical, gaussian, mlp
from trpo_tf.sampling.actors import GaussianActor
from trpo_tf.sampling.batch import Batch, End, VineBatch
from trpo_tf.sampling.draws import Draws
from trpo_tf.tasks.actions import ActionSpace

S, A = 4, 3  # states and actions
H, L = 10, 5  # time limit, and most steps of a branch
SLOTS, STEPS, N, M = 800, 6, 1000, 2  # of a batch
BATCHES = 30
GAMMA = 0.9


# --- an enumerable world ---


@functools.cache
def world(terminates=True):
  """An MDP whose states come one after the other, and a policy [S, A]."""
  rng = np.random.default_rng(7)
  forward = (np.eye(S, S + 1) + 2 * np.eye(S, S + 1, k=1)) / 3
  random = rng.dirichlet(np.ones(S + 1), size=(S, A))
  transitions = 0.4 * random + 0.6 * forward[:, np.newaxis]
  if not terminates:
    transitions[..., S] = 0
    transitions /= transitions.sum(axis=-1, keepdims=True)
  rewards = rng.normal(size=(S, A))
  initial = np.array([0.7, 0.2, 0.1, 0.0])
  mdp = tabular.MDP(transitions, rewards, initial, H, GAMMA)
  return mdp, rng.dirichlet(np.full(A, 3.0), size=S)


def stationary(terminates=True):
  """Share of (step, state) [H, S] among the steps of a restarting chain."""
  visits = tabular.occupancy(*world(terminates))
  return visits / visits.sum()


def exact_values(terminates=True):
  """V [S] and Q [S, A] without a time limit, which only interrupts."""
  mdp, pi = world(terminates)
  follow = mdp.transitions[..., :S]
  on_policy = np.einsum('sa,sax->sx', pi, follow)
  earned = (pi * mdp.rewards).sum(axis=1)
  v = np.linalg.solve(np.eye(S) - GAMMA * on_policy, earned)
  return v, mdp.rewards + GAMMA * follow @ v


def exact_gradient(terminates=True):
  """Mean of grad log pi(a|s) A(s, a) over d(s) pi(a|s), in logits [S, A]."""
  v, q = exact_values(terminates)
  share = stationary(terminates).sum(axis=0)
  return share[:, np.newaxis] * world(terminates)[1] * (q - v[:, np.newaxis])


def choose(probabilities, uniforms):
  """Inverts the CDF of each row, so that equal uniforms are common noise."""
  bounds = np.cumsum(probabilities, axis=-1)[..., :-1]
  return (uniforms[..., np.newaxis] >= bounds).sum(axis=-1)


def simulate(terminates, s, t, noise, first=None, restarts=None):
  """Steps B chains from states s [B] at episode steps t [B].

  Args:
    terminates: which world.
    s, t: where each chain begins.
    noise: [B, T, 2], uniforms of actions and of transitions.
    first: [B], the first actions; None: draw them, too.
    restarts: [B, T], uniforms of resets; None: a chain stops where it ends.

  Returns:
    The Batch, one chain a slot.
  """
  mdp, pi = world(terminates)
  shape = noise.shape[:2]
  going = np.ones(len(s), bool)
  names = 'states', 'actions', 'ends', 'timesteps', 'reached', 'taken'
  columns = {name: np.zeros(shape, int) for name in names}
  for i in range(shape[1]):
    a = choose(pi[s], noise[:, i, 0]) if i or first is None else first
    following = choose(mdp.transitions[s, a], noise[:, i, 1])
    dead = following == S
    cut = ~dead & (t + 1 == H)
    ends = End.TERMINATED * dead + End.TRUNCATED * cut
    following[dead] = 0
    row = s, a, ends, t, following, np.ones(len(s), int)
    for column, values in zip(columns.values(), row, strict=True):
      column[:, i] = np.where(going, values, 0)
    s, t = following, t + 1
    if restarts is None:
      going = going & (ends == 0)
      t = np.minimum(t, H - 1)
    else:
      s = np.where(
        ends != 0, choose(mdp.initial[np.newaxis], restarts[:, i]), s
      )
      t = np.where(ends != 0, 0, t)
  return as_batch(**columns)


def as_batch(states, actions, ends, timesteps, reached, taken):
  mdp, pi = world()
  eye, kept = np.eye(S, dtype=np.float32), taken != 0
  lengths = taken.sum(axis=1)
  boundary = np.argwhere(ends == End.TRUNCATED)
  return Batch(
    observations=eye[states],
    actions=actions[..., np.newaxis].astype(np.int32),
    outputs=np.log(pi)[states].astype(np.float32),
    log_probs=np.log(pi)[states, actions].astype(np.float32),
    rewards=np.where(kept, mdp.rewards[states, actions], 0.0),
    ends=ends.astype(np.uint8),
    timesteps=timesteps.astype(np.int32),
    lengths=lengths.astype(np.int32),
    kept=kept,
    last_observations=eye[reached[np.arange(len(lengths)), lengths - 1]],
    boundary_index=boundary.astype(np.int32),
    boundary_observations=eye[reached[tuple(boundary.T)]],
    episode_returns=np.zeros(0),
    episode_lengths=np.zeros(0, np.int32),
  )


def vine(seed, K, terminates=True):
  """Trunks that begin in the stationary distribution, and their branches."""
  rng = np.random.default_rng([seed, K])
  place = rng.choice(H * S, SLOTS, p=stationary(terminates).ravel())
  t, s = np.divmod(place, S)
  trunks = simulate(
    terminates,
    s,
    t,
    rng.random((SLOTS, STEPS, 2)),
    restarts=rng.random((SLOTS, STEPS)),
  )
  chosen = Draws(0, seed).rollout_set(SLOTS, STEPS, N)
  roots = tuple(chosen.T)
  s = trunks.observations[roots].argmax(axis=-1)
  t = trunks.timesteps[roots]
  pi = world(terminates)[1]
  first = choose(pi[s][:, np.newaxis], rng.random((N, K)))
  noise = np.broadcast_to(
    rng.random((N, 1, M, L, 2)), (N, K, M, L, 2)
  )  # common to the K actions
  branches = simulate(
    terminates,
    np.repeat(s, K * M),
    np.repeat(t, K * M),
    noise.reshape(-1, L, 2),
    first=np.repeat(first.ravel(), M),
  )
  unused = np.zeros((N, K, M))
  last = branches.lengths - 1
  return VineBatch(
    **vars(trunks),
    rollout_set=chosen,
    first_actions=first[..., np.newaxis].astype(np.int32),
    log_q=np.log(pi[s[:, np.newaxis], first]),
    branch_returns=unused,
    branch_lengths=branches.lengths.reshape(N, K, M),
    branch_ends=branches.ends[np.arange(len(last)), last].reshape(N, K, M),
    final_observations=branches.last_observations.reshape(N, K, M, S),
    branches=branches,
  )


@functools.cache
def vines(K, terminates=True):
  return [vine(seed, K, terminates) for seed in range(BATCHES)]


class Table:
  """The part of a Baseline that estimators read: V [S] of one-hot inputs."""

  def predict(self, state, x, timesteps):
    return state[x.argmax(axis=-1)]


def identity(observations):
  return observations


def estimate(batch, v, lam=1.0, weighted=True, partners=None):
  """Runs the estimators as a learner does; returns SurrogateData."""
  settings = EstimatorConfig(
    baseline='value_network',
    vine_objective='every_step',
    gamma=GAMMA,
    gae_lambda=lam,
    occupancy_weights=weighted,
    standardize_advantages=False,
  )
  found = []
  for part in batch.parts:
    predicted = v[part.flat(part.observations).argmax(axis=-1)]
    found.append(
      surrogate_data.advantages_and_targets(
        settings, Table(), v, identity, part, predicted
      )[0]
    )
  if partners is not None:
    surrogate_data.control_first_actions(
      SamplerConfig(), partners, batch, found[1]
    )
  advantages = np.concatenate(
    [p.flat(f) for p, f in zip(batch.parts, found, strict=True)]
  )
  per_step = len(batch.branches.kept) / int(batch.lengths.sum())
  weights = surrogate_data.step_weights(settings, batch, per_step)
  return surrogate_data.of_steps(
    batch.steps('observations'),
    batch,
    advantages,
    None if weights is None else weights / weights.mean(),
  )


def weights_of(given):
  return getattr(given.data, 'weights', np.ones(len(given.advantages)))


def gradient(given, pi):
  """Weighted mean of grad log pi(a|s) times the advantage, by logits."""
  s, a = given.x.argmax(axis=-1), given.data.actions[:, 0]
  terms = weights_of(given) * given.data.advantages / len(s)
  sums = np.bincount(s * A + a, terms, S * A).reshape(S, A)
  return sums - pi * sums.sum(axis=1, keepdims=True)


def gradients(K, terminates=True, shift=0.0, **options):
  """The gradient by each batch, [BATCHES, S, A]."""
  v, pi = exact_values(terminates)[0] + shift, world(terminates)[1]
  return np.stack(
    [gradient(estimate(b, v, **options), pi) for b in vines(K, terminates)]
  )


def mean_and_error(samples):
  """Mean over the first axis and its standard error."""
  samples = np.asarray(samples)
  error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
  return samples.mean(axis=0), error


def deviations(samples, expected):
  """How many standard errors the means are away, and the largest error."""
  mean, error = mean_and_error(samples)
  return np.abs(mean - expected) / error, error.max()


# --- bias ---


def test_the_exact_gradient_by_finite_differences():
  """The slope of the surrogate in the logits, with Q and visits held fixed."""
  pi, (_, q) = world()[1], exact_values()
  share = stationary().sum(axis=0)

  def value(logits):
    powers = np.exp(logits)
    return np.einsum(
      's,sa,sa->', share, powers / powers.sum(axis=1, keepdims=True), q
    )

  slopes, h = np.zeros((S, A)), 1e-5
  for place in np.ndindex(S, A):
    step = np.zeros((S, A))
    step[place] = h
    slopes[place] = value(np.log(pi) + step) - value(np.log(pi) - step)
  # h^2 times a third derivative of order 1, and rounding over h
  np.testing.assert_allclose(slopes / (2 * h), exact_gradient(), atol=1e-9)


@pytest.mark.parametrize('K', [2, 4])
@pytest.mark.parametrize('lam', [1.0, 0.9])
def test_the_weighted_gradient_is_unbiased(K, lam):
  exact = exact_gradient()
  away, error = deviations(gradients(K, lam=lam), exact)
  assert (away < 5).all()
  assert 5 * error < 0.2 * np.abs(exact).max()


@pytest.mark.parametrize('K', [2, 4])
@pytest.mark.parametrize('lam', [1.0, 0.9])
def test_without_weights_the_gradient_is_biased(K, lam):
  """By the occupancy that branches add, which is known in closed form."""
  away, _ = deviations(gradients(K, lam=lam, weighted=False), exact_gradient())
  assert away.max() > 15
  share = stationary()
  visits = 1 + N * K * M / (SLOTS * STEPS) * np.minimum(np.arange(H) + 1, L)
  share = share * visits[:, np.newaxis]
  moved = (share / share.sum()).sum(axis=0) / stationary().sum(axis=0)
  expected = moved[:, np.newaxis] * exact_gradient()
  away, _ = deviations(gradients(K, lam=lam, weighted=False), expected)
  assert (away < 5).all()


@pytest.mark.parametrize('weighted', [True, False])
def test_weights_restore_the_occupancy(weighted):
  v = exact_values()[0]
  shares = []
  for batch in vines(4):
    given = estimate(batch, v, weighted=weighted)
    place = batch.steps('timesteps') * S + given.x.argmax(axis=-1)
    weights = weights_of(given)
    assert weights.mean() == pytest.approx(1, rel=1e-12)
    shares.append(np.bincount(place, weights, H * S) / len(place))
  visited = stationary().ravel() > 0
  mean, error = mean_and_error(np.stack(shares)[:, visited])
  away = np.abs(mean - stationary().ravel()[visited]) / error
  # forty means, some of few visits
  assert (away.max() < 5) == weighted
  assert weighted or away.max() > 15


@pytest.mark.parametrize('K', [2, 4])
@pytest.mark.parametrize('c', [0.7, -2.0])
def test_no_coefficient_changes_the_expectation(K, c):
  exact = exact_gradient()
  controlled = gradients(K, lam=0.9, partners=Partners(c, 1.0))
  away, _ = deviations(controlled, exact)
  assert (away < 5).all()
  change = controlled - gradients(K, lam=0.9, partners=Partners())
  assert np.abs(change).max() > 1e-4
  away, error = deviations(change, 0)
  assert (away < 5).all()
  assert 5 * error < 0.2 * np.abs(exact).max()


def steps_to_the_cut(part):
  """By a slow loop: env steps until the episode or the slot ends, [S, T]."""
  left = np.zeros(part.kept.shape, int)
  for slot, length in enumerate(part.lengths):
    for t in reversed(range(length)):
      last = t + 1 == length or part.ends[slot, t]
      left[slot, t] = 1 if last else 1 + left[slot, t + 1]
  return left


def test_a_constant_added_to_v_changes_no_expectation():
  """Without termination it shifts A by an amount that no action changes."""
  shift, lam = 3.0, 0.9
  v = exact_values(False)[0]
  batch = vines(4, False)[0]
  assert (batch.branches.ends & End.TRUNCATED).any()
  assert not any((p.ends & End.TERMINATED).any() for p in batch.parts)
  plain, moved = (estimate(batch, v + c, lam=lam) for c in (0.0, shift))
  left = np.concatenate([p.flat(steps_to_the_cut(p)) for p in batch.parts])
  series = np.cumsum((GAMMA * lam) ** np.arange(max(H, STEPS)))
  np.testing.assert_allclose(
    moved.advantages - plain.advantages,
    -(1 - GAMMA) * shift * series[left - 1],
    rtol=0,
    atol=1e-12,
  )
  exact = exact_gradient(False)
  for partners in (None, Partners(0.7, 1.0)):
    options = dict(lam=lam, partners=partners)
    plain, moved = (gradients(4, False, c, **options) for c in (0.0, shift))
    for found, expected in (
      (plain, exact),
      (moved, exact),
      (moved - plain, 0),
    ):
      away, error = deviations(found, expected)
      assert (away < 5).all()
      assert 5 * error < 0.2 * np.abs(exact).max()


def test_the_objective_has_the_gradient_of_the_weighted_mean():
  """TensorFlow's gradient of the data equals the sum that is tested above."""
  policy = categorical.CategoricalPolicy(mlp.MLP(S, (), A), (A,))
  pi = world()[1]
  theta = tf.constant(np.concatenate([np.log(pi), np.zeros((1, A))]).ravel())
  for weighted in (True, False):
    given = estimate(vines(2)[0], exact_values()[0], weighted=weighted)
    assert isinstance(given.data, WeightedPathData) == weighted
    x = tf.constant(given.x, tf.float64)
    with tf.GradientTape() as tape:
      tape.watch(theta)
      new = surrogate.distribution64(policy, theta, policy.outputs(theta, x))
      terms = surrogate.importance_sampled(new, given.data)
      value = surrogate.mean_over_states(terms, given.data)
    found = tape.gradient(value, theta).numpy().reshape(S + 1, A)[:S]
    # advantages and log-probabilities are float32
    np.testing.assert_allclose(found, gradient(given, pi), rtol=0, atol=1e-6)


# --- Gaussian first actions, exactly ---

MEAN_SLOPE, LOG_STD_SLOPE, VALUE = 3.5, 3.0, 2.5  # see `polynomial`
STATES, DEVIATION = 100_000, 0.5


def polynomial(z, noise):
  """Returns of actions mean + deviation z: E f = 2.5, E z f = 3.5.

  E z^2 f = 1 + 3 * 1.5, so E (z^2 - 1) f = 3.
  """
  return 1 + 2 * z + 1.5 * z**2 + 0.5 * z**3 + noise * (2 + z)


@functools.cache
def gaussian_draws(proposal, K):
  """Actions [STATES, K, 1] around random means, by the library's draws."""
  means = np.random.default_rng(1).normal(size=(STATES, 1)).astype(np.float32)
  actor = GaussianActor(np.log([DEVIATION]))
  space = ActionSpace((), np.full(1, -np.inf), np.full(1, np.inf))
  return means, *Draws(3, K).first_actions(proposal, actor, space, means, K)


def slopes(drawn, partners_by, K, partners):
  """Each state's term of the gradients in mean and log_std, [STATES, 2].

  Args:
    drawn: proposal of the actions.
    partners_by: proposal that the control variate is told of.
    K: actions.
    partners: the control variate.
  """
  means, actions, _ = gaussian_draws(drawn, K)
  z = ((actions - means[:, np.newaxis]) / DEVIATION)[..., 0]
  noise = np.random.default_rng(2).normal(size=(STATES, 1, M))
  advantages = polynomial(z[..., np.newaxis], noise) - VALUE
  z = np.broadcast_to(z[..., np.newaxis], advantages.shape)
  batch = types.SimpleNamespace(
    branch_lengths=np.ones((STATES, K, M), int),
    branches=types.SimpleNamespace(kept=np.ones((STATES * K * M, 1), bool)),
  )
  column = advantages.reshape(-1, 1)
  sums = surrogate_data.control_first_actions(
    SamplerConfig(branch_proposal=partners_by), partners, batch, column
  )
  following = partners.updated(sums)
  terms = np.stack([z / DEVIATION, z**2 - 1], axis=-1)
  terms = terms * column.reshape(STATES, K, M, 1)
  return terms.mean(axis=(1, 2)), following


EXACT_SLOPES = np.array([MEAN_SLOPE / DEVIATION, LOG_STD_SLOPE])


@pytest.mark.parametrize('c', [0.0, 0.7])
@pytest.mark.parametrize('K', [2, 4])
@pytest.mark.parametrize('proposal', ['policy', 'antithetic'])
def test_gaussian_first_actions_have_the_exact_gradient(proposal, K, c):
  found, _ = slopes(proposal, proposal, K, Partners(c, 1.0))
  away, error = deviations(found, EXACT_SLOPES)
  assert (away < 5).all()
  assert 5 * error < 0.1 * EXACT_SLOPES.min()


@pytest.mark.parametrize('K', [2, 4])
def test_a_mirror_image_as_partner_would_bias(K):
  """E z f(-z) = -3.5 and E (z^2 - 1) f(-z) = 3, and o_k has K - 1 partners."""
  c = 0.7
  found, _ = slopes('antithetic', 'policy', K, Partners(c, 1.0))
  bias = -c / (K - 1) * np.array([-1, 1]) * EXACT_SLOPES
  away, _ = deviations(found, EXACT_SLOPES + bias)
  assert (away < 5).all()
  away, _ = deviations(found, EXACT_SLOPES)
  assert (away > 15).all()


def test_antithetic_actions_are_pairs_around_the_mean():
  means, actions, log_q = gaussian_draws('antithetic', 4)
  pairs = actions.reshape(STATES, 2, 2)
  np.testing.assert_allclose(
    pairs.sum(axis=2), 2 * means * np.ones(2), rtol=0, atol=1e-12
  )
  assert len(np.unique(actions)) == actions.size
  np.testing.assert_allclose(
    log_q,
    scipy.stats.norm(means, DEVIATION).logpdf(actions[..., 0]),
    rtol=1e-10,
  )
  z = ((actions - means[:, np.newaxis]) / DEVIATION)[:, ::2]
  assert scipy.stats.kstest(z.ravel(), 'norm').pvalue > 1e-3


def test_one_pair_has_no_partners():
  found, following = slopes('antithetic', 'antithetic', 2, Partners(0.7, 1.0))
  plain, _ = slopes('antithetic', 'antithetic', 2, Partners())
  assert found.tobytes() == plain.tobytes()
  # the sums shrink together, so that the coefficient stays
  assert following.coefficient == pytest.approx(0.7, rel=1e-12)


@pytest.mark.parametrize('K', [2, 4])
def test_the_fitted_coefficient_lowers_the_variance(K):
  """Strong common noise C e and a private part P: c = C / (C + P / (K - 1))."""
  rng = np.random.default_rng(5)
  size, common, private = 40_000, 25.0, 4.0
  d = (
    np.sqrt(private) * rng.normal(size=(2, size, K, 1))
    + np.sqrt(common) * rng.normal(size=(2, size, 1, 1))
  )  # fmt: skip
  usable = np.ones(d.shape[1:], bool)
  means = [every_step.partner_means(each, usable, 1) for each in d]
  fitted = Partners().updated(PartnerSums.of(d[0], means[0]))
  expected = common / (common + private / (K - 1))
  # regression of a slope: deviation sqrt(residual / squares / states)
  assert abs(fitted.coefficient - expected) < 5 * np.sqrt(1 / size)
  controlled = d[1] - fitted.coefficient * means[1]
  squares = common + private / (K - 1)
  left = common + private - common**2 / squares
  assert controlled.var() == pytest.approx(left, rel=0.05)
  z = rng.normal(size=d[1].shape)
  with_it, without = ((z * f).mean(axis=1).var() for f in (controlled, d[1]))
  assert with_it < 0.5 * without


# --- unit facts ---


def test_the_coefficient_comes_from_earlier_batches():
  v = exact_values()[0]
  partners, batches = Partners(), vines(4)[:3]
  products = squares = 0.0
  for batch in batches:
    settings = EstimatorConfig(baseline='value_network', gamma=GAMMA)
    branches = batch.branches
    predicted = v[branches.flat(branches.observations).argmax(axis=-1)]
    plain, _ = surrogate_data.advantages_and_targets(
      settings, Table(), v, identity, branches, predicted
    )
    advantages = plain.copy()
    sums = surrogate_data.control_first_actions(
      SamplerConfig(), partners, batch, advantages
    )
    following = partners.updated(sums)
    d = plain[:, 0].reshape(N, 4, M)
    o = (d.sum(axis=1, keepdims=True) - d) / 3
    before = products / squares if squares else 0.0
    np.testing.assert_allclose(
      advantages[:, 0], (d - before * o).ravel(), rtol=0, atol=1e-12
    )
    assert advantages[:, 1:].tobytes() == plain[:, 1:].tobytes()
    products = 0.8 * products + 0.2 * (d * o).mean()
    squares = 0.8 * squares + 0.2 * (o * o).mean()
    assert following.coefficient == pytest.approx(products / squares, rel=1e-9)
    partners = following
  assert all(isinstance(number, float) for number in partners)


def test_partners_of_nothing_change_nothing():
  """No usable first action, or none with a partner."""
  before = Partners(0.7, 1.0)
  for shape in ((0,), (5, 1, 1)):
    nothing = PartnerSums.of(np.zeros(shape), np.zeros(shape))
    assert before.updated(nothing).coefficient == pytest.approx(0.7)
    assert Partners().updated(nothing) == Partners()


@pytest.mark.parametrize('group', [1, 2])
def test_partner_means_by_a_slow_loop(group):
  rng = np.random.default_rng(4)
  advantages = rng.normal(size=(30, 6, 3))
  usable = rng.random(advantages.shape) < 0.6
  usable[0] = False
  usable[1] = np.arange(6)[:, np.newaxis] == 2
  expected = np.zeros(advantages.shape)
  for n, k, m in np.ndindex(advantages.shape):
    others = [
      advantages[n, j, m]
      for j in range(6)
      if j // group != k // group and usable[n, j, m]
    ]
    expected[n, k, m] = sum(others) / len(others) if others else 0
  poisoned = np.where(usable, advantages, np.nan)
  found = every_step.partner_means(poisoned, usable, group)
  np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('length', [1, 3, 7, 20])
def test_occupancy_weights_by_counting(length):
  """Branches from every state of a trunk whose episodes have 7 steps."""
  limit, actions = 7, 2
  visited = [t for _ in range(5) for t in range(limit)]
  steps = list(visited)
  for root in visited:
    for _ in range(actions):
      steps += range(root, min(root + length, limit))
  weights = every_step.occupancy_weights(np.array(steps), actions, length)
  assert weights.dtype == np.float64
  shares = np.bincount(steps, weights) / weights.sum()
  np.testing.assert_allclose(shares, 1 / limit, rtol=1e-12)


def test_weights_are_left_out_where_all_are_one():
  batch = vines(2)[0]
  settings = EstimatorConfig(
    baseline='value_network', vine_objective='every_step'
  )
  assert surrogate_data.step_weights(settings, batch, 0.1) is not None
  assert surrogate_data.step_weights(settings, batch.branches, 0.1) is None
  plain = EstimatorConfig(occupancy_weights=False)
  assert surrogate_data.step_weights(plain, batch, 0.1) is None


@pytest.mark.parametrize('weighted', [True, False])
def test_advantages_are_standardised_by_the_weights(weighted):
  """As those of a batch that repeats its rows; to the bit without weights."""
  rng = np.random.default_rng(0)
  batch = vines(2)[0].branches
  n = int(batch.kept.sum())
  counts = rng.integers(1, 4, n) if weighted else np.ones(n, int)
  advantages = rng.normal(3, 2, n)
  weights = counts / counts.mean() if weighted else None
  plain = surrogate_data.of_steps(np.zeros((n, S)), batch, advantages, weights)
  given = surrogate_data.scaled(plain, surrogate_data.spread(plain, advantages))
  repeated = np.repeat(advantages, counts)
  expected = (advantages - repeated.mean()) / (repeated.std() + 1e-8)
  found = given.data.advantages
  np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
  assert weighted or found.tobytes() == expected.astype(np.float32).tobytes()
  assert given.advantages is advantages


ROWS = 41


def repeated_rows(seed=0):
  """Counts [ROWS], weights of mean 1, and the rows that the counts repeat."""
  counts = np.random.default_rng(seed).integers(1, 5, ROWS)
  return counts / counts.mean(), np.repeat(np.arange(ROWS), counts)


def steps_of(kind):
  """A policy, theta, a candidate, inputs [ROWS, 3] and unweighted data."""
  rng = np.random.default_rng(3)
  if kind == 'gaussian':
    policy = gaussian.GaussianPolicy(mlp.MLP(3, (4,), 2))
  else:
    policy = categorical.CategoricalPolicy(mlp.MLP(3, (4,), 5), (3, 2))
  theta = 0.5 * rng.normal(size=policy.num_parameters)
  x = rng.normal(size=(ROWS, 3))
  old = surrogate.distribution64(
    policy, tf.constant(theta), policy.outputs(tf.constant(theta), x)
  )
  actions = old.sample(seed=(1, 2)).numpy()
  data = PathData(actions, old.log_prob(actions).numpy(), rng.normal(size=ROWS))
  return policy, theta, theta + 0.1 * rng.normal(size=theta.size), x, data


def chosen_rows(data, rows):
  return type(data)(*(field[rows] for field in data))


KINDS = pytest.mark.parametrize('kind', ['gaussian', 'factored'])


@KINDS
def test_means_over_states_weight_as_repeated_rows_do(kind):
  """Surrogate, its gradient, mean KL and products with the Fisher matrix."""
  policy, theta, candidate, x, data = steps_of(kind)
  weights, rows = repeated_rows()
  vector = np.random.default_rng(6).normal(size=theta.size)

  def everything(x, data, blocks=1):
    at, new = tf.constant(theta), tf.constant(candidate)
    x = tf.constant(x)
    linearized = fisher.linearize(policy, at, x, blocks)
    old = surrogate.distribution64(policy, at, linearized.outputs)
    evaluation = surrogate.evaluate(
      policy,
      surrogate.importance_sampled,
      data,
      old,
      new,
      policy.outputs(new, x),
    )
    value, by_outputs, by_theta = surrogate.output_gradient(
      policy, surrogate.importance_sampled, data, at, linearized.outputs
    )
    slope = fisher.vjp(linearized, by_outputs) + by_theta
    through = fisher.analytic(policy, at, linearized, data)(vector)
    return [np.asarray(v) for v in (*evaluation, value, slope, through)]

  weighted = WeightedPathData(*data, weights)
  expected = everything(x[rows], chosen_rows(data, rows))
  plain = everything(x, data)
  for blocks in (1, 3):
    for a, b in zip(everything(x, weighted, blocks), expected, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
  # all but the largest KL of a state tell weights from none
  differs = [np.abs(a - b).max() for a, b in zip(plain, expected, strict=True)]
  assert differs[2] == 0 and min(differs[:2] + differs[3:]) > 1e-4
  # rows of the batch, as fisher_fraction takes them, count by their weights
  some = np.arange(0, ROWS, 3)
  repeated = rows[np.isin(rows, some)]
  found = everything(x[some], chosen_rows(weighted, some))[-1]
  again = everything(x[repeated], chosen_rows(data, repeated))[-1]
  np.testing.assert_allclose(found, again, rtol=1e-11, atol=1e-13)


@KINDS
def test_without_weights_every_mean_is_the_plain_one(kind):
  policy, theta, _, x, data = steps_of(kind)
  theta, x = tf.constant(theta), tf.constant(x)
  terms = tf.constant(data.advantages)
  assert surrogate.weights_of(data) is None
  assert (
    surrogate.mean_over_states(terms, data).numpy().tobytes()
    == tf.reduce_mean(terms).numpy().tobytes()
  )
  vector = tf.constant(np.random.default_rng(6).normal(size=theta.shape[0]))
  linearized = fisher.linearize(policy, theta, x, 2)
  assert (
    fisher.analytic(policy, theta, linearized, data)(vector).numpy().tobytes()
    == fisher.product(policy, linearized, vector).numpy().tobytes()
  )


@pytest.mark.slow
@KINDS
@pytest.mark.parametrize('fraction', [1.0, 0.5])
def test_a_step_weights_as_repeated_rows_do(fraction, kind):
  """The whole constrained step of TRPO, within the rounding of float32."""
  policy, theta, _, x, data = steps_of(kind)
  weights, rows = repeated_rows()
  theta, x = theta.astype(np.float32), x.astype(np.float32)
  some = np.arange(0, ROWS, math.ceil(1 / fraction))
  config = ExperimentConfig(
    trust_region=TrustRegionConfig(fisher_fraction=fraction)
  )
  results = []
  for taken, given, matrix_rows in (
    (np.arange(ROWS), WeightedPathData(*data, weights), some),
    (rows, chosen_rows(data, rows), np.flatnonzero(np.isin(rows, some))),
  ):
    step = trust_region.make_step(
      policy, surrogate.importance_sampled, config, ROWS
    )
    matrix_rows = None if fraction == 1 else matrix_rows.astype(np.int32)
    results.append(step(theta, x[taken], given, matrix_rows))
  one, other = results
  assert one.status == other.status
  assert one.evaluations == other.evaluations
  names = 'mean_kl', 'surrogate_after', 'gradient_norm', 'curvature', 'entropy'
  for name in names:
    assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-3)
  moved = np.linalg.norm(other.theta - theta)
  assert np.linalg.norm(one.theta - other.theta) < 1e-2 * moved
