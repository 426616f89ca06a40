"""Conservative policy iteration: equations 5 and 6 of the paper.

The method is that of Kakade and Langford (2002).
"""

import numpy as np

from trpo_tf.theory import bounds, observations
from trpo_tf.theory.mdp import MDP

__all__ = ['greedy', 'mixture', 'step', 'step_size']


def mixture(
  old: np.ndarray, other: np.ndarray, alpha: np.ndarray | float
) -> np.ndarray:
  """Mixes two policies by equation 5: (1 - alpha) old + alpha other.

  Args:
    old: [..., S, A] old policy.
    other: [..., S, A] policy that is mixed with the old one.
    alpha: [...] weight of `other`, in [0, 1].

  Returns:
    float64 [..., S, A].
  """
  alpha = np.asarray(alpha)[..., np.newaxis, np.newaxis]
  return (1 - alpha) * old + alpha * other


def greedy(mdp: MDP, old: np.ndarray) -> np.ndarray:
  """Returns the deterministic policy that maximises L_old.

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.

  Returns:
    float64 [..., S, A].
  """
  best = observations.gains(mdp, old).argmax(axis=-1)
  return observations.unfold(mdp, np.eye(old.shape[-1])[best])


def step_size(mdp: MDP, old: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Finds the alpha that maximises the lower bound of equation 6.

  L grows by alpha times a slope and the penalty is alpha^2 times a curvature.

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.
    other: [..., S, A] policy that is mixed with the old one.

  Returns:
    float64 [...], in [0, 1].
  """
  slope = bounds.local_approximation(mdp, old, other)
  slope = slope - bounds.local_approximation(mdp, old, old)
  curvature = bounds.mixture_penalty(mdp, old, other, 1.0)
  with np.errstate(divide='ignore', invalid='ignore'):
    alpha = slope / (2 * curvature)
  return np.clip(np.nan_to_num(alpha), 0, 1)


def step(mdp: MDP, old: np.ndarray) -> np.ndarray:
  """Takes one step; eta grows by at least what equation 6 promises.

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.

  Returns:
    The new policy, float64 [..., S, A].
  """
  other = greedy(mdp, old)
  return mixture(old, other, step_size(mdp, old, other))
