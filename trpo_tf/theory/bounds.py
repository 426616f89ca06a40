"""Bounds on how much of the gain that L promises can be lost.

These are equations 1 to 9 of Schulman et al. 2015 (arXiv 1502.05477v5), with
the paper's names eps, alpha and C. A penalty is an upper bound of
|eta(new) - L_old(new)|. The `tight` penalties are what the proofs give before
they bound 1 - gamma (1 - alpha) by 1 - gamma.
"""

import numpy as np

from trpo_tf.theory import divergences
from trpo_tf.theory.mdp import MDP, advantages, expected_return, visits

__all__ = [
  'kl_penalty',
  'local_approximation',
  'loss',
  'mixture_penalty',
  'penalty_coefficient',
  'policy_advantage',
  'return_by_advantages',
  'tight_mixture_penalty',
  'tight_tv_penalty',
  'tv_penalty',
]


def policy_advantage(
  rho: np.ndarray, new: np.ndarray, a_old: np.ndarray
) -> np.ndarray:
  """Computes sum_s rho(s) sum_a new(a|s) A_old(s, a).

  Args:
    rho: [..., S] discounted visits, unnormalised.
    new: [..., S, A] new policy.
    a_old: [..., S, A] advantages of the old policy.

  Returns:
    float64 [...], in units of return.
  """
  return np.einsum('...s,...sa,...sa->...', rho, new, a_old)


def return_by_advantages(
  mdp: MDP, old: np.ndarray, new: np.ndarray
) -> np.ndarray:
  """Computes the right side of equation 2, which equals eta(new).

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.
    new: [..., S, A] new policy.

  Returns:
    float64 [...], in units of return.
  """
  gain = policy_advantage(visits(mdp, new), new, advantages(mdp, old))
  return expected_return(mdp, old) + gain


def local_approximation(
  mdp: MDP, old: np.ndarray, new: np.ndarray
) -> np.ndarray:
  """Computes L_old(new), equation 3: equation 2 with old's visits.

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.
    new: [..., S, A] new policy.

  Returns:
    float64 [...], in units of return.
  """
  gain = policy_advantage(visits(mdp, old), new, advantages(mdp, old))
  return expected_return(mdp, old) + gain


def loss(mdp: MDP, old: np.ndarray, new: np.ndarray) -> np.ndarray:
  """Computes L_old(new) - eta(new), by which L promises too much.

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.
    new: [..., S, A] new policy.

  Returns:
    float64 [...], in units of return.
  """
  return local_approximation(mdp, old, new) - expected_return(mdp, new)


def mixture_penalty(
  mdp: MDP, old: np.ndarray, other: np.ndarray, alpha: np.ndarray | float
) -> np.ndarray:
  """Computes the penalty of equation 6 for (1 - alpha) old + alpha other.

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.
    other: [..., S, A] policy that is mixed with the old one.
    alpha: [...] weight of `other`, in [0, 1].

  Returns:
    float64 [...], in units of return.
  """
  return 2 * _mixture_eps(mdp, old, other) * _both(mdp.gamma, alpha, 0)


def tight_mixture_penalty(
  mdp: MDP, old: np.ndarray, other: np.ndarray, alpha: np.ndarray | float
) -> np.ndarray:
  """Computes the tight form of `mixture_penalty`.

  It is that of Kakade and Langford (2002, theorem 4.1).

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.
    other: [..., S, A] policy that is mixed with the old one.
    alpha: [...] weight of `other`, in [0, 1].

  Returns:
    float64 [...], in units of return.
  """
  return 2 * _mixture_eps(mdp, old, other) * _both(mdp.gamma, alpha, alpha)


def tv_penalty(mdp: MDP, old: np.ndarray, new: np.ndarray) -> np.ndarray:
  """Computes the penalty of equation 8 (theorem 1).

  Its alpha is max_s D_TV(old || new), equation 7.

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.
    new: [..., S, A] new policy.

  Returns:
    float64 [...], in units of return.
  """
  alpha = divergences.total_variation(old, new).max(axis=-1)
  return 4 * _largest_advantage(mdp, old) * _both(mdp.gamma, alpha, 0)


def tight_tv_penalty(mdp: MDP, old: np.ndarray, new: np.ndarray) -> np.ndarray:
  """Computes `tv_penalty` before the last step of its proof (appendix A).

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.
    new: [..., S, A] new policy.

  Returns:
    float64 [...], in units of return.
  """
  alpha = divergences.total_variation(old, new).max(axis=-1)
  return 4 * _largest_advantage(mdp, old) * _both(mdp.gamma, alpha, alpha)


def penalty_coefficient(mdp: MDP, old: np.ndarray) -> np.ndarray:
  """Computes C = 4 eps gamma / (1 - gamma)^2 of equation 9.

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.

  Returns:
    float64 [...], in units of return per nat.
  """
  return 4 * _largest_advantage(mdp, old) * _both(mdp.gamma, 1, 0)


def kl_penalty(mdp: MDP, old: np.ndarray, new: np.ndarray) -> np.ndarray:
  """Computes the penalty C max_s D_KL(old || new) of equation 9.

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.
    new: [..., S, A] new policy.

  Returns:
    float64 [...], in units of return.
  """
  largest = divergences.kl(old, new).max(axis=-1)
  return penalty_coefficient(mdp, old) * largest


def _mixture_eps(mdp: MDP, old: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Computes max_s |E_{a ~ other} A_old(s, a)|, [...]."""
  expected = np.einsum('...sa,...sa->...s', other, advantages(mdp, old))
  return np.abs(expected).max(axis=-1)


def _largest_advantage(mdp: MDP, old: np.ndarray) -> np.ndarray:
  """Computes max_{s, a} |A_old(s, a)|, [...]."""
  return np.abs(advantages(mdp, old)).max(axis=(-1, -2))


def _both(
  gamma: float, alpha: np.ndarray | float, apart: np.ndarray | float
) -> np.ndarray | float:
  """Computes alpha times the discounted time for which the policies differ.

  The result is alpha sum_t gamma^t (1 - (1 - alpha)^t) if apart = alpha, and
  at least that if apart = 0.
  """
  return alpha**2 * gamma / ((1 - gamma) * (1 - gamma * (1 - apart)))
