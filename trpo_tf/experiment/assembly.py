"""From settings to objects: the one place that knows which class does what."""

import dataclasses
import functools

from trpo_tf.config import ExperimentConfig, TaskConfig
from trpo_tf.errors import UserError
from trpo_tf.policies.categorical import (
  CategoricalPolicy,
  atari_policy,
  categorical_policy,
)
from trpo_tf.policies.conv import ConvNet
from trpo_tf.policies.gaussian import GaussianPolicy, gaussian_policy
from trpo_tf.policies.normalizer import Normalizer, initial_normalizer
from trpo_tf.sampling.atari.branching import AtariVineSampler
from trpo_tf.sampling.atari.paths import AtariSampler
from trpo_tf.sampling.gym import environment
from trpo_tf.sampling.gym.branching import GymnasiumVineSampler
from trpo_tf.sampling.gym.paths import GymnasiumSampler
from trpo_tf.sampling.native.paths import SinglePathSampler
from trpo_tf.sampling.vine import VineSampler
from trpo_tf.tasks import atari
from trpo_tf.tasks.registry import find_task
from trpo_tf.tasks.task import CompiledTask, compile_task

# those that see a batch through the products and steps of `optim` alone
_ATARI_METHODS = 'trpo', 'natural_gradient', 'policy_gradient', 'max_kl'

Policy = GaussianPolicy | CategoricalPolicy
PathSampler = SinglePathSampler | GymnasiumSampler | AtariSampler
AnyVineSampler = VineSampler | GymnasiumVineSampler | AtariVineSampler


@functools.lru_cache(maxsize=8)
def native_task(name: str, time_limit: int = 0) -> CompiledTask | None:
  """The compiled native task of --task, None for a Gymnasium id.

  Args:
    name: of the task.
    time_limit: env steps after which it truncates; 0: its own.

  Raises:
    UserError: no such task, or one that cannot be compiled.
  """
  task = find_task(name)
  if task and time_limit:
    task = dataclasses.replace(task, time_limit=time_limit)
  return compile_task(task) if task else None


def _native_task(settings: TaskConfig) -> CompiledTask | None:
  """The same of the settings.

  Raises:
    UserError: as above, or a time limit for an environment of Gymnasium.
  """
  compiled = native_task(settings.task, settings.time_limit)
  if not compiled and settings.time_limit:
    raise UserError(
      f'--time_limit is for native tasks: register {settings.task} with '
      'another max_episode_steps'
    )
  return compiled


def find_game(config: ExperimentConfig) -> atari.Game | None:
  """The Atari game of --task, None if it is another task.

  Raises:
    UserError: no such game, or a method that cannot learn from frames.
  """
  game = atari.find_game(config.task.task, config.atari, config.task.time_limit)
  method = config.method.method
  if game and method not in _ATARI_METHODS:
    raise UserError(
      f'--method={method} cannot learn from frames: take '
      f'{", ".join(_ATARI_METHODS)}, or a native or Gymnasium task'
    )
  return game


def make_policy(config: ExperimentConfig) -> Policy:
  """The policy that fits the task's observations and actions."""
  game = find_game(config)
  if game:
    return atari_policy(config.policy, game.frame_shape, game.factors)
  compiled = _native_task(config.task)
  if compiled:
    return gaussian_policy(
      config.policy, compiled.observation_size, compiled.action_size
    )
  space = environment.describe(config.task.task)
  if space.factors:
    return categorical_policy(
      config.policy, space.observation_size, space.factors
    )
  return gaussian_policy(
    config.policy, space.observation_size, space.action_size
  )


def make_path_sampler(config: ExperimentConfig) -> PathSampler:
  """The single-path sampler of the task, native where the task is.

  Raises:
    UserError: the sampler cannot run the task.
  """
  policy = make_policy(config)
  game = find_game(config)
  if game:
    return AtariSampler(game, config.sampler, policy.network, config.run.seed)
  compiled = _native_task(config.task)
  if compiled:
    return SinglePathSampler(
      compiled, config.task, config.sampler, policy.network, config.run.seed
    )
  return GymnasiumSampler(config.task, config.sampler, policy, config.run.seed)


def make_sampler(config: ExperimentConfig) -> PathSampler | AnyVineSampler:
  """The sampler of --sampler for the task.

  Raises:
    UserError: the sampler cannot run the task.
  """
  if config.sampler.sampler == 'single_path':
    return make_path_sampler(config)
  policy = make_policy(config)
  game = find_game(config)
  if game:
    return AtariVineSampler(
      game,
      config.sampler,
      policy.network,
      config.run.seed,
      config.estimator.gamma,
    )
  compiled = _native_task(config.task)
  if compiled:
    return VineSampler(
      compiled,
      config.task,
      config.sampler,
      policy.network,
      config.run.seed,
      config.estimator.gamma,
    )
  return GymnasiumVineSampler(
    config.task,
    config.sampler,
    policy,
    config.run.seed,
    config.estimator.gamma,
  )


def make_normalizer(config: ExperimentConfig, policy: Policy) -> Normalizer:
  """The observation normaliser before any observation; frames have none."""
  if isinstance(policy.network, ConvNet):
    return initial_normalizer(0, enabled=False)
  return initial_normalizer(
    policy.observation_size,
    config.policy.normalize_observations,
    config.policy.observation_clip,
  )
