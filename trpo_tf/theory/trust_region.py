"""Exact steps in trust regions: equations 11 (max KL) and 12 (mean KL).

Both steps maximise L over all policies, not along a direction, so nothing is
linearised. Where states look alike, neither step promises that eta grows.
"""

import numpy as np

from trpo_tf.theory import observations, statewise
from trpo_tf.theory.mdp import MDP
from trpo_tf.theory.roots import find_root

__all__ = ['max_kl_step', 'mean_kl_step']

_TINY = np.finfo(np.float64).tiny


def max_kl_step(mdp: MDP, old: np.ndarray, delta: float) -> np.ndarray:
  """Maximises L_old(new) subject to KL(old || new) <= delta in every state.

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.
    delta: bound in nats.

  Returns:
    The new policy, float64 [..., S, A].
  """
  best = statewise.of_divergence(
    observations.seen(mdp, old), observations.gains(mdp, old), delta
  )
  return observations.unfold(mdp, best.policy)


def mean_kl_step(mdp: MDP, old: np.ndarray, delta: float) -> np.ndarray:
  """Maximises L_old(new) subject to mean KL(old || new) <= delta.

  The mean is over old's normalised discounted visits. One multiplier serves
  all observations, so the policy moves most where the actions differ most.

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.
    delta: bound in nats.

  Returns:
    The new policy, float64 [..., S, A].
  """
  rows = observations.seen(mdp, old)
  shares = observations.visit_shares(mdp, old)
  gains = observations.gains(mdp, old)
  gains = gains / np.where(shares > 0, shares, 1)[..., np.newaxis]

  def solve(log_multiplier: np.ndarray) -> statewise.Solution:
    multiplier = np.exp(log_multiplier)[..., np.newaxis]
    return statewise.of_multiplier(rows, gains, multiplier)

  def excess(log_multiplier: np.ndarray) -> np.ndarray:
    mean = (shares * solve(log_multiplier).divergence).sum(axis=-1)
    return np.log(np.maximum(mean, _TINY)) - np.log(delta)

  largest = np.abs(gains).max(axis=(-1, -2))
  largest = np.where(largest > 0, largest, 1)
  # nu is at least lambda; see statewise.of_divergence.
  high = np.log(largest * (2 + 2 / np.sqrt(delta)))
  low = np.log(largest) - 300 * np.log(10)
  best = solve(find_root(excess, low, high)).policy
  return observations.unfold(mdp, best)
