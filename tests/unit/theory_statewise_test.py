"""The best row within a divergence, against SLSQP and its own optimality."""

import numpy as np
import pytest
from scipy import optimize

from trpo_tf.theory import divergences, roots, statewise

OLD = np.array([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]])
GAINS = np.array([[1.0, -2.0, 0.5], [0.3, 0.9, -4.0]])


def slsqp(old, gains, kappa):
  found = optimize.minimize(
    lambda p: -p @ gains,
    old,
    jac=lambda p: -gains,
    method='SLSQP',
    bounds=[(1e-9, 1)] * len(old),
    options=dict(ftol=1e-15, maxiter=500),
    constraints=[
      dict(type='eq', fun=lambda p: p.sum() - 1),
      dict(type='ineq', fun=lambda p: kappa - divergences.kl(old, p)),
    ],
  )
  return found.x


@pytest.mark.parametrize('kappa', [1e-3, 0.1, 1.0])
def test_is_what_slsqp_finds(kappa):
  best = statewise.of_divergence(OLD, GAINS, kappa)
  np.testing.assert_allclose(best.divergence, kappa, rtol=1e-12)
  np.testing.assert_allclose(
    divergences.kl(OLD, best.policy), kappa, rtol=1e-10
  )
  for old, gains, policy in zip(OLD, GAINS, best.policy, strict=True):
    np.testing.assert_allclose(policy, slsqp(old, gains, kappa), atol=2e-6)
    assert policy @ gains >= slsqp(old, gains, kappa) @ gains - 1e-9


@pytest.mark.parametrize('kappa', [1e-20, 1e-8, 0.01, 3.0])
def test_both_ways_lead_to_the_same_row(kappa):
  best = statewise.of_divergence(OLD, GAINS, kappa)
  again = statewise.of_multiplier(OLD, GAINS, best.multiplier)
  np.testing.assert_allclose(again.divergence, kappa, rtol=1e-6)
  np.testing.assert_allclose(again.policy, best.policy, rtol=1e-8)


@pytest.mark.parametrize('kappa', [0.01, 3.0])
def test_multiplier_is_the_slope_of_the_gain(kappa):
  best = statewise.of_divergence(OLD, GAINS, kappa)
  low, high = (
    statewise.of_divergence(OLD, GAINS, kappa * (1 + h)).policy
    for h in (-1e-3, 1e-3)
  )
  slope = ((high - low) * GAINS).sum(axis=-1) / (2e-3 * kappa)
  np.testing.assert_allclose(slope, best.multiplier, rtol=1e-5)


def test_small_steps_have_the_closed_form():
  """Gain sqrt(2 kappa) sigma and multiplier sigma / sqrt(2 kappa)."""
  kappa = 1e-14
  best = statewise.of_divergence(OLD, GAINS, kappa)
  mean = (OLD * GAINS).sum(axis=-1, keepdims=True)
  sigma = np.sqrt((OLD * (GAINS - mean) ** 2).sum(axis=-1))
  np.testing.assert_allclose(
    best.multiplier, sigma / np.sqrt(2 * kappa), rtol=1e-6
  )
  expected = OLD * (GAINS - mean) * (np.sqrt(2 * kappa) / sigma)[:, np.newaxis]
  np.testing.assert_allclose(best.policy - OLD, expected, atol=1e-12)


def test_equal_gains_change_nothing():
  for solve in (statewise.of_divergence, statewise.of_multiplier):
    best = solve(OLD, np.array([[1.0, 1.0, 1.0], [0.3, 0.9, -4.0]]), 0.1)
    np.testing.assert_array_equal(best.policy[0], OLD[0])
    assert best.divergence[0] == best.multiplier[0] == 0
    assert best.policy[1, 2] < OLD[1, 2]


def test_actions_that_old_never_takes_stay_so():
  old = np.array([[0.4, 0.6, 0.0]])
  best = statewise.of_divergence(old, np.array([[1.0, 0.0, 9.0]]), 0.1)
  two = statewise.of_divergence(old[:, :2], np.array([[1.0, 0.0]]), 0.1)
  np.testing.assert_allclose(best.policy[:, :2], two.policy, rtol=1e-12)
  assert best.policy[0, 2] == 0


def test_nearly_deterministic_rows_saturate():
  old = np.array([[1 - 1e-12, 1e-12], [0.5, 0.5]])
  best = statewise.of_divergence(old, np.array([[1.0, 0.0], [1.0, 0.0]]), 0.1)
  assert np.all(np.isfinite(best.policy)) and best.policy.min() >= 0
  assert best.divergence[0] < 0.1
  assert best.divergence[1] == pytest.approx(0.1)
  np.testing.assert_allclose(best.policy.sum(axis=-1), 1)


def test_roots_of_many_functions_at_once():
  targets = np.array([1e-8, 0.3, 0.999])
  calls = []

  def function(x):
    calls.append(x)
    return np.tanh(x) - targets

  found = roots.find_root(function, np.zeros(3), np.full(3, 10.0))
  np.testing.assert_allclose(found, np.arctanh(targets), rtol=1e-12)
  assert len(calls) < 30


def test_roots_outside_are_the_nearer_end():
  found = roots.find_root(
    lambda x: x - np.array([5.0, -5.0, 0.5]), np.zeros(3), np.ones(3)
  )
  np.testing.assert_allclose(found, [1, 0, 0.5])


def test_one_action_leaves_nothing_to_choose():
  old = np.ones((2, 3, 1))
  for find in (statewise.of_divergence, statewise.of_multiplier):
    found = find(old, np.zeros((2, 3, 1)), 0.1)
    np.testing.assert_array_equal(found.policy, old)
    assert found.divergence.shape == found.multiplier.shape == (2, 3)
    assert not found.divergence.any()
