"""Trained policies, loaded from run directories."""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf
from gymnasium.spaces import utils as space_utils

from trpo_tf.config import ExperimentConfig
from trpo_tf.experiment import backend as backend_lib
from trpo_tf.experiment import run_directory, state_tree
from trpo_tf.experiment.checkpoint import Checkpoint, Damage
from trpo_tf.policies.categorical import CategoricalPolicy
from trpo_tf.policies.gaussian import GaussianPolicy
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.protocols import Network
from trpo_tf.policies.stacks import FrameStacks
from trpo_tf.sampling.actors import CategoricalActor, GaussianActor
from trpo_tf.tasks.actions import Controls

__all__ = ['TrainedPolicy', 'load_policy']


@dataclasses.dataclass(frozen=True)
class TrainedPolicy:
  """A policy with everything that it needs to act in its task.

  Attributes:
    backend: the task with the settings of the run.
    policy: shape of the policy.
    theta: float32 [P], its parameters.
    normalizer: frozen normaliser of observations.
    env_steps: env steps that it was trained for.
    checkpoint: file of the checkpoint; None if the policy is not from a run.
    damaged: newer checkpoints that were skipped, and why.
  """

  backend: backend_lib.Native | backend_lib.Gym | backend_lib.Atari
  policy: GaussianPolicy | CategoricalPolicy
  theta: np.ndarray
  normalizer: Normalizer
  env_steps: int
  checkpoint: pathlib.Path | None = None
  damaged: tuple[Damage, ...] = ()

  @property
  def config(self) -> ExperimentConfig:
    """The settings of the run."""
    return self.backend.config

  @property
  def task(self) -> str:
    """The task's name."""
    return self.config.task.task

  @property
  def network(self) -> Network:
    """The policy's network."""
    return self.policy.network

  def act(
    self,
    observation: Any,
    deterministic: bool = True,
    rng: np.random.Generator | None = None,
  ) -> Any:
    """Chooses the action for one observation.

    Args:
      observation: as the environment gives it; for an Atari game the stack of
        frames uint8 [H, W, 4], the oldest first.
      deterministic: whether to take the mean or likeliest choice, or to sample.
      rng: source of the samples; not used if deterministic.

    Returns:
      The action, as env.step takes it: for a native task the control, float64
      [A]; for an Atari game the number of ALE's action.

    Raises:
      ValueError: the observation does not fit, or rng is missing.
    """
    outputs = self._outputs(observation)
    actor = self._actor()
    noise = None
    if not deterministic:
      if rng is None:
        raise ValueError('act(deterministic=False) needs an rng')
      size = outputs.shape[1]
      if isinstance(self.policy, CategoricalPolicy):
        size = len(self.policy.factor_sizes)
      noise = actor.draw(rng, (1, size))
    return self._sent(actor.act(outputs, noise))

  def _actor(self) -> GaussianActor | CategoricalActor:
    if isinstance(self.policy, CategoricalPolicy):
      return CategoricalActor(self.policy.factor_sizes)
    return GaussianActor(self.policy.log_std(self.theta))

  def _outputs(self, observation: Any) -> np.ndarray:
    """Returns the network's outputs, float32 [1, M]."""
    if isinstance(self.backend, backend_lib.Atari):
      frames = np.moveaxis(np.asarray(observation, np.uint8), -1, 0)
      rows = np.arange(len(frames), dtype=np.int32)[np.newaxis]
      x: Any = FrameStacks(tf.constant(frames), tf.constant(rows))
    else:
      if isinstance(self.backend, backend_lib.Gym):
        space = self.backend.spaces.observation_space
        observation = space_utils.flatten(space, observation)
      row = np.asarray(observation, np.float32)
      if row.shape != (self.policy.observation_size,):
        raise ValueError(
          f'observation of shape {row.shape}; {self.task} has '
          f'({self.policy.observation_size},)'
        )
      x = self.normalizer(row[np.newaxis])
    return self.policy.outputs(tf.constant(self.theta), x).numpy()

  def _sent(self, actions: np.ndarray) -> Any:
    """Converts actions [1, A] to the environment's own form."""
    if isinstance(self.backend, backend_lib.Atari):
      return int(self.backend.game.codes[tuple(actions[0])])
    task = self.config.task
    controls: Controls
    if isinstance(self.backend, backend_lib.Native):
      _, controls = self.backend.task.actions(
        task.action_range, task.clip_actions
      )
      return controls(actions)[0]
    spaces = self.backend.spaces
    _, controls = spaces.actions(
      task.task, task.action_range, task.clip_actions
    )
    return spaces.as_sent(controls(actions))[0]


def load_policy(
  run_dir: str | os.PathLike[str], trust_task: bool = False
) -> TrainedPolicy:
  """Loads the newest checkpoint of a run.

  Args:
    run_dir: directory of the run.
    trust_task: whether a task that is Python code, a file or a module, may run
      even if it is not known that this user made the run; see SECURITY.md.

  Returns:
    The policy.

  Raises:
    UserError: there is no such run, it has no checkpoint that can be used, its
      task is code that is not trusted, or the task cannot be made.
  """
  config = run_directory.read_trusted(run_dir, trust_task)
  backend = backend_lib.resolve(config)
  policy, normalizer = backend.policy(), backend.normalizer()
  like = dict(
    theta=np.zeros(policy.num_parameters, np.float32),
    normalizer=dataclasses.asdict(normalizer),
  )

  def accept(saved: Checkpoint) -> None:
    state_tree.check_policy(saved.state, like)

  saved = run_directory.load_checkpoint(run_dir, accept)
  return TrainedPolicy(
    backend,
    policy,
    theta=saved.state['theta'],
    normalizer=Normalizer(**saved.state['normalizer']),
    env_steps=saved.state['env_steps'],
    checkpoint=saved.path,
    damaged=saved.damaged,
  )
