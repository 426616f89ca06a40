"""The branches that every measurement of the vine runs."""

import dataclasses
import math
import os
from collections.abc import Callable

import numpy as np

from trpo_tf import config, seeding
from trpo_tf.errors import UserError
from trpo_tf.experiment import backend as backend_lib
from trpo_tf.experiment import saved_runs
from trpo_tf.experiment.trained import TrainedPolicy, load_policy
from trpo_tf.policies.gaussian import GaussianPolicy
from trpo_tf.sampling.draws import Draws
from trpo_tf.sampling.native.branching import Brancher, Branches, FrozenPolicy
from trpo_tf.seeding import Stream
from trpo_tf.tasks.task import CompiledTask

_TRUNKS, _TRUNK_STEPS = 8, 500


@dataclasses.dataclass(frozen=True)
class Workload:
  """N x K x M branches of up to L env steps.

  Attributes:
    trained: the policy that acts, in its native task.
    states: float64 [N, D], states of the policy's own trunks.
    actions: float64 [N, K, A], first actions drawn from the policy.
    noise: float64 [N, M, L, A], noise of the actions.
  """

  trained: TrainedPolicy
  states: np.ndarray
  actions: np.ndarray
  noise: np.ndarray

  @property
  def compiled(self) -> CompiledTask:
    """The task."""
    return native(self.trained).task

  @property
  def policy(self) -> GaussianPolicy:
    """The policy's shape."""
    return native(self.trained).policy()

  @property
  def log_std(self) -> np.ndarray:
    """The policy's log standard deviations, float32 [A]."""
    return self.policy.log_std(self.trained.theta)

  def network(self) -> Callable[[np.ndarray], np.ndarray]:
    """Makes the policy's network in NumPy, see MLP.numpy_function."""
    parameters = self.policy.network_parameters(self.trained.theta)
    return self.policy.network.numpy_function(parameters)

  def brancher(self, threads: int) -> Brancher:
    """Makes a Brancher of the task for policies of this shape."""
    task = self.trained.config.task
    return Brancher(
      self.compiled,
      self.policy,
      action_range=task.action_range,
      clip_actions=task.clip_actions,
      threads=threads,
    )

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
    """Selects a part of the branches, with states from all trunks.

    Args:
      states: N of the part.
      actions: K of the part.
      horizon: L of the part.
    """
    every = len(self.states) // states
    rows = slice(None, every * states, every)
    return dataclasses.replace(
      self,
      states=np.ascontiguousarray(self.states[rows]),
      actions=np.ascontiguousarray(self.actions[rows, :actions]),
      noise=np.ascontiguousarray(self.noise[rows, :, :horizon]),
    )

  def run(self, brancher: Brancher, trajectories: bool = False) -> Branches:
    """Runs the branches.

    Args:
      brancher: runs them, see `brancher`.
      trajectories: whether to keep observations, actions and rewards.
    """
    trained = self.trained
    policy = FrozenPolicy(self.policy, trained.theta, trained.normalizer)
    return brancher.branch(
      self.states,
      self.actions,
      self.noise.shape[2],
      policy,
      self.noise,
      gamma=trained.config.estimator.gamma,
      trajectories=trajectories,
    )


def native(policy: TrainedPolicy) -> backend_lib.Native:
  """Returns the native task of a policy, with its settings.

  Raises:
    UserError: the policy's task is not native.
  """
  if not isinstance(policy.backend, backend_lib.Native):
    raise UserError(
      f'--task={policy.task} is not a native task: name one such as Hopper-v5, '
      'or the Python file of your own'
    )
  return policy.backend


def untrained(task: str) -> TrainedPolicy:
  """Makes a new 64-64 policy in a native task.

  Raises:
    UserError: the task is not native.
  """
  backend = backend_lib.resolve(config.from_settings(dict(task=task)))
  policy, normalizer = backend.policy(), backend.normalizer()
  rng = seeding.generator(backend.config.run.seed, Stream.INITIAL_POLICY)
  theta = policy.initial_parameters(rng)
  made = TrainedPolicy(backend, policy, theta, normalizer, env_steps=0)
  native(made)
  return made


def trained(run_dir: str | os.PathLike[str], task: str) -> TrainedPolicy:
  """Loads the policy of the newest checkpoint of a run.

  Args:
    run_dir: directory of the run.
    task: the native task that the run must be of.

  Raises:
    UserError: there is no such run, it has no checkpoint yet, or it is of
      another task.
  """
  found = saved_runs.read_config(run_dir).task.task
  if found != task:
    raise UserError(
      f'--run_dir={run_dir} is a run of {found}; --task={task}: name a run of '
      'that task'
    )
  policy = load_policy(run_dir, trust_task=True)  # the caller names it
  native(policy)
  return policy


def make_workload(
  policy: TrainedPolicy, states: int, actions: int, trials: int, horizon: int
) -> Workload:
  """Draws branches from states of new trunks of a policy.

  Args:
    policy: the policy, of a native task.
    states: N.
    actions: K.
    trials: M.
    horizon: L.
  """
  steps = max(_TRUNK_STEPS, math.ceil(2 * states / _TRUNKS))
  settings = dataclasses.replace(
    policy.config,
    sampler=config.SamplerConfig(
      batch_steps=_TRUNKS * steps, num_slots=_TRUNKS
    ),
  )
  sampler = dataclasses.replace(native(policy), config=settings).paths()
  draw = Draws(settings.run.seed, 0)
  rollout_set = draw.rollout_set(_TRUNKS, steps, states)
  batch, rows = sampler.sample_with_states(
    policy.theta, policy.normalizer, 0, rollout_set
  )
  actor, space = sampler.actor(policy.theta), sampler.action_space
  outputs = batch.outputs[tuple(rollout_set.T)]
  first, _ = draw.first_actions('policy', actor, space, outputs, actions)
  noise = draw.branch_noise(actor.draw, (states, trials, horizon, space.size))
  return Workload(policy, rows, first, noise)
