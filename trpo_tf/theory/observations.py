"""What a policy sees: L in terms of one row per observation.

With B(o, a) = sum over the states seen as o of rho_old(s) A_old(s, a),

  L_old(new) = eta(old) + sum_o sum_a new(a|o) B(o, a),

so that every step of this package is solved in [..., O, A] tables.
"""

import numpy as np

from trpo_tf.theory.mdp import MDP, advantages, visits

__all__ = ['gains', 'seen', 'unfold', 'visit_shares']


def gains(mdp: MDP, old: np.ndarray) -> np.ndarray:
  """B [..., O, A]; its mean over old's actions is 0."""
  weighted = visits(mdp, old)[..., np.newaxis] * advantages(mdp, old)
  return np.einsum('so,...sa->...oa', _one_hot(mdp), weighted)


def visit_shares(mdp: MDP, old: np.ndarray) -> np.ndarray:
  """The normalised discounted visits [..., O]; they sum to 1."""
  shares = visits(mdp, old) @ _one_hot(mdp)
  return shares / shares.sum(axis=-1, keepdims=True)


def seen(mdp: MDP, pi: np.ndarray) -> np.ndarray:
  """One row per observation, [..., O, A], of a policy [..., S, A]."""
  return pi[..., np.argmax(_one_hot(mdp), axis=0), :]


def unfold(mdp: MDP, rows: np.ndarray) -> np.ndarray:
  """The inverse of `seen`: [..., S, A] of [..., O, A]."""
  return rows[..., np.argmax(_one_hot(mdp), axis=1), :]


def _one_hot(mdp: MDP) -> np.ndarray:
  """[S, O]."""
  states = mdp.start.shape[-1]
  if mdp.observations is None:
    return np.eye(states)
  return np.eye(np.max(mdp.observations) + 1)[mdp.observations]
