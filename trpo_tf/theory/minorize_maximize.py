"""Algorithm 1: maximises the lower bound of equation 9 exactly."""

import numpy as np

from trpo_tf.theory import bounds, divergences, observations, statewise
from trpo_tf.theory.mdp import MDP
from trpo_tf.theory.roots import find_root

__all__ = ['minorizer', 'predicted_divergence', 'step']


def minorizer(
  mdp: MDP, old: np.ndarray, new: np.ndarray, coefficient: np.ndarray
) -> np.ndarray:
  """Computes M(new) = L_old(new) - coefficient max_s KL(old || new).

  This is equation 10.

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.
    new: [..., S, A] new policy.
    coefficient: [...] penalty per nat, in units of return.

  Returns:
    float64 [...], in units of return.
  """
  penalty = coefficient * divergences.kl(old, new).max(axis=-1)
  return bounds.local_approximation(mdp, old, new) - penalty


def step(
  mdp: MDP, old: np.ndarray, coefficient: np.ndarray | None = None
) -> np.ndarray:
  """Takes one step of algorithm 1.

  Given the largest divergence kappa, every observation takes the policy that is
  best within kappa. The gain is concave in kappa and its derivative is the sum
  of the multipliers. The best kappa is where that sum equals the coefficient.
  No direction is searched and nothing is linearised.

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.
    coefficient: [...] penalty per nat, in units of return; None for the C of
      equation 9, with which eta is certain to grow.

  Returns:
    argmax_pi M(pi), float64 [..., S, A].
  """
  if coefficient is None:
    coefficient = bounds.penalty_coefficient(mdp, old)
  gains, rows = observations.gains(mdp, old), observations.seen(mdp, old)
  guess = _small_step(rows, gains, coefficient)
  still = ~(guess > 0)  # no action is better than another
  guess, c = np.where(still, 1, guess), np.where(still, 1, coefficient)

  def solve(log_kappa: np.ndarray) -> statewise.Solution:
    kappa = np.exp(log_kappa)[..., np.newaxis]
    return statewise.of_divergence(rows, gains, kappa)

  def excess(log_kappa: np.ndarray) -> np.ndarray:
    slope = solve(log_kappa).multiplier.sum(axis=-1)
    return np.log(slope + still) - np.log(c)

  # The total gain is at most the sum of the largest gains, which bounds kappa.
  most = gains.max(axis=-1).sum(axis=-1) / c
  high = np.log(np.maximum(most, 10 * guess))
  best = solve(find_root(excess, np.log(1e-6 * guess), high)).policy
  return observations.unfold(
    mdp, np.where(still[..., np.newaxis, np.newaxis], rows, best)
  )


def predicted_divergence(mdp: MDP, old: np.ndarray) -> np.ndarray:
  """Predicts max_s KL(old || new) of `step` in closed form, for small steps.

  The prediction is (sum_o sigma(o))^2 / (2 C^2), where sigma(o) is the standard
  deviation of the gains over old's actions. Where the states themselves are
  seen, it is (1 - gamma)^2 / (32 gamma^2) (mean sigma / max |A|)^2, where
  sigma(s) is the standard deviation of A_old(s, a).

  Args:
    mdp: [...] problems.
    old: [..., S, A] old policy.

  Returns:
    float64 [...], in nats.
  """
  return _small_step(
    observations.seen(mdp, old),
    observations.gains(mdp, old),
    bounds.penalty_coefficient(mdp, old),
  )


def _small_step(
  rows: np.ndarray, gains: np.ndarray, coefficient: np.ndarray
) -> np.ndarray:
  sigma = np.sqrt((rows * gains**2).sum(axis=-1)).sum(axis=-1)
  with np.errstate(divide='ignore', invalid='ignore'):
    return np.nan_to_num((sigma / coefficient) ** 2 / 2, posinf=0)
