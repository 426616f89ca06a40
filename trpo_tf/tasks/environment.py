"""Gymnasium environments as tasks, such as --task=CartPole-v1."""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.spaces import utils as space_utils
from gymnasium.vector.utils import batch_space, iterate
from gymnasium.wrappers import FlattenObservation, TimeLimit

from trpo_tf.errors import UserError, cause, quoted
from trpo_tf.tasks import atari, images
from trpo_tf.tasks.actions import ActionSpace, Controls, continuous_actions
from trpo_tf.tasks.closing import close
from trpo_tf.tasks.images import Images

__all__ = ['Spaces', 'describe', 'make', 'raw']

_MAX_WIDTH = 10**6  # entries of an observation, and choices of an action


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
    images: the images that convolutions see; None: observations are flattened.
  """

  observation_space: gymnasium.Space
  observation_size: int
  factors: tuple[int, ...]
  low: np.ndarray
  high: np.ndarray
  start: np.ndarray
  action_space: gymnasium.Space
  time_limit: int | None
  images: Images | None = None

  @property
  def row(self) -> spaces.Box:
    """The space of an observation, as a sampler keeps it."""
    if self.images:
      return spaces.Box(0, 255, self.images.own_shape, np.uint8)
    return spaces.Box(-np.inf, np.inf, (self.observation_size,), np.float32)

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

  def flatten(self, observation: Any) -> np.ndarray:
    """Flattens one observation, or a batch of them, as training does.

    Args:
      observation: as the environment gives it; or N of them as a vector
        environment gives them, with N as the first dimension of every array.

    Returns:
      [O], or [N, O] for a batch.

    Raises:
      UserError: the observation does not fit the space.
    """
    space = self.observation_space
    try:
      leaf, value = _first_leaf(space, observation)
      if isinstance(leaf, spaces.OneOf):  # a choice and its value: no batch
        return np.asarray(space_utils.flatten(space, observation))
      shape, own = np.shape(value), leaf.shape or ()
      batched = len(shape) > len(own)
      if shape[batched:] != own:
        raise ValueError(f'shape {shape}')
      if batched and not len(value):
        raise ValueError('a batch without observations')
      if not batched:
        return np.asarray(space_utils.flatten(space, observation))
      each = iterate(batch_space(space, len(value)), observation)
      return np.stack(
        [np.asarray(space_utils.flatten(space, one)) for one in each]
      )
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
      raise UserError(
        f'the observation does not fit {space}: {quoted(error)}'
      ) from error

  def as_sent(self, controls: np.ndarray) -> np.ndarray:
    """Converts controls [S, A] to the environment's [S, *action_shape]."""
    controls = controls.astype(self.action_space.dtype)
    return controls.reshape(-1, *self.action_shape)


def describe(
  task_id: str,
  keywords: Mapping[str, Any] | None = None,
  flatten: bool = False,
) -> Spaces:
  """Describes a Gymnasium environment.

  Args:
    task_id: an id that gymnasium.make takes, such as 'module:Id-v0'.
    keywords: further arguments of gymnasium.make.
    flatten: whether images become vectors too.

  Returns:
    The environment's Spaces.

  Raises:
    UserError: the environment cannot be made, or its spaces are not supported.
  """
  env = raw(task_id, keywords)
  try:
    space = env.observation_space
    found = None if flatten else images.find(space)
    _check_observations(task_id, space, flatten or found is not None)
    return _spaces(task_id, space, env if found else _flattened(env), found)
  finally:
    close(task_id, env)


def make(
  task_id: str,
  time_limit: bool = True,
  keywords: Mapping[str, Any] | None = None,
  flatten: bool = True,
) -> gymnasium.Env:
  """Makes an environment, and flattens its observations unless told not to.

  Args:
    task_id: an id that gymnasium.make takes.
    time_limit: whether Gymnasium's TimeLimit truncates episodes; if not, it
      only counts their steps.
    keywords: further arguments of gymnasium.make.
    flatten: whether observations become vectors, wherever the space allows it.

  Returns:
    The environment.

  Raises:
    UserError: the environment cannot be made.
  """
  env = raw(task_id, keywords)
  if flatten:
    env = _flattened(env)
  if not time_limit:
    _lift_time_limit(env)
  return env


def _lift_time_limit(env: gymnasium.Env) -> None:
  while isinstance(env, gymnasium.Wrapper):
    if isinstance(env, TimeLimit):
      env._max_episode_steps = sys.maxsize
    env = env.env


def raw(
  task_id: str, keywords: Mapping[str, Any] | None = None
) -> gymnasium.Env:
  """Makes an environment whose observations are its own.

  Args:
    task_id: an id that gymnasium.make takes.
    keywords: further arguments of gymnasium.make.

  Raises:
    UserError: the environment cannot be made.
  """
  keywords = keywords or {}
  try:
    env = gymnasium.make(task_id, disable_env_checker=True, **keywords)
    for space in (env.observation_space, env.action_space):
      if not isinstance(space, gymnasium.Space):
        raise TypeError(f'{space!r:.80} is not a space of Gymnasium')
    return env
  except KeyboardInterrupt:
    raise
  except BaseException as error:  # a constructor may raise anything
    given = f' with --env_kwargs={json.dumps(keywords)}' if keywords else ''
    raise UserError(
      f'--task={task_id}{given}: the environment cannot be made: {cause(error)}'
    ) from error


def _flattened(env: gymnasium.Env) -> gymnasium.Env:
  space = env.observation_space
  if isinstance(space, spaces.Box) and len(space.shape) == 1:
    return env
  return FlattenObservation(env)


def _first_leaf(
  space: gymnasium.Space, value: Any
) -> tuple[gymnasium.Space, Any]:
  """Finds the first space that a Dict or Tuple is made of, and its value."""
  while isinstance(space, spaces.Dict | spaces.Tuple):
    key: Any = next(iter(space)) if isinstance(space, spaces.Dict) else 0
    space, value = space[key], value[key]
  return space, value


def _leaves(space: gymnasium.Space) -> list[gymnasium.Space]:
  """Lists the spaces that a Dict or Tuple is made of."""
  if isinstance(space, spaces.Dict):
    space = spaces.Tuple(space.values())
  if not isinstance(space, spaces.Tuple):
    return [space]
  return [leaf for part in space for leaf in _leaves(part)]


def _check_observations(
  task_id: str, space: gymnasium.Space, any_shape: bool
) -> None:
  """Raises UserError if a network should not or cannot learn from a space.

  Args:
    task_id: the id.
    space: the environment's own observations.
    any_shape: whether the network may see images.
  """
  leaves = _leaves(space)
  shapes = [leaf.shape for leaf in leaves if images.looks_like_one(leaf)]
  if shapes and (game := atari.suggestion(task_id)):
    raise UserError(
      f'--task={task_id}: observations of shape {shapes[0]} are images of a '
      f'game: take --task={game}'
    )
  if shapes and not any_shape:
    raise UserError(
      f'--task={task_id}: observations of shape {shapes[0]} are images, of '
      'which the convolutions see a single Box of uint8, H x W x C, C x H x W '
      'or H x W: register the environment with a wrapper (docs/tasks.md), or '
      'give --policy=module:function'
    )
  try:
    width = spaces.flatdim(space)
  except (NotImplementedError, ValueError):
    return  # it does not flatten to a vector, which _spaces reports
  if not 0 < width <= _MAX_WIDTH:
    raise UserError(
      f'--task={task_id}: observations flatten to {width} numbers: take '
      f'between 1 and {_MAX_WIDTH:,}'
    )


def _spaces(
  task_id: str,
  observation_space: gymnasium.Space,
  env: gymnasium.Env,
  found: Images | None,
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
  elif isinstance(action, spaces.MultiBinary):
    factors = (2,) * math.prod(action.shape)
    low, high = np.zeros(len(factors)), np.ones(len(factors))
    start = np.zeros(len(factors), int)
  else:
    raise UserError(
      f'--task={task_id}: actions of {action} are not supported; supported: '
      'Box of floating-point numbers, Discrete, MultiDiscrete, MultiBinary'
    )
  if not 0 < (sum(factors) or low.size) <= _MAX_WIDTH:
    raise UserError(
      f'--task={task_id}: actions of {action} have {sum(factors) or low.size} '
      f'components or choices: take between 1 and {_MAX_WIDTH:,}'
    )
  return Spaces(
    observation_space=observation_space,
    observation_size=math.prod(env.observation_space.shape),
    factors=factors,
    low=low.astype(np.float64),
    high=high.astype(np.float64),
    start=start,
    action_space=action,
    time_limit=env.spec.max_episode_steps if env.spec else None,
    images=found,
  )
