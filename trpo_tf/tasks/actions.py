"""Maps a policy's actions to what a simulator receives."""

import dataclasses
from typing import NamedTuple

import numpy as np

from trpo_tf.errors import UserError

__all__ = ['ActionSpace', 'Controls', 'continuous_actions']


class ActionSpace(NamedTuple):
  """The actions that a policy chooses from.

  Attributes:
    factors: number of choices of each discrete factor; () for continuous
      actions.
    low, high: float64 [A], bounds between which an action is not clipped; for
      a factor of n choices, 0 and n - 1.
  """

  factors: tuple[int, ...]
  low: np.ndarray
  high: np.ndarray

  @property
  def size(self) -> int:
    """Width A of an action."""
    return self.low.size

  @property
  def bounded(self) -> bool:
    """True for choices, and for finite ranges that are not empty."""
    if self.factors:
      return True
    with np.errstate(over='ignore', invalid='ignore'):
      ranges = self.high - self.low
    return bool(np.isfinite(ranges).all() and (ranges > 0).all())

  def uniform(
    self, rng: np.random.Generator, shape: tuple[int, ...]
  ) -> np.ndarray:
    """Draws actions uniformly within the bounds or among the choices.

    Args:
      rng: source of the draws.
      shape: shape of the result, which ends in A.

    Returns:
      [*shape], int32 for discrete factors and float64 for continuous actions.
    """
    if self.factors:
      return rng.integers(self.factors, size=shape, dtype=np.int32)
    return rng.uniform(self.low, self.high, shape)

  @property
  def uniform_log_density(self) -> float:
    """Log density of a uniform draw within the bounds or among the choices."""
    sizes = self.factors or self.high - self.low
    return -np.log(sizes).sum()


@dataclasses.dataclass(frozen=True)
class Controls:
  """The map from actions to controls: offset + scale * action, then clipped.

  Attributes:
    scale, offset: [A], coefficients of the map.
    low, high: float64 [A], bounds of a control.
    clip: whether controls are clipped to these bounds.
  """

  scale: np.ndarray
  offset: np.ndarray
  low: np.ndarray
  high: np.ndarray
  clip: bool

  def __call__(self, actions: np.ndarray) -> np.ndarray:
    """Maps actions [..., A] to controls [..., A]."""
    controls = self.offset + self.scale * actions
    return np.clip(controls, self.low, self.high) if self.clip else controls


def continuous_actions(
  task: str,
  low: np.ndarray,
  high: np.ndarray,
  action_range: str,
  clip: bool,
  needed: str,
) -> tuple[ActionSpace, Controls]:
  """Makes the action space of a policy and its map to controls.

  Args:
    task: name of the task, with which error messages begin.
    low: float64 [A], lower bounds of a control.
    high: float64 [A], upper bounds of a control.
    action_range: 'raw' for actions in the units of controls, or 'control' for
      actions in [-1, 1].
    clip: whether controls are clipped to the bounds.
    needed: what 'control' needs, for the error message.

  Returns:
    The action space and the map.

  Raises:
    UserError: action_range is neither; or it is 'control' and a control has no
      bounds.
  """
  one = np.ones_like(low)
  if action_range not in ('raw', 'control'):
    raise UserError(f"action_range={action_range!r}: take 'raw' or 'control'")
  if action_range == 'raw':
    controls = Controls(one, np.zeros_like(low), low, high, clip)
    return ActionSpace((), low, high), controls
  if not np.isfinite([low, high]).all():
    raise UserError(
      f'{task}: --action_range=control needs {needed}; use --action_range=raw'
    )
  # halved first, as a difference of large bounds may overflow
  scale, offset = high / 2 - low / 2, high / 2 + low / 2
  controls = Controls(scale, offset, low, high, clip)
  return ActionSpace((), -one, one), controls
