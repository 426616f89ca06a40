"""Rewrites L in terms of observations, with one row for each.

Let B(o, a) be the sum of rho_old(s) A_old(s, a) over the states that are seen
as o. Then

  L_old(new) = eta(old) + sum_o sum_a new(a|o) B(o, a),

so every step of this package is solved in tables [..., O, A].
"""

import numpy as np

from trpo_tf.theory.mdp import MDP, advantages, visits

__all__ = ['gains', 'seen', 'unfold', 'visit_shares']


def gains(mdp: MDP, old: np.ndarray) -> np.ndarray:
  """Computes B, whose mean over old's actions is 0.

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.

  Returns:
    float64 [..., O, A], in units of return.
  """
  weighted = visits(mdp, old)[..., np.newaxis] * advantages(mdp, old)
  return np.einsum('so,...sa->...oa', _one_hot(mdp), weighted)


def visit_shares(mdp: MDP, old: np.ndarray) -> np.ndarray:
  """Computes the normalised discounted visits of each observation.

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.

  Returns:
    float64 [..., O], which sums to 1.
  """
  shares = visits(mdp, old) @ _one_hot(mdp)
  return shares / shares.sum(axis=-1, keepdims=True)


def seen(mdp: MDP, pi: np.ndarray) -> np.ndarray:
  """Takes one row for each observation from a policy.

  Args:
    mdp: [...] problems.
    pi: [..., S, A] policy that acts alike in states that look alike.

  Returns:
    float64 [..., O, A].
  """
  return pi[..., np.argmax(_one_hot(mdp), axis=0), :]


def unfold(mdp: MDP, rows: np.ndarray) -> np.ndarray:
  """Repeats the rows for all states: the inverse of `seen`.

  Args:
    mdp: [...] problems.
    rows: [..., O, A] policy by observation.

  Returns:
    float64 [..., S, A].
  """
  return rows[..., np.argmax(_one_hot(mdp), axis=1), :]


def _one_hot(mdp: MDP) -> np.ndarray:
  """Returns float64 [S, O], which is 1 at each state's observation."""
  states = mdp.start.shape[-1]
  if mdp.observations is None:
    return np.eye(states)
  return np.eye(np.max(mdp.observations) + 1)[mdp.observations]
