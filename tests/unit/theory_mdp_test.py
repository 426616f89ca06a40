"""Exact evaluation against series and closed forms; the problems' tables."""

import numpy as np
import pytest

from trpo_tf.theory import comparison, worlds
from trpo_tf.theory import mdp as mdp_lib
from trpo_tf.theory.observations import gains, seen, unfold, visit_shares

ALIKE = np.array([0, 1, 1, 0, 2])
WORLDS = {
  'chain': worlds.chain(),
  'grid': worlds.grid(),
  'corridor': worlds.switched_corridor(),
  'random': worlds.random_mdps(
    np.random.default_rng(0), 7, 5, 3, 0.9, observations=ALIKE
  ),
}


def policy(mdp):
  return worlds.random_policies(np.random.default_rng(1), mdp)


@pytest.mark.parametrize('mdp', WORLDS.values(), ids=WORLDS)
def test_tables_are_probabilities(mdp):
  for table in (mdp.transitions, mdp.start, policy(mdp), mdp_lib.uniform(mdp)):
    assert table.min() >= 0
    np.testing.assert_allclose(table.sum(axis=-1), 1, atol=1e-14)


@pytest.mark.parametrize('mdp', WORLDS.values(), ids=WORLDS)
def test_evaluation_is_the_sum_over_time(mdp):
  pi = policy(mdp)
  p, discount = mdp.start, 1.0
  visits, total = np.zeros_like(p), np.zeros(p.shape[:-1])
  while discount > 1e-17 * (1 - mdp.gamma):
    visits = visits + discount * p
    total = total + discount * np.einsum(
      '...s,...sa,...sa->...', p, pi, mdp.rewards
    )
    p = np.einsum('...s,...sa,...sax->...x', p, pi, mdp.transitions)
    discount *= mdp.gamma
  np.testing.assert_allclose(mdp_lib.visits(mdp, pi), visits, rtol=1e-11)
  np.testing.assert_allclose(
    mdp_lib.expected_return(mdp, pi), total, rtol=1e-11, atol=1e-11
  )


@pytest.mark.parametrize('mdp', WORLDS.values(), ids=WORLDS)
def test_advantages(mdp):
  pi = policy(mdp)
  a = mdp_lib.advantages(mdp, pi)
  np.testing.assert_allclose((pi * a).sum(axis=-1), 0, atol=1e-12)
  v = mdp_lib.values(mdp, pi)[..., np.newaxis]
  following = v[..., np.newaxis, np.newaxis, :, 0]
  q = mdp.rewards + mdp.gamma * (mdp.transitions * following).sum(axis=-1)
  np.testing.assert_allclose(a, q - v, atol=1e-12)


@pytest.mark.parametrize('mdp', WORLDS.values(), ids=WORLDS)
def test_no_action_beats_the_optimal_policy(mdp):
  best = mdp_lib.optimal(mdp)
  assert mdp_lib.advantages(mdp, best).max() < 1e-8
  assert np.all(
    mdp_lib.expected_return(mdp, best)
    >= mdp_lib.expected_return(mdp, policy(mdp))
  )


def test_corridor_has_the_published_optimum():
  """Sutton and Barto (2018), example 13.1: right with probability 0.59.

  Exactly 2 - sqrt(2), for -6 - 4 sqrt(2), undiscounted: the discount costs at
  most (1 - gamma) times the mean square of the length, below 1e-5 * 500.
  """
  mdp = worlds.switched_corridor(gamma=1 - 1e-5)
  assert comparison.best_return(mdp) == pytest.approx(
    -6 - 4 * np.sqrt(2), abs=5e-3
  )
  right = np.array([2 - np.sqrt(2), 0.5])
  at_best = unfold(mdp, np.stack([1 - right, right], axis=-1))
  assert mdp_lib.expected_return(mdp, at_best) == pytest.approx(
    comparison.best_return(mdp), abs=1e-4
  )


def test_best_return_where_states_are_seen():
  mdp = worlds.chain()
  right = np.tile([0.0, 1.0], (10, 1))
  assert comparison.best_return(mdp) == pytest.approx(
    mdp_lib.expected_return(mdp, right)
  )


def test_observations_sum_what_looks_alike():
  mdp = WORLDS['random']
  old = policy(mdp)
  rho, a = mdp_lib.visits(mdp, old), mdp_lib.advantages(mdp, old)
  expected = np.zeros((7, 3, 3))
  for s, o in enumerate(ALIKE):
    expected[:, o] += rho[:, s, np.newaxis] * a[:, s]
    np.testing.assert_array_equal(seen(mdp, old)[:, o], old[:, s])
  np.testing.assert_allclose(gains(mdp, old), expected, atol=1e-12)
  np.testing.assert_array_equal(unfold(mdp, seen(mdp, old)), old)
  shares = visit_shares(mdp, old)
  np.testing.assert_allclose(
    shares[:, 1], (rho[:, 1] + rho[:, 2]) * (1 - mdp.gamma)
  )
  np.testing.assert_allclose(shares.sum(axis=-1), 1)
