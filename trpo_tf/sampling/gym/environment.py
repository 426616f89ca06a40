"""A Gymnasium environment as a slot of a batch."""

import dataclasses
import math
from typing import Any

import gymnasium
import numpy as np

from trpo_tf.cloning.cloner import Cloner
from trpo_tf.cloning.snapshot import Snapshot
from trpo_tf.errors import TaskError, cause
from trpo_tf.sampling import draws
from trpo_tf.sampling.batch import End
from trpo_tf.sampling.gym.taken import Taken
from trpo_tf.tasks.closing import close

__all__ = [
  'EnvironmentSlot',
  'observe',
  'send',
]

_TERMINATED, _TRUNCATED = int(End.TERMINATED), int(End.TRUNCATED)


def observe(observation: Any, row: np.ndarray) -> None:
  """Writes an observation to a row.

  Args:
    observation: flat observation, in any form that NumPy can convert; or an
      image.
    row: float32 [O], or uint8 of an image's shape; receives it.

  Raises:
    Exception: the observation does not fit.
  """
  values = np.asarray(observation)
  pixels = row.dtype == np.uint8  # which other numbers would overflow
  if values.dtype != row.dtype if pixels else values.dtype.kind not in 'biuf':
    raise TypeError(f'observation of {values.dtype} numbers')
  if values.shape != row.shape:
    raise ValueError(
      f'observation of shape {values.shape} instead of {row.shape}'
    )
  row[:] = values


def send(
  env: gymnasium.Env, action: np.ndarray, row: np.ndarray
) -> tuple[float, int]:
  """Sends an action, in the environment's own form.

  Args:
    env: the environment.
    action: the action; the environment may overwrite it.
    row: receives the observation, which may be non-finite; see `observe`.

  Returns:
    The reward, which may be non-finite, and bits of End.

  Raises:
    Exception: the environment raised it, or its result has another form.
  """
  observation, reward, terminated, truncated, _ = env.step(action)
  observe(observation, row)
  try:
    reward = float(reward)
  except TypeError:
    raise TypeError(f'reward {reward!r:.80}, not a number') from None
  terminated, truncated = bool(terminated), bool(truncated)
  return reward, _TERMINATED * terminated | _TRUNCATED * truncated


@dataclasses.dataclass
class EnvironmentSlot:
  """One environment and its running episode.

  Attributes:
    task_id, env, index, seed: the task, its environment, number of the slot
      and seed of the run.
    observation: float32 [O], or uint8 of an image's shape, the latest; a row of
      the sampler's array.
    first_limit: env steps after which the first episode is cut short.
    episode: number of resets so far.
    needs_reset: whether the next step needs a reset before it.
    sent: the actions that the environment received since its reset.
    episode_return: undiscounted, so far.
    shortened: whether the first episode was cut short; its return is void.
  """

  task_id: str
  env: gymnasium.Env
  index: int
  seed: int
  observation: np.ndarray
  first_limit: int | None
  episode: int = 0
  needs_reset: bool = True
  sent: Taken = dataclasses.field(default_factory=Taken)
  episode_return: float = 0.0
  shortened: bool = False

  @property
  def episode_seed(self) -> int:
    """Seed of the running episode's reset."""
    return draws.episode_seed(self.seed, self.index, self.episode - 1)

  @property
  def next_seed(self) -> int:
    """Seed of the next episode's reset."""
    return draws.episode_seed(self.seed, self.index, self.episode)

  def error(self, what: str) -> TaskError:
    """Makes the error for a failure, with the keys to replay it."""
    where = f'step {len(self.sent)}' if self.sent else 'the reset'
    return TaskError(
      f'--task={self.task_id}: {what} at {where} of episode '
      f'{self.episode - 1} in slot {self.index}; to replay it: '
      f'env.reset(seed={self.episode_seed}) and the same actions'
    )

  def close(self) -> None:
    """Closes the environment."""
    close(self.task_id, self.env)

  def reset(self) -> None:
    """Begins the next episode."""
    self.episode += 1
    self.needs_reset = self.shortened = False
    self.sent, self.episode_return = Taken(), 0.0
    try:
      observation, _ = self.env.reset(seed=self.episode_seed)
      observe(observation, self.observation)
    except KeyboardInterrupt:
      raise
    except BaseException as error:  # a user's code
      raise self.error(f'env.reset failed ({cause(error)})') from error
    self.check_observation()

  def step(self, action: np.ndarray) -> tuple[float, int]:
    """Sends an action in the environment's own form; returns reward and ends.

    The caller checks the observations of all slots at once.
    """
    self.sent.append(action)
    try:
      reward, ends = send(self.env, action, self.observation)
    except KeyboardInterrupt:
      raise
    except BaseException as error:  # a user's code
      raise self.error(f'env.step failed ({cause(error)})') from error
    if not math.isfinite(reward):
      raise self.error(f'the reward is {reward}')
    self.episode_return += reward
    if self.episode == 1 and len(self.sent) == self.first_limit:
      self.shortened = not ends
      ends |= _TRUNCATED
    self.needs_reset = ends != 0
    return reward, ends

  def check_observation(self) -> None:
    """Raises TaskError if the observation is not finite."""
    for i in np.flatnonzero(~np.isfinite(self.observation))[:1]:
      raise self.error(f'observation[{i}] is {self.observation[i]}')

  def snapshot(self) -> Snapshot:
    """Clones the state before the next action; requires a Cloner."""
    assert isinstance(self.env, Cloner)
    try:
      return self.env.snapshot()
    except KeyboardInterrupt:
      raise
    except BaseException as error:  # a user's code
      raise self.error(f'snapshot() failed ({cause(error)})') from error

  def replay(
    self,
    episode: int,
    actions: np.ndarray,
    observation: np.ndarray,
    episode_return: float,
  ) -> None:
    """Repeats an unfinished episode.

    Args:
      episode: number of the episode, from 1.
      actions: the actions so far, in the environment's own form.
      observation: the latest one.
      episode_return: undiscounted return so far.

    Raises:
      TaskError: the replay leads to another observation or return, or the
        environment fails.
    """
    self.episode = episode - 1
    self.reset()
    for action in actions:
      if self.needs_reset:
        break
      self.step(action)
    same = np.array_equal(self.observation, observation)
    if self.needs_reset or not same or self.episode_return != episode_return:
      raise self.error(
        'cannot resume the running episode (the environment is not a function '
        'of its seed and actions; --whole_episodes needs no replay): '
        f'{len(actions)} stored actions led to another observation or return'
      )
