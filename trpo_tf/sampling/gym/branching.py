"""The vine (section 5.2) on any Gymnasium environment that can be cloned.

The same batches, streams and draws as `vine`, in Python: trunks are the paths
of GymnasiumSampler, and the branches run in environments of their own, which
restore the trunks' snapshots. The policy acts for several branches at once.

A branch is a function of its snapshot, first action, noise and policy alone,
if the environment is one of its state. A branch whose environment raises an
exception or returns a NaN or an infinity has failed: it is marked as diverged
and recorded, its `state` being the bytes (uint8) of its snapshot's data.
"""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from typing import NamedTuple

import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit

from trpo_tf import seeding
from trpo_tf.cloning.cloner import Cloner, cloner
from trpo_tf.cloning.snapshot import Snapshot
from trpo_tf.config import SamplerConfig, TaskConfig
from trpo_tf.errors import UserError
from trpo_tf.policies.categorical import CategoricalPolicy
from trpo_tf.policies.gaussian import GaussianPolicy
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling import draws
from trpo_tf.sampling.actors import CategoricalActor, NumpyActor
from trpo_tf.sampling.batch import (
  MOST_RECORDED,
  Batch,
  Divergence,
  End,
  VineBatch,
)
from trpo_tf.sampling.gym import environment
from trpo_tf.sampling.gym.paths import GymnasiumSampler
from trpo_tf.seeding import Stream

__all__ = ['GymnasiumVineSampler']

_LANES = 16  # environments that run branches side by side
_MOST_ACTIONS = 64  # tried in each state by --branch_proposal=all


class GymnasiumVineSampler:
  """Batches of trunks and branches, for any environment that can be cloned."""

  def __init__(
    self,
    task: TaskConfig,
    config: SamplerConfig,
    policy: GaussianPolicy | CategoricalPolicy,
    seed: int,
    gamma: float,
  ):
    """Makes the environments of trunks and branches.

    Args:
      task: Gymnasium id and treatment of actions, as for GymnasiumSampler.
      config: trunks, rollout set and branches. branch_time_limit is about
        Gymnasium's TimeLimit; an environment that truncates by itself ends
        its branches too.
      policy: its network must be an MLP.
      seed: the run's.
      gamma: discount of a branch's return.

    Raises:
      UserError: an environment that GymnasiumSampler refuses or that cannot
        be cloned, or a proposal that does not fit its actions.
      ValueError: a policy of other sizes.
    """
    self._config, self._seed = config, seed
    self._trunks = GymnasiumSampler(task, config, policy, seed, _clonable)
    self._check_proposal(task.task)
    envs = [_clonable(task.task) for _ in range(_LANES)]
    if not config.branch_time_limit:
      for env in envs:
        _lift_time_limit(env)
    self._brancher = _Brancher(
      task.task, envs, self._trunks.spaces.observation_size, gamma
    )

  def _check_proposal(self, task_id: str) -> None:
    """Raises UserError where q cannot draw from the action space."""
    spaces, proposal = self._trunks.spaces, self._config.branch_proposal
    bounded = np.isfinite(self._trunks.action_bounds).all()
    if proposal == 'uniform' and not bounded:
      raise UserError(
        f'--task={task_id}: --branch_proposal=uniform needs a bounded action '
        'space; use --branch_proposal=policy'
      )
    if proposal != 'all':
      return
    if not spaces.factors:
      raise UserError(
        f'--task={task_id}: --branch_proposal=all needs discrete actions; use '
        'policy or uniform'
      )
    count = math.prod(spaces.factors)
    if count > _MOST_ACTIONS:
      raise UserError(
        f'--task={task_id}: --branch_proposal=all would try {count} actions in '
        f'each state, at most {_MOST_ACTIONS} are possible; use policy or '
        'uniform'
      )

  def state(self) -> dict[str, np.ndarray]:
    """What the next batch depends on, beside theta and the normaliser."""
    return self._trunks.state()

  def restore(self, state: dict[str, np.ndarray]) -> None:
    """Continues from `state`, as GymnasiumSampler does."""
    self._trunks.restore(state)

  def sample(
    self,
    theta: np.ndarray,
    normalizer: Normalizer,
    iteration: int,
    deterministic: bool = False,
  ) -> VineBatch:
    """Collects one batch.

    Args:
      theta: float32 [P], the policy.
      normalizer: frozen for the batch.
      iteration: key of all draws.
      deterministic: must be False.

    Returns:
      The batch: batch_steps env steps of trunks, and those of N x K x M
      branches.

    Raises:
      ValueError: deterministic is True.
      UserError: the environment failed on a trunk, or to restore.
    """
    if deterministic:
      raise ValueError('a vine draws its actions: deterministic=False alone')
    config, seed = self._config, self._seed
    places = draws.draw_states(
      seed,
      iteration,
      config.num_slots,
      config.batch_steps // config.num_slots,
      config.rollout_set_size,
    )
    trunk, snapshots = self._trunks.sample_with_snapshots(
      theta, normalizer, iteration, places
    )
    network, actor = self._trunks.controller(theta)
    actions, log_q = self._propose(
      actor, theta, trunk.outputs[tuple(places.T)], iteration
    )
    shape = (
      len(places),
      config.branch_trials,
      config.branch_length,
      actions.shape[2],
    )
    noise = draws.branch_noise(seed, iteration, shape, actor.draw)
    records, failures = self._brancher.run(
      snapshots,
      actions,
      noise,
      lambda observations, rows: actor.act(
        network(normalizer(observations)), rows
      ),
      self._trunks.controls,
    )
    diverged = tuple(
      _divergence(failure, snapshots, trunk, places, iteration)
      for failure in failures
    )
    fields = vars(trunk) | records
    fields['diverged'] = trunk.diverged + diverged
    return VineBatch(
      **fields, rollout_set=places, first_actions=actions, log_q=log_q
    )

  def _propose(
    self,
    actor: NumpyActor,
    theta: np.ndarray,
    outputs: np.ndarray,
    iteration: int,
  ) -> tuple[np.ndarray, np.ndarray]:
    """First actions [N, K, A] and their log-probability [N, K] under q."""
    rng = seeding.generator(self._seed, Stream.BRANCH_ACTIONS, iteration)
    config, N = self._config, len(outputs)
    if isinstance(actor, CategoricalActor):
      return draws.choices(
        rng,
        config.branch_proposal,
        actor,
        self._trunks.spaces.factors,
        outputs,
        config.branch_actions,
      )
    K = config.branch_actions
    if config.branch_proposal == 'uniform':
      low, high = self._trunks.action_bounds
      return draws.uniform_actions(rng, low, high, N, K)
    log_std = np.asarray(theta)[-outputs.shape[1] :]
    return draws.gaussian_actions(rng, outputs, log_std, K)


def _clonable(task_id: str) -> Cloner:
  return cloner(environment.make(task_id), task_id)


def _lift_time_limit(env: gymnasium.Env) -> None:
  """Makes TimeLimit never truncate; it counts on, as its snapshots say."""
  while isinstance(env, gymnasium.Wrapper):
    if isinstance(env, TimeLimit):
      env._max_episode_steps = sys.maxsize
    env = env.env


class _Failure(NamedTuple):
  """A branch that failed.

  Attributes:
    branch: its state, action and trial.
    error: what the environment raised; '' if it returned a NaN or an infinity.
    controls: [n, ...] that the environment got; the last one's step failed.
  """

  branch: tuple[int, ...]
  error: str
  controls: np.ndarray


def _divergence(
  failure: _Failure,
  snapshots: Sequence[Snapshot],
  trunk: Batch,
  places: np.ndarray,
  iteration: int,
) -> Divergence:
  n = failure.branch[0]
  slot, step = map(int, places[n])
  snapshot = snapshots[n]
  count = len(failure.controls)
  return Divergence(
    iteration=iteration,
    slot=slot,
    episode=0,
    step=int(trunk.timesteps[slot, step]) + count - 1,
    causes=('error' if failure.error else 'non-finite output',),
    message=failure.error,
    state=np.frombuffer(snapshot.data, np.uint8),
    controls=failure.controls.reshape(count, -1),
    branch=failure.branch,
    header=(snapshot.kind, snapshot.version, snapshot.model),
  )


class _Lane:
  """An environment that runs branches, one after the other.

  Attributes:
    index: number of the lane.
    branch: state, action and trial of its branch.
    sent: what the environment got in the branch.
    error: of the exception that the environment raised, if it did.
  """

  def __init__(self, index: int, env: Cloner, observation: np.ndarray):
    """Observations are written to `observation`, float32 [O]."""
    self.index, self._env, self._observation = index, env, observation

  def begin(self, branch: tuple[int, ...], snapshot: Snapshot) -> None:
    """Restores the state of a branch."""
    self.branch, self.sent, self.error = branch, list[np.ndarray](), ''
    environment.observe(self._env.restore(snapshot), self._observation)

  def step(self, control: np.ndarray) -> tuple[float, int]:
    """Sends an action; returns reward and ends, or NaN for an exception."""
    self.sent.append(control.copy())
    try:
      return environment.send(self._env, control, self._observation)
    except Exception as error:  # whatever the environment raises
      self.error = environment.error_line(error)
      return math.nan, 0

  def failure(self) -> _Failure:
    """The failure of the last step."""
    return _Failure(self.branch, self.error, np.array(self.sent))


class _Records:
  """What the branches earned; [N, K, M] fields of VineBatch.

  Attributes:
    lengths: int32 [N, K, M], env steps so far.
  """

  def __init__(
    self,
    branches: tuple[int, ...],
    longest: int,
    observation_size: int,
    gamma: float,
  ):
    """For branches of up to `longest` steps."""
    self._longest, self._gamma = longest, gamma
    self._returns = np.zeros(branches)
    self.lengths = np.zeros(branches, np.int32)
    self._ends = np.zeros(branches, np.uint8)
    self._finals = np.zeros((*branches, observation_size), np.float32)

  def add(
    self,
    where: tuple[np.ndarray, ...],
    rewards: np.ndarray,
    ends: np.ndarray,
    observations: np.ndarray,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Adds one step of the branches `where`.

    Args:
      where: states, actions and trials, int [B] each.
      rewards: float64 [B].
      ends: bits of End, [B].
      observations: float32 [B, O] after the step. It failed where they or
        the reward are not finite.

    Returns:
      bool [B] each: which steps failed, and which branches are over.
    """
    failed = ~(np.isfinite(rewards) & np.isfinite(observations).all(1))
    discounts = self._gamma ** self.lengths[where]
    self._returns[where] += discounts * np.where(failed, 0, rewards)
    self.lengths[where] += ~failed
    self._ends[where] = np.where(failed, End.DIVERGED, ends)
    at_end = ~failed & ((ends != 0) | (self.lengths[where] == self._longest))
    self._finals[tuple(i[at_end] for i in where)] = observations[at_end]
    return failed, at_end | failed

  def fields(self) -> dict[str, np.ndarray]:
    """By their names in VineBatch."""
    return dict(
      branch_returns=self._returns,
      branch_lengths=self.lengths,
      branch_ends=self._ends,
      final_observations=self._finals,
    )


class _Brancher:
  """Runs branches in lanes that go in lock-step, each from state to state."""

  def __init__(
    self,
    task_id: str,
    envs: Sequence[Cloner],
    observation_size: int,
    gamma: float,
  ):
    """Takes the environments, whatever state they are in."""
    self._task_id, self._gamma = task_id, gamma
    self._observations = np.zeros((len(envs), observation_size), np.float32)
    self._lanes = [
      _Lane(i, env, self._observations[i]) for i, env in enumerate(envs)
    ]

  def run(
    self,
    snapshots: Sequence[Snapshot],
    first_actions: np.ndarray,
    noise: np.ndarray,
    act: Callable[[np.ndarray, np.ndarray], np.ndarray],
    controls: Callable[[np.ndarray], np.ndarray],
  ) -> tuple[dict[str, np.ndarray], list[_Failure]]:
    """Runs every branch to its end or its length.

    Args:
      snapshots: N.
      first_actions: [N, K, A].
      noise: float64 [N, M, L, A].
      act: actions [B, A] for observations [B, O] and noise [B, A].
      controls: what the environments receive for actions [B, A].

    Returns:
      The fields of VineBatch that say what the branches earned, and the first
      MOST_RECORDED failures.

    Raises:
      UserError: an environment failed to restore.
    """
    branches = (*first_actions.shape[:2], noise.shape[1])
    records = _Records(
      branches, noise.shape[2], self._observations.shape[1], self._gamma
    )
    waiting, failures = np.ndindex(branches), list[_Failure]()
    running = self._begin(self._lanes, waiting, snapshots)
    while running:
      where = n, k, m = tuple(np.array([lane.branch for lane in running]).T)
      rows, t = [lane.index for lane in running], records.lengths[where]
      actions = act(self._observations[rows], noise[n, m, t])
      first = t == 0
      actions[first] = first_actions[n[first], k[first]]
      rewards, ends = np.array(
        [
          lane.step(control)
          for lane, control in zip(running, controls(actions), strict=True)
        ]
      ).T
      failed, over = records.add(
        where, rewards, ends.astype(np.uint8), self._observations[rows]
      )
      failures += [lane.failure() for lane in compress(running, failed)]
      idle = list(compress(running, over))
      running = [
        *compress(running, ~over),
        *self._begin(idle, waiting, snapshots),
      ]
    failures.sort(key=lambda failure: failure.branch)
    return records.fields(), failures[:MOST_RECORDED]

  def _begin(
    self,
    idle: Sequence[_Lane],
    waiting: Iterator[tuple[int, ...]],
    snapshots: Sequence[Snapshot],
  ) -> list[_Lane]:
    """Begins waiting branches in idle lanes; returns these."""
    begun = []
    for lane, branch in zip(idle, waiting, strict=False):
      try:
        lane.begin(branch, snapshots[branch[0]])
      except Exception as error:  # a user's code
        raise UserError(
          f'--task={self._task_id}: restore() failed '
          f'({environment.error_line(error)})'
        ) from error
      begun.append(lane)
    return begun
