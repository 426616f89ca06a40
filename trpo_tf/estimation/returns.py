"""Monte Carlo returns and generalised advantage estimation over slots.

Arrays are [S, T] for S slots of T steps. Slot s uses the first lengths[s]
steps. The bits of `ends` are those of `End`.
"""

import numpy as np

from trpo_tf.sampling.batch import End

__all__ = ['gae', 'later_sums', 'monte_carlo']


def _scan(deltas: np.ndarray, factors: np.ndarray) -> np.ndarray:
  """Computes y[:, t] = deltas[:, t] + factors[:, t] * y[:, t + 1]."""
  result = np.empty_like(deltas)
  tail = np.zeros(len(deltas))
  for t in reversed(range(deltas.shape[1])):
    tail = deltas[:, t] + factors[:, t] * tail
    result[:, t] = tail
  return result


def _valid(shape: tuple[int, int], lengths: np.ndarray) -> np.ndarray:
  return np.arange(shape[1]) < np.asarray(lengths)[:, np.newaxis]


def monte_carlo(
  rewards: np.ndarray, ends: np.ndarray, lengths: np.ndarray, gamma: float
) -> np.ndarray:
  """Sums the discounted rewards to the end of the episode or slot.

  This is the paper's Q along a single path (section 5.1). A truncated or cut
  path earns nothing afterwards.

  Args:
    rewards: [S, T] reward of each step.
    ends: integer [S, T]; any bit ends the episode with that step.
    lengths: integer [S], valid steps of each slot.
    gamma: discount per env step.

  Returns:
    float64 [S, T], in units of return; 0 beyond lengths.
  """
  valid = _valid(rewards.shape, lengths)
  deltas = np.where(valid, rewards, 0.0)
  return _scan(deltas, np.where(valid & (ends == 0), gamma, 0.0))


def gae(
  rewards: np.ndarray,
  ends: np.ndarray,
  lengths: np.ndarray,
  values: np.ndarray,
  boundary_values: np.ndarray,
  last_values: np.ndarray,
  gamma: float,
  lam: float,
) -> tuple[np.ndarray, np.ndarray]:
  """Estimates generalised advantages (Schulman et al. 2016, equation 16).

  A step's next value is V of the next observation. It is 0 where the step
  terminated (also when it was truncated as well) or diverged, the boundary
  value where it was truncated, and the last value at the end of a slot whose
  episode goes on. No sum crosses the end of an episode.

  Args:
    rewards: [S, T] reward of each step.
    ends: integer [S, T], bits of End of each step.
    lengths: integer [S], valid steps of each slot.
    values: [S, T], V of the observation before each step.
    boundary_values: [S, T], V of the observation that each truncated step
      reached; other entries are ignored.
    last_values: [S], V of the observation after each slot's last step; ignored
      where that step ended an episode.
    gamma: discount per env step.
    lam: lambda of the estimator.

  Returns:
    Advantages and value targets (advantages + values), float64 [S, T] in units
    of return; 0 beyond lengths.
  """
  lengths = np.asarray(lengths)
  valid = _valid(rewards.shape, lengths)
  values = np.where(valid, values, 0.0)
  next_values = np.zeros(rewards.shape)
  next_values[:, :-1] = values[:, 1:]
  (used,) = np.nonzero(lengths)
  next_values[used, lengths[used] - 1] = np.asarray(last_values)[used]
  truncated = (ends & End.TRUNCATED) != 0
  next_values = np.where(truncated, boundary_values, next_values)
  cut = (ends & (End.TERMINATED | End.DIVERGED)) != 0
  next_values[cut] = 0.0
  deltas = np.where(valid, rewards + gamma * next_values - values, 0.0)
  factors = np.where(valid & (ends == 0), gamma * lam, 0.0)
  advantages = _scan(deltas, factors)
  return advantages, advantages + values


def later_sums(
  values: np.ndarray, ends: np.ndarray, lengths: np.ndarray, decay: float
) -> np.ndarray:
  """Sums a quantity of the later steps of the episode, as GAE sums its deltas.

  Args:
    values: float64 [S, T], the quantity at each step.
    ends: integer [S, T]; any bit ends the episode with that step.
    lengths: integer [S], valid steps of each slot.
    decay: factor of each later step, gamma lambda for GAE.

  Returns:
    float64 [S, T], sum over l >= 1 of decay^l values[:, t + l]; 0 where an
    episode or a slot ends.
  """
  valid = _valid(values.shape, lengths)
  here = np.where(valid, values, 0.0)
  return _scan(here, np.where(valid & (ends == 0), decay, 0.0)) - here
