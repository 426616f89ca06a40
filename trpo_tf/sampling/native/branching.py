"""Branches from cloned states of a native task, in parallel (section 5.2).

K given first actions are tried from each of N snapshots, and a policy continues
each of them under M noise sequences. The K branches of a state read the same
noise (common random numbers), so their returns differ only by the first action.
Nothing here depends on TRPO: a planner can use it too (docs/branching.md).
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trpo_tf.cloning import native as native_state
from trpo_tf.cloning.snapshot import Snapshot
from trpo_tf.errors import UserError, require_whole
from trpo_tf.policies.gaussian import GaussianPolicy
from trpo_tf.policies.mlp import MLP
from trpo_tf.policies.normalizer import Normalizer, initial_normalizer
from trpo_tf.sampling.batch import End
from trpo_tf.sampling.draws import ResetTable
from trpo_tf.sampling.native import engine
from trpo_tf.sampling.native.slots import NativeSlots
from trpo_tf.sampling.threads import thread_count
from trpo_tf.tasks.task import CompiledTask

__all__ = [
  'FrozenPolicy',
  'Brancher',
  'Branches',
  'initial_snapshots',
  'noise_policy',
]


class FrozenPolicy(NamedTuple):
  """A Gaussian policy with its observation normaliser.

  Attributes:
    policy: shape of the policy.
    theta: float32 [P], its parameters.
    normalizer: frozen.
  """

  policy: GaussianPolicy
  theta: np.ndarray
  normalizer: Normalizer


def noise_policy(observation_size: int, action_size: int) -> FrozenPolicy:
  """Makes the policy whose actions are the noise itself.

  Args:
    observation_size: width O of an observation.
    action_size: width A of an action.
  """
  policy = GaussianPolicy(MLP(observation_size, (), action_size))
  theta = np.zeros(policy.num_parameters, np.float32)
  return FrozenPolicy(policy, theta, initial_normalizer(observation_size))


@dataclasses.dataclass(frozen=True)
class Branches:
  """The results of N x K x M branches.

  Attributes:
    returns: float64 [N, K, M], sum of gamma^t r_t over the branch's steps.
    lengths: int32 [N, K, M], env steps, the first action's included.
    ends: uint8 [N, K, M], bits of End of the last step: 0 if the branch was
      alive at its horizon; DIVERGED if the simulation diverged in its next
      step, which its return does not include.
    failures: int32 [N, K, M], bits of what failed, see `causes`.
    messages: MuJoCo's error texts, by branch (n, k, m).
    final_observations: float32 [N, K, M, O], after the last step; zeros for a
      branch that MuJoCo stopped with an error.
    compiled: the task.
    final_states: float64 [N, K, M, D] after the last step, or None.
    observations: float32 [N, K, M, L, O] before each action, 0 after the end,
      or None.
    actions: float64 [N, K, M, L, A] unclipped, 0 after the end, or None; the
      last one of a diverged branch is that of the failed step.
    outputs: float32 [N, K, M, L, A], the policy's means, 0 at the first step
      and after the end, or None.
    rewards: float64 [N, K, M, L], 0 after the end, or None.
  """

  returns: np.ndarray
  lengths: np.ndarray
  ends: np.ndarray
  failures: np.ndarray
  messages: dict[tuple[int, int, int], str]
  final_observations: np.ndarray
  compiled: CompiledTask
  final_states: np.ndarray | None = None
  observations: np.ndarray | None = None
  actions: np.ndarray | None = None
  outputs: np.ndarray | None = None
  rewards: np.ndarray | None = None

  @property
  def num_steps(self) -> int:
    """Number of env steps simulated."""
    return int(self.lengths.sum())

  def snapshots(self) -> list[Snapshot | None]:
    """Returns the final states of the branches in order; None if diverged.

    Raises:
      ValueError: the final states were not kept.
    """
    if self.final_states is None:
      raise ValueError('branch(..., final_states=True) keeps the final states')
    states = self.final_states.reshape(self.ends.size, -1)
    found = native_state.to_snapshots(self.compiled, states)
    broken = (self.ends & End.DIVERGED).ravel() != 0
    return [None if b else s for s, b in zip(found, broken, strict=True)]

  def causes(self, *branch: int) -> tuple[str, ...]:
    """Returns why branch (n, k, m) diverged; () if it did not."""
    return engine.causes(int(self.failures[branch]))


class Brancher:
  """Runs branches of one task; keeps one simulation per thread.

  Attributes:
    compiled: the task.
    controls: maps an action to what the simulator receives.
  """

  def __init__(
    self,
    compiled: CompiledTask,
    policy: GaussianPolicy | None = None,
    *,
    action_range: str = 'raw',
    clip_actions: bool = True,
    threads: int = 0,
  ):
    """Makes the simulations.

    Args:
      compiled: the task.
      policy: shape of the policies that act; None: actions are the noise.
      action_range: 'raw' or 'control', see config.TaskConfig.
      clip_actions: whether controls are clipped to the control range.
      threads: number of threads; 0: all available cores. Results do not change.

    Raises:
      UserError: the model cannot be cloned from a state row, or it lacks the
        control limits that the action range needs.
    """
    threads = require_whole('threads', threads, 0)
    if compiled.model.nplugin:
      raise UserError(
        f'{compiled.task.name}: a model with engine plugins cannot branch: '
        'they may keep state outside the simulation'
      )
    self.compiled = compiled
    idle = noise_policy(compiled.observation_size, compiled.action_size)
    self._policy = policy or idle.policy
    self._idle = None if policy else idle
    _, self.controls = compiled.actions(action_range, clip_actions)
    self._setup = engine.engine_setup(compiled, self._policy, self.controls)
    self._native = engine.make_engine(
      'Brancher', compiled, self._setup, thread_count('threads', threads)
    )

  def branch(
    self,
    snapshots: Sequence[Snapshot | None] | np.ndarray,
    actions: np.ndarray,
    horizon: int,
    policy: FrozenPolicy | None = None,
    noise: np.ndarray | None = None,
    *,
    gamma: float = 1.0,
    time_limit: bool = False,
    trajectories: bool = False,
    final_states: bool = False,
  ) -> Branches:
    """Runs every branch to its end or horizon.

    Args:
      snapshots: N snapshots of this task, or their states, float64 [N, D].
      actions: float64 [N, K, A], the first action of each branch.
      horizon: L, maximum env steps of a branch, including its first action.
      policy: acts after the first step; None: actions are the noise.
      noise: float64 [N, M, L, A], standard normal; row [n, m] belongs to all
        K branches of state n, and its first entry is not used. None: one
        branch without noise.
      gamma: discount per env step.
      time_limit: whether the task's time limit, counted from the episode's
        start, ends a branch.
      trajectories: whether to keep observations, actions, outputs and rewards.
      final_states: whether to keep the state where each branch ended.

    Returns:
      The Branches. Each depends only on its snapshot, first action, noise and
      policy.

    Raises:
      UserError: no snapshot, counts below 1, shapes that do not fit, or a
        snapshot that is damaged or of another model, task or MuJoCo version.
    """
    states = self._states(snapshots)
    actions = np.ascontiguousarray(actions, np.float64)
    horizon = require_whole('horizon', horizon, 1)
    if not 0 <= gamma <= 1:
      raise UserError(f'gamma={gamma} is outside [0, 1]')
    if noise is None:
      noise = np.zeros((len(states), 1, horizon, self.compiled.action_size))
    noise = np.ascontiguousarray(noise, np.float64)
    self._check_shapes(states, actions, noise, horizon)
    native_state.check_states(self.compiled, states)
    actor = self._checked(policy or self._idle)
    arrays = engine.policy_arrays(
      self._policy, actor.theta[None], actor.normalizer
    ) | dict(
      snapshots=states,
      first_actions=actions,
      noise=noise,
      gamma=float(gamma),
      time_limit=bool(time_limit),
    )
    _, K, M = B = len(states), actions.shape[1], noise.shape[1]
    records = self._records(B, horizon, trajectories, final_states)
    errors = self._native.run(arrays | records)
    messages = {(b // (K * M), b // M % K, b % M): text for b, text in errors}
    return Branches(messages=messages, compiled=self.compiled, **records)

  def explain(self, lone: Branches) -> str:
    """Says which of the task's expressions failed, in one line; '' if none.

    Args:
      lone: the results of the latest call, which had a single branch.
    """
    return engine.explain(
      self.compiled, lone.causes(0, 0, 0), self._native, simulation=0
    )

  def _states(
    self, snapshots: Sequence[Snapshot | None] | np.ndarray
  ) -> np.ndarray:
    if isinstance(snapshots, Snapshot) or not len(snapshots):
      raise UserError('branch from a list of one snapshot or more')
    if not isinstance(snapshots, np.ndarray):
      return native_state.to_states(self.compiled, snapshots)
    return np.ascontiguousarray(snapshots, np.float64)

  def _checked(self, actor: FrozenPolicy | None) -> FrozenPolicy:
    if actor is None:
      raise UserError('this Brancher was made for a policy: give branch one')
    if actor.policy.network != self._policy.network:
      raise UserError(
        f'the policy is a network {actor.policy.network}; this Brancher was '
        f'made for {self._policy.network}'
      )
    if actor.normalizer.mean32.shape != (self.compiled.observation_size,):
      raise UserError(
        f'the normaliser is of {actor.normalizer.mean32.size} observations; '
        f'{self.compiled.task.name} has {self.compiled.observation_size}'
      )
    size = self._policy.num_parameters
    if actor.theta.shape != (size,):
      raise UserError(
        f'theta has shape {actor.theta.shape}; this policy has ({size},)'
      )
    return actor

  def _check_shapes(
    self,
    states: np.ndarray,
    actions: np.ndarray,
    noise: np.ndarray,
    horizon: int,
  ) -> None:
    N, A = len(states), self.compiled.action_size
    size = native_state.state_size(self.compiled)
    for name, array, shape in (
      ('states', states, (N, size)),
      ('actions', actions, (N, -1, A)),
      ('noise', noise, (N, -1, horizon, A)),
    ):
      if array.ndim != len(shape) or any(
        w not in (-1, n) for w, n in zip(shape, array.shape, strict=True)
      ):
        raise UserError(
          f'{name} have shape {array.shape}; {self.compiled.task.name} with '
          f'{N} snapshots and horizon {horizon} needs '
          f'{str(shape).replace("-1", "*")}'
        )
      if array.shape[1] < 1:
        raise UserError(f'{name}: 0 per state; branches need at least 1')

  def _records(
    self,
    B: tuple[int, int, int],
    L: int,
    trajectories: bool,
    final_states: bool,
  ) -> dict[str, np.ndarray]:
    O, A = self.compiled.observation_size, self.compiled.action_size
    shapes = dict(
      returns=(B, np.float64),
      lengths=(B, np.int32),
      ends=(B, np.uint8),
      failures=(B, np.int32),
      final_observations=((*B, O), np.float32),
    )
    if trajectories:
      shapes |= dict(
        observations=((*B, L, O), np.float32),
        actions=((*B, L, A), np.float64),
        outputs=((*B, L, A), np.float32),
        rewards=((*B, L), np.float64),
      )
    if final_states:
      size = native_state.state_size(self.compiled)
      shapes['final_states'] = ((*B, size), np.float64)
    return {k: np.zeros(shape, dtype) for k, (shape, dtype) in shapes.items()}


def initial_snapshots(
  compiled: CompiledTask, seed: int, count: int
) -> list[Snapshot]:
  """Makes snapshots of fresh episodes, drawn by the task's reset.

  Args:
    compiled: the task.
    seed: seed of the draws.
    count: number of snapshots.

  Raises:
    UserError: a count outside 1 to 10,000, or a negative seed; or the task's
      resets diverge.
  """
  count = require_whole('count', count, 1, 10_000)
  seed = require_whole('seed', seed, 0)
  policy = noise_policy(compiled.observation_size, compiled.action_size).policy
  _, controls = compiled.actions('raw', clip=True)
  slots = NativeSlots(compiled, count, policy, controls)
  states = np.zeros((count, native_state.state_size(compiled)))
  rows = np.arange(count, dtype=np.int32)[:, np.newaxis]
  arrays = slots.new_arrays(capacity=1)
  arrays |= dict(snapshots=states, snapshot_index=rows, snapshots_only=True)
  slots.rollout(arrays, ResetTable(compiled, seed))
  return native_state.to_snapshots(compiled, states)
