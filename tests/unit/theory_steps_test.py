"""The steps solve their problems: against SLSQP, scans and closed forms."""

import dataclasses

import numpy as np
import pytest
from scipy import optimize

from trpo_tf.theory import (
  bounds,
  comparison,
  divergences,
  minorize_maximize,
  trust_region,
  worlds,
)
from trpo_tf.theory import conservative_policy_iteration as cpi
from trpo_tf.theory.mdp import expected_return, uniform, visits
from trpo_tf.theory.observations import gains, seen, unfold, visit_shares

S, A = 4, 3
ALIKE = np.array([0, 0, 1, 2])
O = 3


@pytest.fixture(scope='module')
def problem():
  rng = np.random.default_rng(5)
  mdp = worlds.random_mdps(rng, 1, S, A, 0.8, observations=ALIKE)
  mdp = dataclasses.replace(
    mdp,
    transitions=mdp.transitions[0],
    rewards=mdp.rewards[0],
    start=mdp.start[0],
  )
  return mdp, worlds.random_policies(rng, mdp, 4.0)


def slsqp(objective, gradient, start, constraints):
  """Maximises over rows [O, A] and, last, a bound kappa of divergences."""
  simplex = dict(type='eq', fun=lambda x: x[:-1].reshape(O, A).sum(axis=1) - 1)
  found = optimize.minimize(
    lambda x: -objective(x),
    start,
    jac=lambda x: -gradient(x),
    method='SLSQP',
    bounds=[(1e-9, 1)] * (O * A) + [(0, None)],
    constraints=[simplex, *constraints],
    options=dict(ftol=1e-15, maxiter=1000),
  )
  return found.x[:-1].reshape(O, A)


@pytest.mark.parametrize('share', [1, 0.1, 0.01])
def test_algorithm_1_is_the_argmax(problem, share):
  mdp, old = problem
  b, rows = gains(mdp, old), seen(mdp, old)
  c = share * bounds.penalty_coefficient(mdp, old)
  # kappa in units of its likely size, so that SLSQP sees it
  unit = minorize_maximize.predicted_divergence(mdp, old) / share**2
  within = dict(
    type='ineq',
    fun=lambda x: x[-1] - divergences.kl(rows, x[:-1].reshape(O, A)) / unit,
  )
  theirs = slsqp(
    lambda x: x[:-1] @ b.ravel() - c * unit * x[-1],
    lambda x: np.append(b.ravel(), -c * unit),
    np.append(rows.ravel(), 1.0),
    [within],
  )
  ours = minorize_maximize.step(mdp, old, c)
  height = lambda pi: minorize_maximize.minorizer(mdp, old, pi, c)
  assert height(ours) > expected_return(mdp, old)
  assert height(ours) >= height(unfold(mdp, theirs)) - 1e-9
  size = np.abs(ours - old).max()
  np.testing.assert_allclose(seen(mdp, ours), theirs, atol=0.02 * size)


def test_algorithm_1_moves_every_observation_equally_far(problem):
  mdp, old = problem
  kl = divergences.kl(old, minorize_maximize.step(mdp, old))
  np.testing.assert_allclose(kl, kl[0], rtol=1e-8)


def test_mean_kl_step_is_the_argmax(problem):
  mdp, old = problem
  b, rows = gains(mdp, old), seen(mdp, old)
  shares = visit_shares(mdp, old)
  mean = lambda pi: shares @ divergences.kl(rows, pi)
  within = dict(type='ineq', fun=lambda x: 0.05 - mean(x[:-1].reshape(O, A)))
  theirs = slsqp(
    lambda x: x[:-1] @ b.ravel(),
    lambda x: np.append(b.ravel(), 0),
    np.append(rows.ravel(), 0),
    [within],
  )
  ours = seen(mdp, trust_region.mean_kl_step(mdp, old, 0.05))
  assert mean(ours) == pytest.approx(0.05, rel=1e-9)
  np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_max_kl_step_beats_every_other_policy_within(problem):
  mdp, old = problem
  best = trust_region.max_kl_step(mdp, old, 0.05)
  assert divergences.kl(old, best).max() == pytest.approx(0.05, rel=1e-9)
  rng = np.random.default_rng(0)
  rows = rng.dirichlet(10 * np.ones(A), size=(50_000, O))
  others = unfold(mdp, rows)
  within = divergences.kl(old, others).max(axis=-1) <= 0.05
  assert within.sum() > 50
  height = lambda pi: np.einsum('oa,...oa->...', gains(mdp, old), seen(mdp, pi))
  assert height(others[within]).max() <= height(best)


def test_max_kl_step_is_no_rescaled_mean_kl_step(problem):
  """It would have to be old + t (mean step - old) for one t."""
  mdp, old = problem
  by_max = trust_region.max_kl_step(mdp, old, 0.01) - old
  by_mean = trust_region.mean_kl_step(mdp, old, 0.01) - old
  cosine = np.sum(by_max * by_mean) / (
    np.linalg.norm(by_max) * np.linalg.norm(by_mean)
  )
  assert cosine < 0.99


def test_algorithm_1_steps_are_as_small_as_predicted():
  """The closed form in gamma, where states are seen."""
  for gamma in (0.9, 0.99, 0.999):
    mdp = worlds.grid(gamma=gamma)
    old = uniform(mdp)
    kl = divergences.kl(old, minorize_maximize.step(mdp, old)).max()
    predicted = minorize_maximize.predicted_divergence(mdp, old)
    # The next term is smaller by about the relative change of probabilities.
    assert kl == pytest.approx(predicted, rel=10 * np.sqrt(predicted))
    rho = visits(mdp, old)
    b = gains(mdp, old)
    sigma = np.sqrt((old * b**2).sum(axis=-1)).sum() / rho.sum()
    eps = np.abs(b / rho[:, np.newaxis]).max()
    expected = (1 - gamma) ** 2 / (32 * gamma**2) * (sigma / eps) ** 2
    assert predicted == pytest.approx(expected, rel=1e-9)


def test_cpi_takes_the_best_alpha(problem):
  mdp, old = problem
  other = cpi.greedy(mdp, old)
  # The best vertex of the policies that look alike, by trying all.
  vertices = np.stack(np.meshgrid(*[np.arange(A)] * O), axis=-1).reshape(-1, O)
  policies = unfold(mdp, np.eye(A)[vertices])
  promised = bounds.local_approximation(mdp, old, policies)
  assert bounds.local_approximation(mdp, old, other) == pytest.approx(
    promised.max()
  )

  def height(alpha):
    new = cpi.mixture(old, other, alpha)
    return bounds.local_approximation(mdp, old, new) - bounds.mixture_penalty(
      mdp, old, other, alpha
    )

  alphas = np.linspace(0, 1, 100_001)
  best = alphas[height(alphas).argmax()]
  assert cpi.step_size(mdp, old, other) == pytest.approx(best, abs=1e-5)


def test_alpha_is_at_most_one():
  rng = np.random.default_rng(0)  # the penalty vanishes with gamma
  mdp = worlds.random_mdps(rng, 9, S, A, 0.01)
  old = uniform(mdp)
  assert np.all(cpi.step_size(mdp, old, cpi.greedy(mdp, old)) == 1)


@pytest.mark.parametrize('name', comparison.methods(0.01))
def test_a_policy_that_cannot_be_improved_stays(name):
  mdp = worlds.chain()
  flat = dataclasses.replace(mdp, rewards=np.ones_like(mdp.rewards))
  old = uniform(flat)
  new = comparison.methods(0.01)[name](flat, old)
  np.testing.assert_allclose(new, old, atol=1e-12)


@pytest.mark.slow
def test_only_the_guaranteed_methods_never_fall():
  """The corridor's states look alike: a step good in L may be bad in eta."""
  mdp = worlds.switched_corridor()
  fall = {}
  for name, step in comparison.methods(0.01).items():
    trace = comparison.trace(mdp, step, 60)
    assert len(trace.returns) == 61 and len(trace.divergences) == 60
    fall[name] = np.diff(trace.returns).min()
  assert fall['CPI'] > 0 and fall['Algorithm 1'] > 0
  assert fall['max KL'] < -0.01 and fall['mean KL'] < -0.1


@pytest.mark.parametrize('world', [worlds.chain, worlds.grid])
def test_no_method_falls_where_states_are_seen(world):
  """The policy improvement theorem: every state's policy improves."""
  mdp = world()
  best = comparison.best_return(mdp)
  for name, step in comparison.methods(0.01).items():
    returns = comparison.trace(mdp, step, 40).returns
    assert np.diff(returns).min() > -1e-10, name
    assert returns.max() <= best + 1e-10
    if 'KL' in name:
      assert returns[-1] == pytest.approx(best, abs=1e-6)
