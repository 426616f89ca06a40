"""Finds an observation's best policy within a KL divergence of the old one.

The problem is to maximise sum_a pi(a) B(a) subject to KL(old || pi) <= kappa.
Its solution is

  pi(a) = lambda old(a) / (nu - B(a)),

where nu lies above the largest gain and lambda, the multiplier of the
constraint, makes pi sum to 1. A larger nu means a smaller step. Only actions
that old takes are considered. All rows [..., O, A] of any number of problems
are solved at once. The results hold even for steps so small that pi differs
from old in the last digits alone. A row is an observation (observations.py) or
a state.
"""

import dataclasses

import numpy as np

from trpo_tf.theory.roots import find_root

__all__ = ['Solution', 'of_divergence', 'of_multiplier']

# A probability shrinks by at most this factor in one step.
_SMALLEST = np.log(1e-13)
_FLAT = 1e-13  # relative spread below which gains differ by rounding alone


@dataclasses.dataclass(frozen=True)
class Solution:
  """The policy that maximises each row.

  Attributes:
    policy: float64 [..., O, A].
    divergence: float64 [..., O], KL(old || policy) in nats.
    multiplier: float64 [..., O], lambda = d gain / d divergence; 0 where all
      actions are equally good.
  """

  policy: np.ndarray
  divergence: np.ndarray
  multiplier: np.ndarray


def of_divergence(
  old: np.ndarray, gains: np.ndarray, kappa: np.ndarray | float
) -> Solution:
  """Finds the solution whose divergence is kappa.

  Args:
    old: [..., O, A] old policy.
    gains: [..., O, A] gain B of each action.
    kappa: [..., O] divergence, in nats; positive.

  Returns:
    The solution. Its divergence is smaller where kappa would all but forbid an
    action.
  """
  if old.shape[-1] == 1:
    return _without_choice(old)
  row = _Row(old, gains)
  kappa = np.broadcast_to(kappa, row.best.shape)
  # For nu >= 2 max B, the divergence is at most 2 (spread / nu)^2.
  high = np.log(row.range + row.spread * np.sqrt(2 / kappa))
  log_x = find_root(
    lambda z: np.log(row.divergence(np.exp(z))) - np.log(kappa),
    row.log_lowest,
    high,
  )
  return row.solution(np.exp(log_x))


def of_multiplier(
  old: np.ndarray, gains: np.ndarray, multiplier: np.ndarray | float
) -> Solution:
  """Finds the solution that maximises gain - multiplier * divergence.

  Args:
    old: [..., O, A] old policy.
    gains: [..., O, A] gain B of each action.
    multiplier: [..., O] cost of a nat, in the gains' unit; positive.

  Returns:
    The solution.
  """
  if old.shape[-1] == 1:
    return _without_choice(old)
  row = _Row(old, gains)
  multiplier = np.broadcast_to(multiplier, row.best.shape)
  # lambda is a weighted mean of nu - B, so it is at least x.
  high = np.log(row.range + multiplier)
  log_x = find_root(
    lambda z: np.log(row.multiplier(np.exp(z))) - np.log(multiplier),
    row.log_lowest,
    high,
  )
  return row.solution(np.exp(log_x))


def _without_choice(old: np.ndarray) -> Solution:
  """The solution where there is one action: the old policy."""
  return Solution(old, *np.zeros((2, *old.shape[:-1])))


class _Row:
  """The solution as a function of x = nu - max_a B(a), [..., O]."""

  def __init__(self, old: np.ndarray, gains: np.ndarray):
    mean = (old * gains).sum(axis=-1, keepdims=True)
    centred = np.where(old > 0, gains - mean, 0.0)
    scale = np.abs(gains).max(axis=(-1, -2))[..., np.newaxis]
    flat = np.ptp(centred, axis=-1) <= _FLAT * scale
    self.flat, self.unchanged = flat, old
    # A flat row keeps the old policy, so any solvable row can stand in for it.
    actions = old.shape[-1]
    flat = flat[..., np.newaxis]
    self.old = np.where(flat, 1 / actions, old)
    self.b = np.where(flat, np.linspace(-1, 1, actions), centred)
    self.best = self.b.max(axis=-1)
    self.spread = np.sqrt((self.old * self.b**2).sum(axis=-1))
    self.range = np.ptp(self.b, axis=-1)
    self.log_lowest = np.log(self.range) + _SMALLEST

  def divergence(self, x: np.ndarray) -> np.ndarray:
    t, rest = self._relative(x)
    # 1 / (1 - t) = 1 + t + t^2 / (1 - t), and the mean of t is 0.
    first = np.log1p((self.old * t**2 / rest).sum(axis=-1))
    logs = np.where(t < 0.5, np.log1p(-np.minimum(t, 0.5)), np.log(rest))
    kl = first + (self.old * (logs + t)).sum(axis=-1)
    return np.maximum(kl, np.finfo(np.float64).tiny)  # so it has a logarithm

  def multiplier(self, x: np.ndarray) -> np.ndarray:
    _, rest = self._relative(x)
    return (self.best + x) / (self.old / rest).sum(axis=-1)

  def solution(self, x: np.ndarray) -> Solution:
    _, rest = self._relative(x)
    policy = self.old / rest
    policy /= policy.sum(axis=-1, keepdims=True)
    return Solution(
      np.where(self.flat[..., np.newaxis], self.unchanged, policy),
      np.where(self.flat, 0, self.divergence(x)),
      np.where(self.flat, 0, self.multiplier(x)),
    )

  def _relative(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes B / nu, and 1 - B / nu without cancellation, [..., O, A]."""
    nu = (self.best + x)[..., np.newaxis]
    below = self.best[..., np.newaxis] - self.b + x[..., np.newaxis]
    return self.b / nu, below / nu
