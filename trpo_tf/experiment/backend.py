"""Decides which simulator runs a task."""

import dataclasses
from typing import Any, Protocol, Self

from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.policies import user
from trpo_tf.policies.categorical import (
  CategoricalPolicy,
  atari_policy,
  categorical_policy,
)
from trpo_tf.policies.gaussian import GaussianPolicy, gaussian_policy
from trpo_tf.policies.images import image_net
from trpo_tf.policies.normalizer import Normalizer, initial_normalizer
from trpo_tf.policies.protocols import Network
from trpo_tf.sampling.atari.branching import AtariVine
from trpo_tf.sampling.atari.paths import AtariPathSampler
from trpo_tf.sampling.gym.branching import GymVine, clonable
from trpo_tf.sampling.gym.paths import GymPathSampler
from trpo_tf.sampling.native.paths import NativePathSampler
from trpo_tf.sampling.native.vine import NativeVine
from trpo_tf.sampling.sampler import PathSampler, Sampler
from trpo_tf.sampling.vine import VineBackend, VineSampler
from trpo_tf.tasks import (
  atari,
  environment,
  environment_check,
  gymnasium_v5,
)
from trpo_tf.tasks.atari import Game
from trpo_tf.tasks.environment import Spaces
from trpo_tf.tasks.registry import find_compiled, is_code
from trpo_tf.tasks.task import CompiledTask

__all__ = ['Atari', 'Backend', 'Gym', 'Native', 'make_sampler', 'resolve']

# native tasks that Gymnasium has under the same name
_GYMNASIUM = gymnasium_v5.TASKS
# methods that use a batch only through the products and steps of `optim`
_FRAME_METHODS = 'trpo', 'natural_gradient', 'policy_gradient', 'max_kl'


class Backend(Protocol):
  """A task with the settings of a run, and the simulators that can run it."""

  @property
  def config(self) -> ExperimentConfig:
    """The settings."""

  def configured(self, config: ExperimentConfig) -> Self:
    """Returns the same task, neither found nor read again, and other settings.

    Args:
      config: the settings, with the same task and the same network of --policy.
    """

  def policy(self) -> GaussianPolicy | CategoricalPolicy:
    """Makes the policy that fits the task's observations and actions."""

  def normalizer(self) -> Normalizer:
    """Makes the observation normaliser before any observation."""

  def paths(self) -> PathSampler:
    """Makes the single-path sampler.

    Raises:
      UserError: the sampler cannot run the task.
    """

  def vine(self) -> VineBackend:
    """Makes the simulator of the vine's trunks and branches.

    Raises:
      UserError: the sampler cannot run or clone the task.
    """

  def describe(self) -> str:
    """Describes observations and actions in a line; '' if they are plain."""

  def resolved(self) -> dict[str, Any]:
    """Returns what the settings resolve to, for run.json."""

  def check(self) -> list[str]:
    """Checks the task before a run begins.

    Returns:
      Lines that the user should see.

    Raises:
      UserError: the task breaks a rule of its simulator.
    """


@dataclasses.dataclass(frozen=True)
class _Configured:
  """The base of all tasks.

  Attributes:
    config: the settings.
  """

  config: ExperimentConfig

  def configured(self, config: ExperimentConfig) -> Self:
    """Returns the same task with other settings."""
    return dataclasses.replace(self, config=config)


class _VectorTask(_Configured):
  """The base of tasks whose observations are vectors."""

  def _normalizer(self, size: int) -> Normalizer:
    own = self.config.policy
    clip = own.observation_clip
    return initial_normalizer(size, own.normalize_observations, clip)

  def describe(self) -> str:
    """Returns '', as the settings say everything."""
    return ''

  def resolved(self) -> dict[str, Any]:
    """Returns {}, as the settings say everything."""
    return {}

  def check(self) -> list[str]:
    """Returns [], as the task was checked when it was compiled."""
    return []


@dataclasses.dataclass(frozen=True)
class Native(_VectorTask):
  """A native MuJoCo task; see Backend.

  Attributes:
    task: the compiled task.
  """

  task: CompiledTask

  def resolved(self) -> dict[str, Any]:
    """Returns the fingerprint of a task that is the user's code."""
    if not is_code(self.config.task.task):
      return {}
    return {'fingerprint': self.task.fingerprint}

  def policy(self) -> GaussianPolicy:
    """Makes a Gaussian MLP."""
    task = self.task
    return gaussian_policy(
      self.config.policy, task.observation_size, task.action_size
    )

  def normalizer(self) -> Normalizer:
    """Makes the normaliser of the task's observations."""
    return self._normalizer(self.task.observation_size)

  def paths(self) -> NativePathSampler:
    """Makes the native sampler."""
    return NativePathSampler(self.task, self.policy(), self.config)

  def vine(self) -> NativeVine:
    """Makes the native vine."""
    return NativeVine(self.paths(), self.config)


@dataclasses.dataclass(frozen=True)
class Gym(_VectorTask):
  """An environment of Gymnasium; see Backend.

  Attributes:
    spaces: observations and actions of the environment.
    network: that of images or of --policy; None for an MLP.
  """

  spaces: Spaces
  network: Network | None = None

  def policy(self) -> GaussianPolicy | CategoricalPolicy:
    """Makes a Gaussian or a (factored) categorical policy."""
    settings, spaces = self.config.policy, self.spaces
    size = spaces.observation_size
    policy = (
      categorical_policy(settings, size, spaces.factors)
      if spaces.factors
      else gaussian_policy(settings, size, spaces.action_size)
    )
    network: Any = policy.network if self.network is None else self.network
    return dataclasses.replace(policy, network=network)

  def normalizer(self) -> Normalizer:
    """Makes the normaliser of flat observations; images are not normalised."""
    if self.spaces.images:
      return initial_normalizer(0, enabled=False)
    return self._normalizer(self.spaces.observation_size)

  def describe(self) -> str:
    """Says how the convolutions see images."""
    if not self.spaces.images:
      return ''
    height, width, channels = self.spaces.images.shape
    return (
      f'{self.config.task.task}: images of {height} x {width} pixels, '
      f'{channels} channel{"s" * (channels > 1)}'
    )

  def paths(self) -> GymPathSampler:
    """Makes the Python sampler."""
    return GymPathSampler(self.spaces, self.policy(), self.config)

  def vine(self) -> GymVine:
    """Makes the Python vine."""
    if self.spaces.images:
      raise UserError(
        f'--task={self.config.task.task}: the vine does not branch from images '
        'of Gymnasium: take --sampler=single_path'
      )
    if self.config.sampler.env_workers:
      raise UserError(
        '--env_workers: the vine clones environments, which only works in this '
        'process: leave it out, or take --sampler=single_path'
      )
    paths = GymPathSampler(self.spaces, self.policy(), self.config, clonable)
    return GymVine(paths, self.config)

  def check(self) -> list[str]:
    """Warns of ranges of actions, and of what Gymnasium's checker finds."""
    task, spaces = self.config.task, self.spaces
    found = []
    if task.check_env:
      found = environment_check.check(task.task, task.env_keywords)
    if task.action_range == 'raw' and not spaces.factors:
      found += environment_check.check_range(task.task, spaces.low, spaces.high)
    return found


@dataclasses.dataclass(frozen=True)
class Atari(_Configured):
  """An Atari game; see Backend.

  Attributes:
    game: the game.
  """

  game: Game

  def policy(self) -> CategoricalPolicy:
    """Makes a convolutional factored policy."""
    game = self.game
    return atari_policy(self.config.policy, game.frame_shape, game.factors)

  def normalizer(self) -> Normalizer:
    """Makes the identity, as frames are not normalised."""
    return initial_normalizer(0, enabled=False)

  def paths(self) -> AtariPathSampler:
    """Makes the sampler in worker processes."""
    return AtariPathSampler(self.game, self.policy(), self.config)

  def vine(self) -> AtariVine:
    """Makes the vine in worker processes."""
    return AtariVine(self.paths(), self.config)

  def describe(self) -> str:
    """Describes the game's frames and actions."""
    return self.game.text

  def resolved(self) -> dict[str, Any]:
    """Returns the game's frames, actions and time limit."""
    return self.game.resolved

  def check(self) -> list[str]:
    """Returns [], as ALE is not the user's code."""
    return []


def resolve(config: ExperimentConfig) -> Native | Gym | Atari:
  """Decides which simulator runs the task of a run.

  Raises:
    UserError: there is no such task, it cannot be compiled or made, or the
      method or the time limit does not apply to it.
  """
  task, limit = config.task.task, config.task.time_limit
  keywords = config.task.env_keywords
  game = atari.find_game(task, config.atari, limit, keywords)
  compiled = None if game else find_compiled(task, limit)
  if game or compiled:
    _refuse_settings_of_gymnasium(config)
  if game:
    _check_method(config.method.method)
    return Atari(config, game)
  if compiled:
    return Native(config, compiled)
  if limit:
    raise UserError(
      f'--time_limit is for native tasks: give {task} another limit by '
      f'--env_kwargs=\'{{"max_episode_steps": {limit}}}\''
    )
  spaces = environment.describe(task, keywords, bool(config.policy.policy))
  if spaces.images:
    _check_method(config.method.method)
  return Gym(config, spaces, _network(config, spaces))


def _refuse_settings_of_gymnasium(config: ExperimentConfig) -> None:
  """Raises UserError if a native task or a game has settings of others."""
  task = config.task.task
  python = f', or take --task=gymnasium:{task}' if task in _GYMNASIUM else ''
  given = dict(
    env_kwargs=config.task.env_kwargs,
    policy=config.policy.policy,
    env_workers=config.sampler.env_workers,
  )
  for name, value in given.items():
    if value:
      raise UserError(
        f'--{name} is for environments of Gymnasium, which --task={task} does '
        f'not use: leave it out{python}'
      )


def _network(config: ExperimentConfig, spaces: Spaces) -> Network | None:
  """Makes the network that is not an MLP; None if it is one."""
  task, settings, width = config.task.task, config.policy, spaces.output_size
  if spaces.images:
    return image_net(settings, task, spaces.images, width)
  name, size = settings.policy, spaces.observation_size
  return user.load(name, size, width, config.network_seed) if name else None


def _check_method(method: str) -> None:
  if method not in _FRAME_METHODS:
    raise UserError(
      f'--method={method} cannot learn from frames: take '
      f'{", ".join(_FRAME_METHODS)}, or a task whose observations are vectors'
    )


def make_sampler(backend: Backend) -> Sampler:
  """Makes the sampler that --sampler names.

  Raises:
    UserError: the sampler cannot run the task.
  """
  config = backend.config
  if config.sampler.sampler == 'single_path':
    return backend.paths()
  return VineSampler(backend.vine(), config.sampler, config.run.seed)
