"""Trained policies, loaded from run directories."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from gymnasium import spaces
from tensorflow_probability import distributions as tfd

from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.experiment import backend as backend_lib
from trpo_tf.experiment import saved_runs, state_tree
from trpo_tf.experiment.checkpoint import Checkpoint, Damage
from trpo_tf.policies import stacks
from trpo_tf.policies.categorical import CategoricalPolicy
from trpo_tf.policies.function import numpy_function
from trpo_tf.policies.gaussian import GaussianPolicy
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.protocols import Network
from trpo_tf.policies.stacks import FrameStacks
from trpo_tf.sampling.actors import CategoricalActor, GaussianActor
from trpo_tf.tasks.atari import PREFIX, STACK, Game

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
    rng: source of the actions that it samples.
    checkpoint: file of the checkpoint; None if the policy is not from a run.
    damaged: newer checkpoints that were skipped, and why.
  """

  backend: backend_lib.Native | backend_lib.Gym | backend_lib.Atari
  policy: GaussianPolicy | CategoricalPolicy
  theta: np.ndarray
  normalizer: Normalizer
  env_steps: int
  rng: np.random.Generator = dataclasses.field(
    default_factory=np.random.default_rng
  )
  checkpoint: pathlib.Path | None = None
  damaged: tuple[Damage, ...] = ()

  def __repr__(self) -> str:
    """One line, as a notebook shows it: task, env steps and checkpoint."""
    source = f', checkpoint={str(self.checkpoint)!r}' if self.checkpoint else ''
    return (
      f'TrainedPolicy(task={self.task!r}, env_steps={self.env_steps}{source})'
    )

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
    """Chooses the action for an observation, or for each of a batch.

    Args:
      observation: as the environment gives it, or N of them as a vector
        environment gives them; for an Atari game the last four frames, uint8
        [H, W, 4] or [4, H, W], the oldest first.
      deterministic: whether to take the mean or likeliest choice, or to sample.
      rng: source of the samples; None: the policy's own.

    Returns:
      The action, as env.step takes it: for a native task the control, float64
      [A]; for another environment an element of its action space; for an Atari
      game the number of ALE's action. For a batch an array of N actions.

    Raises:
      UserError: the observation does not fit.
    """
    x, batched = self._inputs(observation)
    outputs = self._outputs(x)
    noise = None
    if not deterministic:
      size = outputs.shape[1]
      if isinstance(self.policy, CategoricalPolicy):
        size = len(self.policy.factor_sizes)
      noise = self._actor.draw(rng or self.rng, (len(outputs), size))
    actions = self._sent(self._actor.act(outputs, noise))
    return actions if batched else actions[0]

  def distribution(self, observation: Any) -> tfd.Distribution:
    """Builds the distribution that actions are sampled from.

    Its actions are those of the policy, before they are mapped and clipped to
    the controls or counted from the first choice of the action space.

    Args:
      observation: as for `act`.

    Returns:
      A distribution of event [A] (components, or factors of a discrete action);
      of batch [N] if N observations are given.

    Raises:
      UserError: the observation does not fit.
    """
    x, batched = self._inputs(observation)
    theta = tf.constant(self.theta)
    found = self.policy.distribution(theta, self.policy.outputs(theta, x))
    return found if batched else found[0]

  @functools.cached_property
  def _actor(self) -> GaussianActor | CategoricalActor:
    if isinstance(self.policy, CategoricalPolicy):
      return CategoricalActor(self.policy.factor_sizes)
    return GaussianActor(self.policy.log_std(self.theta))

  def _inputs(self, observation: Any) -> tuple[Any, bool]:
    """Returns the network's inputs, and whether they are of a batch."""
    if isinstance(self.backend, backend_lib.Atari):
      return _frame_stacks(self.backend.game, observation)
    if isinstance(self.backend, backend_lib.Gym):
      if _is_reset(observation, self.backend.spaces.observation_space):
        raise UserError(
          'the observation is the first of the two that env.reset() returns'
        )
      if images := self.backend.spaces.images:
        found, batched = images.batch(observation)
        return stacks.of_planes(images.planes(found)), batched
      observation = self.backend.spaces.flatten(observation)
    try:
      rows = np.asarray(observation, np.float32)
    except (TypeError, ValueError):
      raise UserError(
        f'an observation of {self.task} is an array of numbers, not a '
        f'{type(observation).__name__} (env.reset() returns a pair)'
      ) from None
    size = self.policy.observation_size
    if rows.ndim not in (1, 2) or rows.shape[-1] != size:
      raise UserError(
        f'observation of shape {rows.shape}; {self.task} has ({size},), or '
        f'(N, {size}) for a batch'
      )
    if len(wrong := np.argwhere(np.isnan(rows))):
      raise UserError(f'observation{wrong[0].tolist()} of {self.task} is NaN')
    return self.normalizer(np.atleast_2d(rows)), rows.ndim == 2

  def _outputs(self, x: Any) -> np.ndarray:
    """Returns the network's outputs, float32 [N, M]."""
    if self._numpy_network:  # that of the Python sampler
      return self._numpy_network(x)
    return self.policy.outputs(tf.constant(self.theta), x).numpy()

  @functools.cached_property
  def _numpy_network(self) -> Callable[[np.ndarray], np.ndarray] | None:
    if isinstance(self.backend, backend_lib.Atari):
      return None
    parameters = self.policy.network_parameters(self.theta)
    return numpy_function(self.network, parameters)

  @functools.cached_property
  def _sent(self) -> Callable[[np.ndarray], np.ndarray]:
    """The map from actions [N, A] to N of the environment's own form."""
    task = self.config.task
    if isinstance(self.backend, backend_lib.Atari):
      codes = self.backend.game.codes
      return lambda actions: codes[tuple(actions.T)]
    if isinstance(self.backend, backend_lib.Native):
      return self.backend.task.actions(task.action_range, task.clip_actions)[1]
    env = self.backend.spaces
    _, controls = env.actions(task.task, task.action_range, task.clip_actions)
    return lambda actions: env.as_sent(controls(actions))


def _is_reset(observation: Any, space: spaces.Space) -> bool:
  """Returns whether this is an observation and a dict, as of env.reset()."""
  return (
    isinstance(observation, tuple)
    and not isinstance(space, spaces.Tuple | spaces.OneOf)
    and len(observation) == 2
    and isinstance(observation[1], dict)
  )


def _frame_stacks(game: Game, observation: Any) -> tuple[FrameStacks, bool]:
  """Converts frames to the network's inputs; also says whether of a batch.

  Args:
    game: the game.
    observation: uint8 [H, W, 4] or [4, H, W], or N of them.

  Raises:
    UserError: the frames have another size.
  """
  frames, shape = np.asarray(observation), game.frame_shape
  batched = frames.ndim == 4
  if frames.shape[batched:] == (*shape, STACK):
    frames = np.moveaxis(frames, -1, batched)
  if frames.dtype != np.uint8 or frames.shape[batched:] != (STACK, *shape):
    height, width = shape
    raise UserError(
      f'observation {frames.dtype} {list(frames.shape)}: {PREFIX}{game.name} '
      f'takes the last {STACK} frames, uint8 [{STACK}, {height}, {width}] or '
      f'[{height}, {width}, {STACK}] (docs/python.md)'
    )
  return stacks.of_planes(frames.reshape(-1, STACK, *shape)), batched


def load_policy(
  run_dir: str | os.PathLike[str],
  trust_task: bool = False,
  seed: int | None = None,
  checkpoint: str = 'newest',
) -> TrainedPolicy:
  """Loads a checkpoint of a run.

  Args:
    run_dir: directory of the run.
    trust_task: whether a task or policy that is Python code, a file or a
      module, may run even if it is not known that this user made the run; see
      SECURITY.md.
    seed: seed of the actions that the policy samples; None: another one at each
      call.
    checkpoint: 'newest'; 'best', by the evaluations in training; or the name of
      a file of checkpoints/.

  Returns:
    The policy.

  Raises:
    UserError: there is no such run, it has no checkpoint that can be used, its
      task is code that is not trusted, or the task cannot be made.
  """
  config = saved_runs.read_trusted(run_dir, trust_task)
  backend = backend_lib.resolve(config)
  policy, normalizer = backend.policy(), backend.normalizer()
  like = dict(
    theta=np.zeros(policy.num_parameters, np.float32),
    normalizer=dataclasses.asdict(normalizer),
  )

  def accept(saved: Checkpoint) -> None:
    state_tree.check_policy(saved.state, like)

  saved = saved_runs.load_checkpoint(run_dir, accept, checkpoint)
  return TrainedPolicy(
    backend,
    policy,
    theta=saved.state['theta'],
    normalizer=Normalizer(**saved.state['normalizer']),
    env_steps=saved.state['env_steps'],
    rng=np.random.default_rng(seed),
    checkpoint=saved.path,
    damaged=saved.damaged,
  )
