"""Two-state problems that lose exactly as much as the bounds allow.

Each attains its tight penalty for every gamma and alpha, so neither constant
can be improved. The old policy never leaves state 0. The new policy leaves it
with probability alpha per step and never comes back. It gains in state 0, which
L counts at every step, and loses as much in state 1, which L never sees. The
old policy earns nothing, so rewards equal advantages.
"""

import numpy as np

from trpo_tf.theory.mdp import MDP

__all__ = ['for_mixtures', 'for_total_variation']

_HERE, _LEAVE = [1.0, 0.0], [0.0, 1.0]


def for_mixtures(gamma: float) -> tuple[MDP, np.ndarray, np.ndarray]:
  """Makes the problem that attains `bounds.tight_mixture_penalty`.

  No policy takes the third action, so its large negative advantage must not
  matter.

  Args:
    gamma: discount.

  Returns:
    The problem, the old policy [2, 3], and the policy [2, 3] to be mixed with
    it by any alpha.
  """
  transitions = np.array([[_HERE, _LEAVE, _HERE], [_LEAVE, _LEAVE, _LEAVE]])
  rewards = np.array([[0.0, 1.0, -9.0], [0.0, -1.0, -9.0]])
  first, second = np.eye(3)[[0, 0]], np.eye(3)[[1, 1]]
  return MDP(transitions, rewards, np.array(_HERE), gamma), first, second


def for_total_variation(
  gamma: float, alpha: float
) -> tuple[MDP, np.ndarray, np.ndarray]:
  """Makes the problem that attains `bounds.tight_tv_penalty`.

  Args:
    gamma: discount.
    alpha: D_TV(old || new) in every state, at most 1/2.

  Returns:
    The problem, the old policy [2, 3] and the new policy [2, 3].
  """
  transitions = np.array([[_HERE, _HERE, _LEAVE], [_LEAVE, _LEAVE, _LEAVE]])
  rewards = np.array([[1.0, -1.0, 1.0], [1.0, -1.0, 1.0]])
  old = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
  shift = alpha * np.array([[0.0, -1.0, 1.0], [-1.0, 1.0, 0.0]])
  return MDP(transitions, rewards, np.array(_HERE), gamma), old, old + shift
