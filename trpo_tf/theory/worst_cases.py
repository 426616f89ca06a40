"""Two-state problems that lose exactly what the bounds allow.

Each attains its tight penalty for every gamma and alpha, so neither constant
can be improved. State 0 is what the old policy never leaves. The new one
leaves it with probability alpha per step and for ever; it gains in state 0,
which L counts at every step, and loses as much in state 1, which L never
sees. The old policy earns nothing, so that rewards are advantages.
"""

import numpy as np

from trpo_tf.theory.mdp import MDP

__all__ = ['for_mixtures', 'for_total_variation']

_HERE, _LEAVE = [1.0, 0.0], [0.0, 1.0]


def for_mixtures(gamma: float) -> tuple[MDP, np.ndarray, np.ndarray]:
  """A problem, an old and another policy, to be mixed with any alpha.

  The third action is never taken: its large advantage must not matter.
  """
  transitions = np.array([[_HERE, _LEAVE, _HERE], [_LEAVE, _LEAVE, _LEAVE]])
  rewards = np.array([[0.0, 1.0, -9.0], [0.0, -1.0, -9.0]])
  first, second = np.eye(3)[[0, 0]], np.eye(3)[[1, 1]]
  return MDP(transitions, rewards, np.array(_HERE), gamma), first, second


def for_total_variation(
  gamma: float, alpha: float
) -> tuple[MDP, np.ndarray, np.ndarray]:
  """A problem, an old and a new policy with D_TV = alpha <= 1/2 everywhere."""
  transitions = np.array([[_HERE, _HERE, _LEAVE], [_LEAVE, _LEAVE, _LEAVE]])
  rewards = np.array([[1.0, -1.0, 1.0], [1.0, -1.0, 1.0]])
  old = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
  shift = alpha * np.array([[0.0, -1.0, 1.0], [-1.0, 1.0, 0.0]])
  return MDP(transitions, rewards, np.array(_HERE), gamma), old, old + shift
