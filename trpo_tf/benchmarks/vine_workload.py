"""The branches that every measurement of the vine runs."""

import dataclasses
import math
import os
import pathlib

import numpy as np

from trpo_tf import config, seeding
from trpo_tf.errors import UserError
from trpo_tf.experiment import assembly, checkpoint, run_directory
from trpo_tf.policies.gaussian import GaussianPolicy, gaussian_policy
from trpo_tf.policies.normalizer import Normalizer, initial_normalizer
from trpo_tf.sampling import draws
from trpo_tf.sampling.native.branching import Actor, Brancher, Branches
from trpo_tf.sampling.native.paths import SinglePathSampler
from trpo_tf.seeding import Stream
from trpo_tf.tasks.task import CompiledTask

_TRUNKS, _TRUNK_STEPS = 8, 500


@dataclasses.dataclass(frozen=True)
class Learner:
  """A policy in its task.

  Attributes:
    compiled: the task.
    settings: of the experiment, trained or not.
    policy: shape of the policy.
    theta: float32 [P].
    normalizer: frozen.
  """

  compiled: CompiledTask
  settings: config.ExperimentConfig
  policy: GaussianPolicy
  theta: np.ndarray
  normalizer: Normalizer

  @property
  def log_std(self) -> np.ndarray:
    """float32 [A]."""
    return self.theta[-self.compiled.action_size :]

  def brancher(self, threads: int) -> Brancher:
    """Simulations of the task under policies of this shape."""
    task = self.settings.task
    return Brancher(
      self.compiled,
      self.policy.network,
      action_range=task.action_range,
      clip_actions=task.clip_actions,
      threads=threads,
    )


@dataclasses.dataclass(frozen=True)
class Workload:
  """N x K x M branches of up to L env steps.

  Attributes:
    learner: who acts.
    states: float64 [N, D], of steps of the policy's own trunks.
    actions: float64 [N, K, A], first actions drawn from the policy.
    noise: float64 [N, M, L, A].
  """

  learner: Learner
  states: np.ndarray
  actions: np.ndarray
  noise: np.ndarray

  @property
  def sizes(self) -> dict[str, int]:
    """N, K, M and L by the names of their flags."""
    N, M, L, _ = self.noise.shape
    return dict(states=N, actions=self.actions.shape[1], trials=M, horizon=L)

  @property
  def branches(self) -> tuple[int, int, int]:
    """N, K and M."""
    return (*self.actions.shape[:2], self.noise.shape[1])

  def part(self, states: int, actions: int, horizon: int) -> 'Workload':
    """Fewer states (of all trunks), actions and steps of the same branches."""
    every = len(self.states) // states
    rows = slice(None, every * states, every)
    return dataclasses.replace(
      self,
      states=np.ascontiguousarray(self.states[rows]),
      actions=np.ascontiguousarray(self.actions[rows, :actions]),
      noise=np.ascontiguousarray(self.noise[rows, :, :horizon]),
    )

  def run(self, brancher: Brancher, trajectories: bool = False) -> Branches:
    """Runs the branches."""
    learner = self.learner
    actor = Actor(learner.policy.network, learner.theta, learner.normalizer)
    return brancher.branch(
      self.states,
      self.actions,
      self.noise.shape[2],
      actor,
      self.noise,
      gamma=learner.settings.estimator.gamma,
      trajectories=trajectories,
    )


def untrained(task: str) -> Learner:
  """A new 64-64 policy in a native task.

  Raises:
    UserError: not a native task.
  """
  settings = config.from_settings(dict(task=task))
  compiled, policy = _task_and_policy(settings)
  rng = seeding.generator(settings.run.seed, Stream.INITIAL_POLICY)
  theta = policy.initial_parameters(rng)
  normalizer = initial_normalizer(compiled.observation_size)
  return Learner(compiled, settings, policy, theta, normalizer)


def trained(run_dir: str | os.PathLike[str], task: str) -> Learner:
  """The policy of the newest checkpoint of a run.

  Raises:
    UserError: no such run, no checkpoint yet, or a run of another task.
  """
  path = pathlib.Path(run_dir).expanduser()
  settings = run_directory.read_config(path)
  if settings.task.task != task:
    raise UserError(
      f'--run_dir={path} is a run of {settings.task.task}; '
      f'--task={task}: name a run of that task'
    )
  saved = checkpoint.load_newest(path / 'checkpoints')
  if saved is None:
    raise UserError(f'{path} has no checkpoint yet: let it train for longer')
  compiled, policy = _task_and_policy(settings)
  normalizer = Normalizer(**saved.state['normalizer'])
  return Learner(compiled, settings, policy, saved.state['theta'], normalizer)


def _task_and_policy(
  settings: config.ExperimentConfig,
) -> tuple[CompiledTask, GaussianPolicy]:
  compiled = assembly.native_task(settings.task.task)
  if compiled is None:
    raise UserError(
      f'--task={settings.task.task} is not a native task: name '
      'one such as Hopper-v5, or the Python file of your own'
    )
  return compiled, gaussian_policy(
    settings.policy, compiled.observation_size, compiled.action_size
  )


def make_workload(
  learner: Learner, states: int, actions: int, trials: int, horizon: int
) -> Workload:
  """Branches from states of new trunks of a policy.

  Args:
    learner: the policy.
    states: N.
    actions: K.
    trials: M.
    horizon: L.
  """
  steps = max(_TRUNK_STEPS, math.ceil(2 * states / _TRUNKS))
  seed = learner.settings.run.seed
  sampler = SinglePathSampler(
    learner.compiled,
    learner.settings.task,
    config.SamplerConfig(batch_steps=_TRUNKS * steps, num_slots=_TRUNKS),
    learner.policy.network,
    seed,
  )
  places = draws.draw_states(seed, 0, _TRUNKS, steps, states)
  batch, rows = sampler.sample_with_snapshots(
    learner.theta, learner.normalizer, 0, places
  )
  first, _ = draws.gaussian_actions(
    seeding.generator(seed, Stream.BRANCH_ACTIONS, 0),
    batch.outputs[tuple(places.T)],
    learner.log_std,
    actions,
  )
  noise = draws.branch_noise(
    seed, 0, (states, trials, horizon, learner.compiled.action_size)
  )
  return Workload(learner, rows, first, noise)
