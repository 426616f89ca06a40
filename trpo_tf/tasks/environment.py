"""Gymnasium environments as tasks, such as --task=CartPole-v1."""

import dataclasses
import sys

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation, TimeLimit

from trpo_tf.errors import UserError
from trpo_tf.tasks.actions import ActionSpace, Controls, continuous_actions

__all__ = ['Spaces', 'describe', 'error_line', 'make']


@dataclasses.dataclass(frozen=True)
class Spaces:
  """The observations and actions of an environment.

  Attributes:
    observation_space: the environment's own space, before flattening.
    observation_size: entries of the flattened observation.
    factors: number of choices of each discrete factor; () for continuous
      actions.
    low, high: float64 [A], bounds of an action as the policy gives it; for a
      factor of n choices, 0 and n - 1.
    start: int [A], the environment's number for choice 0; zero for continuous
      actions.
    action_space: the environment's own space.
    time_limit: env steps after which Gymnasium truncates, or None.
  """

  observation_space: gymnasium.Space
  observation_size: int
  factors: tuple[int, ...]
  low: np.ndarray
  high: np.ndarray
  start: np.ndarray
  action_space: gymnasium.Space
  time_limit: int | None

  @property
  def action_size(self) -> int:
    """Width A of an action: continuous components or discrete factors."""
    return self.low.size

  @property
  def output_size(self) -> int:
    """Width M of the outputs of a policy that fits."""
    return sum(self.factors) or self.action_size

  @property
  def action_shape(self) -> tuple[int, ...]:
    """Shape of one action, as the environment takes it."""
    return self.action_space.shape or ()

  def actions(
    self, task: str, action_range: str, clip: bool
  ) -> tuple[ActionSpace, Controls]:
    """Makes the action space of a policy and its map to controls.

    Args:
      task: the task's id.
      action_range: 'raw', or 'control' for continuous actions in [-1, 1].
      clip: whether continuous actions are clipped to their bounds.

    Returns:
      The action space, and the map to what the environment receives.

    Raises:
      UserError: action_range is 'control' and the space has no bounds.
    """
    low, high = self.low, self.high
    if self.factors:
      one = np.ones_like(low)
      controls = Controls(one, self.start, low, high, clip=False)
      return ActionSpace(self.factors, low, high), controls
    needed = f'a bounded action space, not {self.action_space}'
    return continuous_actions(
      f'--task={task}', low, high, action_range, clip, needed
    )

  def as_sent(self, controls: np.ndarray) -> np.ndarray:
    """Converts controls [S, A] to the environment's [S, *action_shape]."""
    controls = controls.astype(self.action_space.dtype)
    return controls.reshape(-1, *self.action_shape)


def describe(task_id: str) -> Spaces:
  """Describes a Gymnasium environment.

  Args:
    task_id: an id that gymnasium.make takes, such as 'module:Id-v0'.

  Returns:
    The environment's Spaces.

  Raises:
    UserError: the environment cannot be made, or its spaces are not supported.
  """
  env = _make(task_id)
  try:
    return _spaces(task_id, env.observation_space, _flattened(env))
  finally:
    env.close()


def make(task_id: str, time_limit: bool = True) -> gymnasium.Env:
  """Makes an environment and flattens its observations.

  Args:
    task_id: an id that gymnasium.make takes.
    time_limit: whether Gymnasium's TimeLimit truncates episodes; if not, it
      only counts their steps.

  Returns:
    The environment. Its observations are vectors wherever its space allows it.

  Raises:
    UserError: the environment cannot be made.
  """
  env = _flattened(_make(task_id))
  if not time_limit:
    _lift_time_limit(env)
  return env


def _lift_time_limit(env: gymnasium.Env) -> None:
  while isinstance(env, gymnasium.Wrapper):
    if isinstance(env, TimeLimit):
      env._max_episode_steps = sys.maxsize
    env = env.env


def _make(task_id: str) -> gymnasium.Env:
  try:
    return gymnasium.make(task_id, disable_env_checker=True)
  except Exception as error:  # a constructor may raise anything
    raise UserError(
      f'--task={task_id}: the environment cannot be made: {error_line(error)}'
    ) from error


def _flattened(env: gymnasium.Env) -> gymnasium.Env:
  space = env.observation_space
  if isinstance(space, spaces.Box) and len(space.shape) == 1:
    return env
  return FlattenObservation(env)


def error_line(error: Exception) -> str:
  """Formats an exception in one line."""
  return f'{type(error).__name__}: {" ".join(str(error).split())}'


def _spaces(
  task_id: str, observation_space: gymnasium.Space, env: gymnasium.Env
) -> Spaces:
  if not isinstance(env.observation_space, spaces.Box):
    raise UserError(
      f'--task={task_id}: observations of {observation_space} do '
      'not flatten to a vector; supported: Box, Discrete, MultiDiscrete, '
      'MultiBinary, and Dict and Tuple of these'
    )
  action = env.action_space
  factors: tuple[int, ...] = ()
  if isinstance(action, spaces.Box) and action.dtype.kind == 'f':
    low, high = action.low.ravel(), action.high.ravel()
    start = np.zeros(low.size, int)
  elif isinstance(action, spaces.Discrete | spaces.MultiDiscrete):
    sizes = action.n if isinstance(action, spaces.Discrete) else action.nvec
    factors = tuple(int(n) for n in np.ravel(sizes))
    low, high = np.zeros(len(factors)), np.array(factors) - 1
    start = np.ravel(action.start)
  else:
    raise UserError(
      f'--task={task_id}: actions of {action} are not supported; supported: '
      'Box of floating-point numbers, Discrete, MultiDiscrete'
    )
  return Spaces(
    observation_space=observation_space,
    observation_size=env.observation_space.shape[0],
    factors=factors,
    low=low.astype(np.float64),
    high=high.astype(np.float64),
    start=start,
    action_space=action,
    time_limit=env.spec.max_episode_steps if env.spec else None,
  )
