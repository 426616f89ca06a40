"""Conservative policy iteration (Kakade and Langford 2002): equations 5, 6."""

import numpy as np

from trpo_tf.theory import bounds, observations
from trpo_tf.theory.mdp import MDP

__all__ = ['greedy', 'mixture', 'step', 'step_size']


def mixture(
  old: np.ndarray, other: np.ndarray, alpha: np.ndarray | float
) -> np.ndarray:
  """Equation 5: (1 - alpha) old + alpha other; alpha is [...]."""
  alpha = np.asarray(alpha)[..., np.newaxis, np.newaxis]
  return (1 - alpha) * old + alpha * other


def greedy(mdp: MDP, old: np.ndarray) -> np.ndarray:
  """The deterministic policy that maximises L_old, [..., S, A]."""
  best = observations.gains(mdp, old).argmax(axis=-1)
  return observations.unfold(mdp, np.eye(old.shape[-1])[best])


def step_size(mdp: MDP, old: np.ndarray, other: np.ndarray) -> np.ndarray:
  """The alpha [...] in [0, 1] with the largest lower bound of equation 6.

  L grows by alpha times a slope, the penalty by alpha^2 times a curvature.
  """
  slope = bounds.local_approximation(mdp, old, other)
  slope = slope - bounds.local_approximation(mdp, old, old)
  curvature = bounds.mixture_penalty(mdp, old, other, 1.0)
  with np.errstate(divide='ignore', invalid='ignore'):
    alpha = slope / (2 * curvature)
  return np.clip(np.nan_to_num(alpha), 0, 1)


def step(mdp: MDP, old: np.ndarray) -> np.ndarray:
  """One iteration: eta grows by at least what equation 6 promises."""
  other = greedy(mdp, old)
  return mixture(old, other, step_size(mdp, old, other))
