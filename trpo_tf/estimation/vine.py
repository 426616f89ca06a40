"""The vine's surrogate objectives and their Q-values (section 5.2).

The vine tries K actions at each of N rollout states and follows each action by
M branches. The objectives give terms [N], as those of `surrogate` do, and work
with the same steps.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from trpo_tf.estimation.surrogate import Objective
from trpo_tf.sampling.batch import End

__all__ = [
  'OBJECTIVES',
  'VineData',
  'all_actions',
  'divisor',
  'importance_sampled',
  'mean_baseline',
  'q_values',
  'self_normalized',
  'spread',
]


class VineData(NamedTuple):
  """The data of each rollout state that the vine's objectives need.

  Attributes:
    actions: [N, K, A] float64 (Gaussian) or int32 (categorical), unclipped.
    log_q: [N, K], log-probability of the actions under the proposal q.
    q_values: float64 [N, K], estimates of Q_old(s_n, a_nk), in any unit.
  """

  actions: tf.Tensor
  log_q: tf.Tensor
  q_values: tf.Tensor


def _log_probs(distribution: tfd.Distribution, actions: tf.Tensor) -> tf.Tensor:
  """Returns log-probabilities [N, K] of K actions [N, K, A] in each state."""
  # Shapes broadcast from the right: K goes before the batch [N].
  by_action = tf.transpose(actions, [1, 0, 2])
  return tf.transpose(distribution.log_prob(by_action))


def _log_weights(distribution: tfd.Distribution, data: VineData) -> tf.Tensor:
  """Returns log(pi / q) of every action, float64 [N, K]."""
  log_q = tf.cast(data.log_q, tf.float64)
  return _log_probs(distribution, data.actions) - log_q


def importance_sampled(
  distribution: tfd.Distribution, data: VineData
) -> tf.Tensor:
  """Computes the unbiased terms mean_k w_k Q_k.

  The weights are w_k = pi(a_k|s) / q(a_k|s).

  Args:
    distribution: the policy's, float64, batch [N].
    data: actions, their log_q and Q.

  Returns:
    float64 [N].
  """
  weights = tf.exp(_log_weights(distribution, data))
  return tf.reduce_mean(weights * data.q_values, axis=1)


def self_normalized(
  distribution: tfd.Distribution, data: VineData
) -> tf.Tensor:
  """Computes the terms sum_k w_k Q_k / sum_k w_k of equation 16.

  A constant added to the Q_k of a state changes neither the gradient nor the
  improvement, so that this objective needs no baseline. It needs K >= 2. At
  q = pi = pi_old its expected gradient is 1 - 1/K of the exact one.

  Args:
    distribution: the policy's, float64, batch [N].
    data: actions, their log_q and Q.

  Returns:
    float64 [N].
  """
  # The softmax is w_k / sum_k w_k without an overflow of w_k.
  shares = tf.nn.softmax(_log_weights(distribution, data), axis=1)
  return tf.reduce_sum(shares * data.q_values, axis=1)


def mean_baseline(distribution: tfd.Distribution, data: VineData) -> tf.Tensor:
  """Computes the terms mean_k w_k (Q_k - mean_k Q) of the authors' 2015 code.

  Their expectation is 1 - 1/K of the exact improvement over q, for every pi.
  Their gradient at q = pi is that of `self_normalized`.

  Args:
    distribution: the policy's, float64, batch [N].
    data: actions, their log_q and Q.

  Returns:
    float64 [N].
  """
  weights = tf.exp(_log_weights(distribution, data))
  mean = tf.reduce_mean(data.q_values, axis=1, keepdims=True)
  return tf.reduce_mean(weights * (data.q_values - mean), axis=1)


def all_actions(distribution: tfd.Distribution, data: VineData) -> tf.Tensor:
  """Computes the terms sum_k pi(a_k|s) Q_k of equation 15.

  The K actions are every action of a discrete space once; log_q is not used.

  Args:
    distribution: the policy's, float64, batch [N].
    data: actions, their log_q and Q.

  Returns:
    float64 [N].
  """
  probabilities = tf.exp(_log_probs(distribution, data.actions))
  return tf.reduce_sum(probabilities * data.q_values, axis=1)


OBJECTIVES: dict[str, Objective] = {
  'self_normalized': self_normalized,
  'mean_baseline': mean_baseline,
  'importance_sampled': importance_sampled,
  'all_actions': all_actions,
}


def q_values(
  returns: np.ndarray,
  lengths: np.ndarray,
  ends: np.ndarray,
  final_values: np.ndarray | None,
  gamma: float,
) -> tuple[np.ndarray, np.ndarray]:
  """Averages the returns of each action's branches.

  A branch that did not terminate is continued by gamma^length times its final
  value, whether it was cut at its horizon or truncated. Where a branch failed,
  its noise sequence is left out for all K actions of the state, because actions
  are compared on the same noise.

  Args:
    returns: [N, K, M], discounted return of each branch.
    lengths: integer [N, K, M], env steps of each branch.
    ends: integer [N, K, M], bits of End at the last step; 0 where the branch
      was cut alive.
    final_values: [N, K, M], V of the last observation in units of return,
      ignored where the branch terminated or failed; None if branches are not
      continued.
    gamma: discount per env step.

  Returns:
    Q float64 [N, K], and bool [N], which says whether the state has a noise
    sequence left; Q is 0 where it has none.
  """
  totals = np.asarray(returns, np.float64)
  if final_values is not None:
    alive = (ends & End.TERMINATED) == 0
    totals = totals + np.where(alive, gamma**lengths * final_values, 0.0)
  kept = ((ends & End.DIVERGED) == 0).all(axis=1, keepdims=True)
  count = kept.sum(axis=2)
  total = np.where(kept, totals, 0.0).sum(axis=2)
  return total / np.maximum(count, 1), count[:, 0] > 0


def spread(q: np.ndarray) -> np.ndarray:
  """Returns the deviation of Q over the actions of each state.

  Args:
    q: float64 [N, K].

  Returns:
    float64 [N].
  """
  return q.std(axis=1)


def divisor(mean_spread: float, largest: float, count: int) -> float:
  """Returns what Q is divided by: its typical spread over the actions.

  The spread is the mean over states of the standard deviation over actions,
  as in the authors' 2015 code.

  Args:
    mean_spread: mean of `spread` over the states.
    largest: largest absolute value of Q.
    count: number K of actions.

  Returns:
    The mean spread; 1 where it is zero to rounding, as when no action matters.
  """
  rounding = count * np.finfo(np.float64).eps * largest
  return mean_spread if mean_spread > rounding else 1.0
