"""--amortized_advantage: what it may not change, and what it learns.

Statistical tests have fixed seeds and demand that a mean is within five of its
standard errors of the exact value.
"""

import functools

import numpy as np
import pytest

from trpo_tf.config import EstimatorConfig
from trpo_tf.errors import UserError
from trpo_tf.estimation import amortized
from trpo_tf.methods import surrogate_data
from trpo_tf.policies import categorical, gaussian, mlp
from trpo_tf.sampling.batch import Batch, End, VineBatch

GAMMA, LAMBDA = 0.95, 0.95
DEVIATION = 0.5
LOG_STD = np.full(1, np.log(DEVIATION), np.float32)
SLOTS, STEPS, N, M, L = 100, 8, 80, 2, 4
BATCHES = 30


def initial(observations=1, actions=1, seed=0):
  policy = gaussian.GaussianPolicy(mlp.MLP(observations, (), actions))
  return amortized.initial(policy, np.random.default_rng(seed))


def with_random_phi(state, seed=1):
  """Any A_phi, subtracted with coefficient 1."""
  phi = np.random.default_rng(seed).normal(size=state.phi.shape)
  return state._replace(phi=phi, products=1.0, squares=1.0)


def test_the_expectation_is_zero_in_every_state():
  """By a quadrature that is exact for polynomials of degree 7."""
  nodes, weights = np.polynomial.hermite_e.hermegauss(4)
  weights = weights / weights.sum()
  noise = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
  weights = np.outer(weights, weights).ravel()
  state = with_random_phi(initial(3, 2))
  for x in np.random.default_rng(2).normal(size=(5, 1, 3)).astype(np.float32):
    values = state.values(np.repeat(x, len(noise), axis=0), noise)
    # rounding of a sum of products, a few units each
    bound = 100 * np.finfo(float).eps * np.abs(weights * values).sum()
    assert abs(weights @ values) < bound < 1e-10
    assert weights @ values**2 > 1
  b = amortized.basis(noise)
  np.testing.assert_allclose(
    np.einsum('n,ni,nj->ij', weights, b, b), np.eye(4), atol=1e-13
  )


# --- a linear world with Gaussian actions ---


def simulate(s, z, rng, restarts):
  """Steps B chains whose reward is mostly that of the action.

  Args:
    s: float64 [B], where the chains begin.
    z: float64 [B, T], noise of the actions.
    rng: draws what else is random, the same for equal generators.
    restarts: whether a chain goes on after its episode has ended.
  """
  going = np.ones(len(s), bool)
  columns = []
  for t in range(z.shape[1]):
    mean = (-0.5 * s).astype(np.float32)
    a = mean + DEVIATION * z[:, t]
    after = 0.8 * s + a + 0.3 * rng.normal(size=len(s))
    ends = np.where(rng.random(len(s)) < 0.15, End.TERMINATED, 0)
    columns.append((s, mean, a, 3 * a + s * a, ends * going, going))
    fresh = rng.normal(size=len(s))
    s = np.where((ends != 0) & restarts, fresh, after)
    going = going & ((ends == 0) | restarts)
  states, means, actions, rewards, ends, kept = (
    np.stack(column, axis=1) for column in zip(*columns, strict=True)
  )
  return Batch(
    observations=states[..., np.newaxis].astype(np.float32),
    actions=actions[..., np.newaxis],
    outputs=means[..., np.newaxis],
    log_probs=np.zeros(z.shape, np.float32),
    rewards=rewards * kept,
    ends=ends.astype(np.uint8),
    timesteps=np.zeros(z.shape, np.int32),
    lengths=kept.sum(axis=1).astype(np.int32),
    kept=kept,
    last_observations=s[:, np.newaxis].astype(np.float32),
    boundary_index=np.zeros((0, 2), np.int32),
    boundary_observations=np.zeros((0, 1), np.float32),
    episode_returns=np.zeros(0),
    episode_lengths=np.zeros(0, np.int32),
  )


@functools.cache
def vine(seed, K=2):
  rng = np.random.default_rng([seed, K])
  trunks = simulate(
    rng.normal(size=SLOTS), rng.normal(size=(SLOTS, STEPS)), rng, True
  )
  places = np.sort(rng.choice(SLOTS * STEPS, N, replace=False))
  roots = np.stack(np.divmod(places, STEPS), axis=1).astype(np.int32)
  shape = N, K, M
  z = np.broadcast_to(rng.normal(size=(N, 1, M, L)), (*shape, L)).copy()
  z[..., 0] = rng.normal(size=(N, K, 1))
  s = trunks.observations[tuple(roots.T)][..., 0].astype(np.float64)
  s = np.broadcast_to(s[:, np.newaxis, np.newaxis], shape)
  branches = simulate(s.ravel(), z.reshape(-1, L), _Common(seed, shape), False)
  means = trunks.outputs[tuple(roots.T)]
  last = branches.lengths - 1
  return VineBatch(
    **vars(trunks),
    rollout_set=roots,
    first_actions=means[:, np.newaxis] + DEVIATION * z[:, :, 0, :1],
    log_q=np.zeros((N, K)),
    branch_returns=np.zeros(shape),
    branch_lengths=branches.lengths.reshape(shape),
    branch_ends=branches.ends[np.arange(len(last)), last].reshape(shape),
    final_observations=branches.last_observations.reshape(*shape, 1),
    branches=branches,
  )


class _Common:
  """Draws that the K branches of a state share."""

  def __init__(self, seed, shape):
    self._rng, self._shape = np.random.default_rng([seed, 99]), shape

  def _spread(self, draw):
    n, _, m = self._shape
    return np.broadcast_to(draw((n, 1, m)), self._shape).ravel()

  def normal(self, size):
    return self._spread(lambda shape: self._rng.normal(size=shape))

  def random(self, size):
    return self._spread(self._rng.random)


class _Line:
  """A baseline that is linear in the state."""

  def predict(self, state, x, timesteps):
    return state * x[:, 0]


def settings():
  return EstimatorConfig(gamma=GAMMA, gae_lambda=LAMBDA)


def plain(batch):
  """Advantages [S, T] of trunks and branches by GAE."""
  return [
    surrogate_data.advantages_and_targets(
      settings(),
      _Line(),
      0.7,
      lambda o: o,
      part,
      0.7 * part.flat(part.observations)[:, 0],
    )[0]
    for part in batch.parts
  ]


def estimate(batch, state):
  """Returns the corrected advantages and the next state."""
  advantages = plain(batch)
  x = batch.steps('observations')
  after = surrogate_data.amortize(
    settings(), state, LOG_STD, lambda o: o, batch, x, advantages
  )
  return advantages, after


def flat(batch, fields):
  return np.concatenate(
    [p.flat(f) for p, f in zip(batch.parts, fields, strict=True)]
  )


def noise_of(batch):
  return (batch.steps('actions') - batch.steps('outputs')) / np.exp(
    LOG_STD.astype(np.float64)
  )


def gradient(batch, advantages):
  """Means of the score of bias, slope and log_std times the advantage, [3]."""
  z, s = noise_of(batch)[:, 0], batch.steps('observations')[:, 0]
  scores = np.stack([z, z * s, z**2 - 1], axis=1)
  return (scores * advantages[:, np.newaxis]).mean(axis=0)


def away(samples):
  """How many standard errors each mean is from 0."""
  samples = np.asarray(samples)
  error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
  return np.abs(samples.mean(axis=0)) / error


def test_no_phi_changes_the_expected_gradient():
  """A term of the step itself (l = 0) would."""
  state = with_random_phi(initial())
  changes, with_own_term = [], []
  for seed in range(BATCHES):
    batch = vine(seed, K=4)
    change = flat(batch, estimate(batch, state)[0]) - flat(batch, plain(batch))
    own = state.values(batch.steps('observations'), noise_of(batch))
    changes.append(gradient(batch, change))
    with_own_term.append(gradient(batch, change - own))
  assert np.abs(changes).max() > 0.01
  assert (away(changes) < 5).all()
  assert away(with_own_term).max() > 15


def test_a_fitted_phi_lowers_the_variance():
  state = initial()
  for seed in range(100, 106):
    _, state = estimate(vine(seed), state)
  taught = state._replace(contrasts=np.zeros_like(state.contrasts))
  with_it, without = [], []
  for seed in range(BATCHES):
    batch = vine(seed)
    with_it.append(gradient(batch, flat(batch, estimate(batch, taught)[0])))
    without.append(gradient(batch, flat(batch, plain(batch))))
  assert 0.7 < state.coefficient < 1.5
  ratio = np.var(with_it, axis=0).sum() / np.var(without, axis=0).sum()
  assert ratio < 0.9


def test_phi_comes_from_earlier_batches():
  """A slow loop over the state from before each batch."""
  state, decay = initial(), GAMMA * LAMBDA
  for seed in range(4):
    batch = vine(seed)
    before = [np.copy(field) for field in state]
    found, after = estimate(batch, state)
    for field, kept in zip(state, before, strict=True):
      np.testing.assert_array_equal(field, kept)
    for part, given, by_gae in zip(
      batch.parts, found, plain(batch), strict=True
    ):
      assert (given.tobytes() == by_gae.tobytes()) == (seed < 2)
      z = (part.actions - part.outputs) / DEVIATION
      for slot, length in enumerate(part.lengths):
        values = state.values(part.observations[slot], z[slot])
        for t in range(length):
          later, u = 0.0, t
          while not part.ends[slot, u] and u + 1 < length:
            u += 1
            later += decay ** (u - t) * values[u]
          expected = by_gae[slot, t] - later
          # log_std is float32
          assert given[slot, t] == pytest.approx(expected, abs=1e-5)
    assert not np.array_equal(after.phi, state.phi)
    state = after


# --- the regression ---


def regression(states=40, K=3, seed=0):
  rng = np.random.default_rng(seed)
  width = np.sqrt(3)  # bounded, so that no difference is clipped
  x = rng.uniform(-width, width, (states, 2)).astype(np.float32)
  noise = rng.uniform(-width, width, (states, K, 2))
  slope = 1 + 0.1 * x[:, :1]
  returns = slope * noise[..., 0] + 0.1 * rng.uniform(-1, 1, (states, K))
  return x, noise, 5 + returns


def test_phi_is_the_ridge_regression_on_all_pairs():
  """In its primal form, on the deviations from the means of states."""
  x, noise, returns = regression()
  start = initial(2, 2)
  found = start.updated(x, noise, returns)
  hidden = np.tanh(x @ start.layer[:-1] + start.layer[-1])
  f = np.concatenate([np.ones((len(x), 1)), x, hidden], axis=1)
  b = amortized.basis(noise)
  b -= b.mean(axis=1, keepdims=True)
  rows = np.einsum('nf,nkb->nkfb', f, b).reshape(returns.size, -1)
  targets = (returns - returns.mean(axis=1, keepdims=True)).ravel()
  differences = found.differences[-2 * len(x) :]
  assert np.abs(differences).max() < 3 * np.sqrt(np.mean(differences**2))
  penalty = (rows**2).sum() / (len(x) * 2)
  matrix = rows.T @ rows + penalty * np.eye(rows.shape[1])
  expected = np.linalg.solve(matrix, rows.T @ targets).reshape(-1, 4)
  # inputs and contrasts are float32
  np.testing.assert_allclose(found.phi, expected, rtol=0, atol=1e-5)
  assert np.abs(expected).max() > 0.05
  assert found.coefficient == 0
  again = found.updated(*regression(seed=1))
  assert 0.7 < again.coefficient < 2
  assert again.layer is start.layer


def test_the_newest_pairs_are_kept():
  state = initial(2, 2)
  sizes = len(state.differences)
  for seed in range(3):
    batch = regression(states=450, seed=seed)
    state = state.updated(*batch)
  assert len(state.differences) == sizes
  x, _, returns = batch
  np.testing.assert_array_equal(state.inputs[-900:], np.repeat(x, 2, axis=0))
  first = (returns[:, 0] - returns[:, 1]) / np.sqrt(2)
  np.testing.assert_allclose(
    np.abs(state.differences[-900::2]), np.abs(first), rtol=1e-9
  )


def test_a_fall_does_not_spoil_the_regression():
  x, noise, returns = regression(states=300)
  clean = initial(2, 2).updated(x, noise, returns)
  returns[7, 1] += 200
  found = initial(2, 2).updated(x, noise, returns)
  size = np.abs(clean.phi).max()
  assert np.abs(found.phi - clean.phi).max() < 2 * size


@pytest.mark.parametrize('shape', [(0, 2), (5, 1)])
def test_without_pairs_nothing_changes(shape):
  state = initial(2, 2)
  n, K = shape
  after = state.updated(
    np.zeros((n, 2), np.float32), np.zeros((n, K, 2)), np.zeros(shape)
  )
  assert after is state


def test_equal_returns_teach_nothing():
  x, noise, returns = regression()
  after = initial(2, 2).updated(x, noise, np.ones_like(returns))
  assert not after.phi.any()
  assert all(np.isfinite(field).all() for field in after)


def test_discrete_actions_are_refused():
  policy = categorical.CategoricalPolicy(mlp.MLP(3, (), 5), (3, 2))
  with pytest.raises(UserError, match='--amortized_advantage'):
    amortized.check(policy)
