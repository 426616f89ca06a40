"""The theory of equations 1 to 11 on thousands of random MDPs, exactly.

Each check is a function of the modules that it judges, so that `test_mutation`
can show that it notices when they are wrong.
"""

import inspect
import types

import numpy as np
import pytest

from trpo_tf.theory import (
  bounds,
  divergences,
  minorize_maximize,
  trust_region,
  worlds,
  worst_cases,
)
from trpo_tf.theory import conservative_policy_iteration as cpi
from trpo_tf.theory import mdp as mdp_lib

S, A, COUNT = 5, 3, 1000
GAMMAS = (0.3, 0.9, 0.99)
LOOK_ALIKE = np.array([0, 0, 1, 1, 2])


def problems(gamma, observations=None):
  """Random MDPs with two policies each: two near ones and two far ones."""
  rng = np.random.default_rng(int(1000 * gamma))
  mdp = worlds.random_mdps(rng, COUNT, S, A, gamma, observations=observations)
  old, other = (worlds.random_policies(rng, mdp, 0.5) for _ in range(2))
  share = 10.0 ** rng.uniform(-4, 0, size=(COUNT, 1, 1))
  return mdp, old, (1 - share) * old + share * other


def rounding(mdp):
  """Bounds the error of eta and L.

  A solve of I - gamma P loses a condition of at most (1 + gamma)/(1 - gamma);
  values are up to max|r| / (1 - gamma); visits sum up 1 / (1 - gamma) of them.
  """
  largest = np.abs(mdp.rewards).max()
  return 8 * S * np.finfo(float).eps * largest / (1 - mdp.gamma) ** 3


def check_identity(b):
  """Equations 1 and 2."""
  for gamma in GAMMAS:
    mdp, old, new = problems(gamma)
    error = b.return_by_advantages(mdp, old, new)
    error = error - mdp_lib.expected_return(mdp, new)
    assert np.abs(error).max() <= rounding(mdp)


def check_first_order(b):
  """Equation 4: value and slope of L and eta agree at the old policy."""
  for gamma in GAMMAS:
    mdp, old, new = problems(gamma)
    at_old = b.loss(mdp, old, old)
    assert np.abs(at_old).max() <= rounding(mdp)
    # A line beyond the simplex; a central difference leaves h^2 times a third
    # derivative, which is at most 48 gamma^2 max|r| / (1 - gamma)^4.
    h = 1e-3 * (1 - gamma)
    low, high = (
      b.loss(mdp, old, old + sign * h * (new - old)) for sign in (-1, 1)
    )
    curved = 8 * h**2 * gamma**2 * np.abs(mdp.rewards).max() / (1 - gamma) ** 4
    assert np.abs(high - low).max() / (2 * h) <= curved + rounding(mdp) / h


def check_mixture_bound(b):
  """Equation 6 and its tight form."""
  rng = np.random.default_rng(1)
  for gamma in GAMMAS:
    mdp, old, other = problems(gamma)
    alpha = rng.uniform(size=COUNT)
    loss = np.abs(b.loss(mdp, old, cpi.mixture(old, other, alpha)))
    tight = b.tight_mixture_penalty(mdp, old, other, alpha)
    assert np.all(loss <= tight + rounding(mdp))
    assert np.all(tight <= b.mixture_penalty(mdp, old, other, alpha))


def check_theorem_1(b):
  """Equation 8, its tight form, and equation 9."""
  for gamma in GAMMAS:
    mdp, old, new = problems(gamma)
    loss = np.abs(b.loss(mdp, old, new))
    tight = b.tight_tv_penalty(mdp, old, new)
    plain = b.tv_penalty(mdp, old, new)
    assert np.all(loss <= tight + rounding(mdp))
    assert np.all(tight <= plain)
    assert np.all(plain <= b.kl_penalty(mdp, old, new))


def with_a_spare_state(mdp, *policies):
  """Adds a state in which nothing differs: a mean over states notices."""
  states, actions = mdp.rewards.shape
  transitions = np.zeros((states + 1, actions, states + 1))
  transitions[:-1, :, :-1], transitions[-1, :, -1] = mdp.transitions, 1
  rewards = np.vstack([mdp.rewards, np.zeros(actions)])
  spare = np.full(actions, 1 / actions)
  return (
    mdp_lib.MDP(transitions, rewards, np.append(mdp.start, 0), mdp.gamma),
    *(np.vstack([pi, spare]) for pi in policies),
  )


def check_by_loops(b):
  """Equations 7 to 9 term by term."""
  for gamma in GAMMAS:
    mdp, old, new = problems(gamma)
    a_old = mdp_lib.advantages(mdp, old)
    tv, kl = b.tv_penalty(mdp, old, new), b.kl_penalty(mdp, old, new)
    for i in range(20):
      pairs = [(s, a) for s in range(S) for a in range(A)]
      eps = max(abs(a_old[i, s, a]) for s, a in pairs)
      alpha = max(
        sum(abs(old[i, s, a] - new[i, s, a]) for a in range(A)) / 2
        for s in range(S)
      )
      largest = max(
        sum(
          old[i, s, a] * np.log(old[i, s, a] / new[i, s, a]) for a in range(A)
        )
        for s in range(S)
      )
      c = 4 * eps * gamma / (1 - gamma) ** 2
      np.testing.assert_allclose(tv[i], c * alpha**2, rtol=1e-10)
      np.testing.assert_allclose(kl[i], c * largest, rtol=1e-6)


def check_attained(b):
  """On the worst cases the tight penalties are the loss itself."""
  for gamma in GAMMAS:
    for alpha in (0.01, 0.3, 0.5):
      mdp, old, other = with_a_spare_state(*worst_cases.for_mixtures(gamma))
      loss = b.loss(mdp, old, cpi.mixture(old, other, alpha))
      tight = b.tight_mixture_penalty(mdp, old, other, alpha)
      np.testing.assert_allclose(loss, tight, rtol=1e-11)
      plain = b.mixture_penalty(mdp, old, other, alpha)
      factor = (1 - gamma) / (1 - gamma * (1 - alpha))
      np.testing.assert_allclose(tight / plain, factor, rtol=1e-11)
      mdp, old, new = with_a_spare_state(
        *worst_cases.for_total_variation(gamma, alpha)
      )
      loss, tight = b.loss(mdp, old, new), b.tight_tv_penalty(mdp, old, new)
      np.testing.assert_allclose(loss, tight, rtol=1e-11)
      plain = b.tv_penalty(mdp, old, new)
      np.testing.assert_allclose(tight / plain, factor, rtol=1e-11)
      np.testing.assert_allclose(
        b.penalty_coefficient(mdp, old), plain / alpha**2, rtol=1e-11
      )


def check_algorithm_1(b):
  """Equation 10: eta grows by what M grows, which is positive."""
  for gamma in GAMMAS:
    mdp, pi, _ = problems(gamma, LOOK_ALIKE)
    for _ in range(3):
      c = b.penalty_coefficient(mdp, pi)
      new = minorize_maximize.step(mdp, pi, c)
      before = mdp_lib.expected_return(mdp, pi)
      promised = minorize_maximize.minorizer(mdp, pi, new, c) - before
      gained = mdp_lib.expected_return(mdp, new) - before
      assert np.all(promised >= -rounding(mdp))
      assert np.all(gained >= promised - rounding(mdp))
      pi = new


def check_cpi(b):
  """Equation 6 with its best alpha: eta grows by what it promises."""
  for gamma in GAMMAS:
    mdp, pi, _ = problems(gamma, LOOK_ALIKE)
    for _ in range(10):
      other = cpi.greedy(mdp, pi)
      alpha = cpi.step_size(mdp, pi, other)
      new = cpi.mixture(pi, other, alpha)
      before = mdp_lib.expected_return(mdp, pi)
      promised = b.local_approximation(mdp, pi, new) - before
      promised = promised - b.mixture_penalty(mdp, pi, other, alpha)
      assert np.all(promised >= -rounding(mdp))
      gained = mdp_lib.expected_return(mdp, new) - before
      assert np.all(gained >= promised - rounding(mdp))
      pi = new


CHECKS = (
  check_identity,
  check_first_order,
  check_mixture_bound,
  check_theorem_1,
  check_by_loops,
  check_attained,
  check_algorithm_1,
  check_cpi,
)


@pytest.mark.slow
@pytest.mark.parametrize('check', CHECKS, ids=lambda c: c.__name__)
def test_holds(check):
  check(bounds)


def mutant(module, before, after):
  """The bounds module with one piece of its source, or mdp's, replaced."""
  source = inspect.getsource(module)
  assert before in source
  changed = types.ModuleType(module.__name__ + '_mutant')
  exec(source.replace(before, after), changed.__dict__)
  if module is bounds:
    return changed
  whole = types.ModuleType('bounds_mutant')
  exec(inspect.getsource(bounds), whole.__dict__)
  for name in ('advantages', 'visits', 'expected_return'):
    setattr(whole, name, getattr(changed, name))
  return whole


MUTATIONS = {
  'penalties without gamma': (
    bounds,
    'alpha**2 * gamma /',
    'alpha**2 /',
    check_attained,
  ),
  'penalties with 1 - gamma, not squared': (
    bounds,
    '((1 - gamma) * (1 - gamma',
    '((1 - gamma',
    check_theorem_1,
  ),
  'alpha for alpha squared': (bounds, 'alpha**2 *', 'alpha *', check_attained),
  'advantages without gamma': (
    mdp_lib,
    'mdp.gamma * follow',
    'follow',
    check_identity,
  ),
  'visits without gamma': (
    mdp_lib,
    'transposed = np.swapaxes(_bellman(mdp, pi), -1, -2)',
    'transposed = np.swapaxes(_bellman(dataclasses.replace('
    'mdp, gamma=mdp.gamma**2), pi), -1, -2)',
    check_identity,
  ),
  'identity with the visits of old': (
    bounds,
    'visits(mdp, new), new, advantages(mdp, old)',
    'visits(mdp, old), new, advantages(mdp, old)',
    check_identity,
  ),
  'L with the visits of new': (
    bounds,
    'visits(mdp, old), new, advantages(mdp, old)',
    'visits(mdp, new), new, advantages(mdp, old)',
    check_attained,
  ),
  'identity with the advantages of new': (
    bounds,
    'visits(mdp, new), new, advantages(mdp, old)',
    'visits(mdp, new), new, advantages(mdp, new)',
    check_identity,
  ),
  'normalised visits': (
    mdp_lib,
    'mdp.start[..., np.newaxis])[..., 0]\n\n\ndef adv',
    'mdp.start[..., np.newaxis])[..., 0] * (1 - mdp.gamma)\n\n\ndef adv',
    check_first_order,
  ),
  'eps of mixtures: the largest advantage': (
    bounds,
    'np.abs(expected).max(axis=-1)',
    '_largest_advantage(mdp, old)',
    check_attained,
  ),
  'eps of mixtures: signed': (
    bounds,
    'np.abs(expected)',
    'expected',
    check_mixture_bound,
  ),
  'eps of mixtures: of the old policy': (
    bounds,
    "'...sa,...sa->...s', other",
    "'...sa,...sa->...s', old",
    check_mixture_bound,
  ),
  'eps of mixtures: the mean over states': (
    bounds,
    'np.abs(expected).max',
    'np.abs(expected).mean',
    check_attained,
  ),
  'eps of theorem 1: signed': (
    bounds,
    'np.abs(advantages(mdp, old))',
    'advantages(mdp, old)',
    check_by_loops,
  ),
  'eps of theorem 1: the mean': (
    bounds,
    'np.abs(advantages(mdp, old)).max',
    'np.abs(advantages(mdp, old)).mean',
    check_attained,
  ),
  'two for four': (bounds, '4 * _largest', '2 * _largest', check_attained),
  'mean total variation': (
    bounds,
    'total_variation(old, new).max',
    'total_variation(old, new).mean',
    check_attained,
  ),
  'mean KL': (bounds, 'kl(old, new).max', 'kl(old, new).mean', check_theorem_1),
  'a thousandth of C': (
    bounds,
    '_both(mdp.gamma, 1, 0)',
    '1e-3 * _both(mdp.gamma, 1, 0)',
    check_algorithm_1,
  ),
}


@pytest.mark.parametrize('name', MUTATIONS)
def test_mutation(name):
  module, before, after, check = MUTATIONS[name]
  with pytest.raises(AssertionError):
    check(mutant(module, before, after))


def test_trust_regions_keep_their_bound_and_differ():
  mdp, _, _ = problems(0.9, LOOK_ALIKE)
  old = worlds.random_policies(np.random.default_rng(2), mdp, 3.0)
  share = mdp_lib.visits(mdp, old) * (1 - mdp.gamma)
  by_max = trust_region.max_kl_step(mdp, old, 0.01)
  by_mean = trust_region.mean_kl_step(mdp, old, 0.01)
  kl = divergences.kl(old, by_max)
  np.testing.assert_allclose(kl, 0.01, rtol=1e-9)
  kl = divergences.kl(old, by_mean)
  np.testing.assert_allclose((share * kl).sum(axis=-1), 0.01, rtol=1e-9)
  # The mean bound holds for the max step too, so the mean step gains more.
  gain = lambda new: bounds.local_approximation(mdp, old, new)
  assert np.all(gain(by_mean) >= gain(by_max) - rounding(mdp))
  # and no multiple of its direction is the max step: states move unlike.
  moved = [np.abs(new - old).sum(axis=-1) for new in (by_max, by_mean)]
  unlike = np.ptp(np.log(moved[0] / moved[1]), axis=-1)
  assert np.median(unlike) > 0.5
