"""How much of the gain that L promises can be lost: equations 1 to 9.

Schulman et al. 2015 (arXiv 1502.05477v5). eps, alpha and C are theirs. A
penalty is an upper bound of |eta(new) - L_old(new)|; `tight` penalties are
what the proofs give before 1 - gamma (1 - alpha) is rounded to 1 - gamma.
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
  """sum_s rho(s) sum_a new(a|s) A_old(s, a), [...]."""
  return np.einsum('...s,...sa,...sa->...', rho, new, a_old)


def return_by_advantages(
  mdp: MDP, old: np.ndarray, new: np.ndarray
) -> np.ndarray:
  """The right side of equation 2, equal to eta(new), [...]."""
  gain = policy_advantage(visits(mdp, new), new, advantages(mdp, old))
  return expected_return(mdp, old) + gain


def local_approximation(
  mdp: MDP, old: np.ndarray, new: np.ndarray
) -> np.ndarray:
  """L_old(new), equation 3: as equation 2, but with old's visits, [...]."""
  gain = policy_advantage(visits(mdp, old), new, advantages(mdp, old))
  return expected_return(mdp, old) + gain


def loss(mdp: MDP, old: np.ndarray, new: np.ndarray) -> np.ndarray:
  """L_old(new) - eta(new) [...]: what L promises too much."""
  return local_approximation(mdp, old, new) - expected_return(mdp, new)


def mixture_penalty(
  mdp: MDP, old: np.ndarray, other: np.ndarray, alpha: np.ndarray | float
) -> np.ndarray:
  """Equation 6: of new = (1 - alpha) old + alpha other, [...]."""
  return 2 * _mixture_eps(mdp, old, other) * _both(mdp.gamma, alpha, 0)


def tight_mixture_penalty(
  mdp: MDP, old: np.ndarray, other: np.ndarray, alpha: np.ndarray | float
) -> np.ndarray:
  """Kakade and Langford's (2002, theorem 4.1) form of `mixture_penalty`."""
  return 2 * _mixture_eps(mdp, old, other) * _both(mdp.gamma, alpha, alpha)


def tv_penalty(mdp: MDP, old: np.ndarray, new: np.ndarray) -> np.ndarray:
  """Theorem 1, equation 8, with alpha = max_s D_TV, equation 7; [...]."""
  alpha = divergences.total_variation(old, new).max(axis=-1)
  return 4 * _largest_advantage(mdp, old) * _both(mdp.gamma, alpha, 0)


def tight_tv_penalty(mdp: MDP, old: np.ndarray, new: np.ndarray) -> np.ndarray:
  """`tv_penalty` before the last step of its proof (appendix A), [...]."""
  alpha = divergences.total_variation(old, new).max(axis=-1)
  return 4 * _largest_advantage(mdp, old) * _both(mdp.gamma, alpha, alpha)


def penalty_coefficient(mdp: MDP, old: np.ndarray) -> np.ndarray:
  """C = 4 eps gamma / (1 - gamma)^2 of equation 9, [...]."""
  return 4 * _largest_advantage(mdp, old) * _both(mdp.gamma, 1, 0)


def kl_penalty(mdp: MDP, old: np.ndarray, new: np.ndarray) -> np.ndarray:
  """Equation 9: C max_s D_KL(old || new), [...]."""
  largest = divergences.kl(old, new).max(axis=-1)
  return penalty_coefficient(mdp, old) * largest


def _mixture_eps(mdp: MDP, old: np.ndarray, other: np.ndarray) -> np.ndarray:
  """max_s |E_{a ~ other} A_old(s, a)|."""
  expected = np.einsum('...sa,...sa->...s', other, advantages(mdp, old))
  return np.abs(expected).max(axis=-1)


def _largest_advantage(mdp: MDP, old: np.ndarray) -> np.ndarray:
  """max_{s, a} |A_old(s, a)|."""
  return np.abs(advantages(mdp, old)).max(axis=(-1, -2))


def _both(
  gamma: float, alpha: np.ndarray | float, apart: np.ndarray | float
) -> np.ndarray | float:
  """Alpha times the discounted time that both policies have been apart.

  Equal to alpha sum_t gamma^t (1 - (1 - alpha)^t) if apart = alpha, and at
  least that if apart = 0.
  """
  return alpha**2 * gamma / ((1 - gamma) * (1 - gamma * (1 - apart)))
