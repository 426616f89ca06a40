"""Estimators for a vine whose every simulated step enters the surrogate.

The steps of branches are on-policy experience, as those of trunks are. They
differ in two ways: they visit states late in an episode too often, which
`occupancy_weights` mends, and the first actions of a state have partners that
met the same later noise, which `Partners` turns into a control variate.
"""

from typing import NamedTuple

import numpy as np

__all__ = ['PartnerSums', 'Partners', 'occupancy_weights', 'partner_means']

_RATE = 0.2  # weight of a new batch in the coefficient


def occupancy_weights(
  timesteps: np.ndarray, branches_per_step: float, length: int
) -> np.ndarray:
  """Weights steps so that states count as often as trunks visit them.

  A branch visits step t of an episode if it starts from one of the min(L, t +
  1) states up to it. As every state of a trunk is equally likely to be one,
  step t is visited 1 + (branches / trunk steps) min(L, t + 1) times as often
  as by the trunks alone.

  Args:
    timesteps: int [N], step within the episode, of trunks and branches.
    branches_per_step: number of branches over the number of trunk steps.
    length: L, most env steps of a branch.

  Returns:
    float64 [N], one over the number of visits.
  """
  return 1 / (1 + branches_per_step * np.minimum(timesteps + 1, length))


def partner_means(
  advantages: np.ndarray, usable: np.ndarray, group: int
) -> np.ndarray:
  """Averages the advantages of the other first actions of each state.

  Partners share the state and the later noise of an action, but must not depend
  on the action itself, or their subtraction would change the expected gradient.
  The mirror image of an antithetic action depends on it.

  Args:
    advantages: float64 [N, K, M], of first actions.
    usable: bool [N, K, M], which of them can be partners.
    group: number of neighbouring actions that depend on each other: 2 for
      antithetic pairs, 1 otherwise.

  Returns:
    float64 [N, K, M]; 0 where there is no partner.
  """
  shape = N, K, M = advantages.shape

  def of_others(values: np.ndarray) -> np.ndarray:
    groups = values.reshape(N, K // group, group, M).sum(2)
    others = groups.sum(1, keepdims=True) - groups
    return np.repeat(others, group, axis=1).reshape(shape)

  count = of_others(usable.astype(np.float64))
  total = of_others(np.where(usable, advantages, 0.0))
  return np.where(count > 0, total / np.maximum(count, 1), 0.0)


class PartnerSums(NamedTuple):
  """Sums over the first actions of a batch; those of two batches add up.

  Attributes:
    actions: number of first actions.
    products: sum of d_k o_k; see Partners.
    squares: sum of o_k^2.
  """

  actions: int
  products: float
  squares: float

  @classmethod
  def of(cls, advantages: np.ndarray, means: np.ndarray) -> 'PartnerSums':
    """Sums over first actions.

    Args:
      advantages: float64 [...], d_k.
      means: float64 [...], o_k.
    """
    products, squares = advantages * means, means * means
    return cls(advantages.size, float(products.sum()), float(squares.sum()))


class Partners(NamedTuple):
  """The control variate of first actions: d_k - c o_k.

  d_k is the advantage of first action k, and o_k the mean of its partners'. The
  coefficient c comes from earlier batches, so that it is independent of the
  batch and changes no expectation.

  Attributes:
    products: running sum of d_k o_k over actions and batches.
    squares: running sum of o_k^2.
  """

  products: float = 0.0
  squares: float = 0.0

  @property
  def coefficient(self) -> float:
    """The least-squares coefficient c; 0 before the first batch."""
    return self.products / self.squares if self.squares > 0 else 0.0

  def updated(self, batch: PartnerSums) -> 'Partners':
    """Moves the sums towards the means over a batch, if it is not empty."""
    if not batch.actions:
      return self
    product, square = (
      batch.products / batch.actions,
      batch.squares / batch.actions,
    )
    return Partners(
      (1 - _RATE) * self.products + _RATE * product,
      (1 - _RATE) * self.squares + _RATE * square,
    )
