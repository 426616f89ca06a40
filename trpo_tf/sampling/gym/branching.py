"""The vine's back end on any Gymnasium environment that can be cloned.

The trunks are the paths of GymPathSampler. The branches run in environments of
their own, which restore the trunks' snapshots. The policy acts for several
branches at once.

A branch depends only on its snapshot, first action, noise and policy, provided
that the environment is a function of its state. (The outputs of a network of
--policy may depend on the other branches in their last bits, as TensorFlow
multiplies the rows of several states together.) A branch fails if its
environment raises an exception or returns a NaN or an infinity. It is then
marked as diverged and recorded; the recorded `state` holds the bytes (uint8) of
its snapshot.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np

from trpo_tf.cloning.cloner import Cloner, cloner
from trpo_tf.cloning.snapshot import Snapshot
from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError, cause, quoted
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.batch import MAX_RECORDED, End, VineBatch
from trpo_tf.sampling.gym import environment
from trpo_tf.sampling.gym.paths import GymPathSampler
from trpo_tf.sampling.vine import BranchFailure, BranchResults, BranchSteps
from trpo_tf.tasks.closing import close
from trpo_tf.tasks.environment import make

__all__ = ['GymVine', 'clonable']

_LANES = 16  # environments that run branches side by side


class GymVine:
  """Trunks and branches in Gymnasium environments; see VineBackend.

  States are the Snapshots of the environments.
  """

  batch_type = VineBatch

  def __init__(self, paths: GymPathSampler, config: ExperimentConfig):
    """Makes the environments of the branches.

    Args:
      paths: sampler of the trunks, whose environments are made by `clonable`.
      config: the experiment. --branch_time_limit concerns Gymnasium's TimeLimit
        only; truncation by the environment itself always ends a branch.
    """
    self.paths, task = paths, config.task.task
    self._keeps_steps = config.uses_every_step
    limited = config.branches_have_time_limit
    keywords = config.task.env_keywords
    envs = [clonable(task, limited, keywords) for _ in range(_LANES)]
    size = paths.spaces.observation_size
    self._lanes = _Lanes(task, envs, size, config.estimator.gamma)

  def close(self) -> None:
    """Closes the environments of trunks and branches."""
    self.paths.close()
    self._lanes.close()

  def branch(
    self,
    states: list[Snapshot],
    first_actions: np.ndarray,
    noise: np.ndarray,
    theta: np.ndarray,
    normalizer: Normalizer,
  ) -> BranchResults:
    """Runs the branches; see VineBackend."""
    network, actor = self.paths.network(theta), self.paths.actor(theta)
    width = self.paths.spaces.output_size
    steps = None
    if self._keeps_steps:
      steps = self._lanes.new_steps(first_actions, noise, width)

    def act(
      observations: np.ndarray, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
      outputs = network(normalizer(observations))
      return outputs, actor.act(outputs, rows)

    return self._lanes.run(
      states, first_actions, noise, act, self.paths.controls, steps
    )


def clonable(
  task_id: str,
  time_limit: bool = True,
  keywords: Mapping[str, Any] | None = None,
) -> Cloner:
  """Makes an environment that can be cloned; see environment.make.

  Raises:
    UserError: the environment cannot be made or cloned.
  """
  return cloner(make(task_id, time_limit, keywords), task_id)


class _Lane:
  """An environment that runs branches, one after the other.

  Attributes:
    index: number of the lane.
    branch: state, action and trial of its branch.
    sent: the actions that the environment received in the branch.
    error: text of the exception that the environment raised; '' for none.
  """

  def __init__(self, index: int, env: Cloner, observation: np.ndarray):
    """Takes `observation`, float32 [O], to which observations are written."""
    self.index, self._env, self._observation = index, env, observation

  def close(self, task_id: str) -> None:
    """Closes the environment, which is one of a task."""
    close(task_id, self._env)

  def begin(self, branch: tuple[int, int, int], snapshot: Snapshot) -> None:
    """Restores the state from which a branch begins."""
    self.branch, self._snapshot = branch, snapshot
    self.sent, self.error = list[np.ndarray](), ''
    environment.observe(self._env.restore(snapshot), self._observation)

  def step(self, control: np.ndarray) -> tuple[float, int]:
    """Sends an action; returns reward and ends, or NaN for an exception."""
    self.sent.append(control.copy())
    try:
      return environment.send(self._env, control, self._observation)
    except KeyboardInterrupt:
      raise
    except BaseException as error:  # whatever the environment raises
      self.error = quoted(error)
      return math.nan, 0

  def failure(self) -> BranchFailure:
    """Describes the failure of the last step."""
    snapshot = self._snapshot
    return BranchFailure(
      branch=self.branch,
      causes=('error' if self.error else 'non-finite output',),
      message=self.error,
      state=np.frombuffer(snapshot.data, np.uint8),
      controls=np.array(self.sent).reshape(len(self.sent), -1),
      header=(snapshot.kind, snapshot.version, snapshot.model),
    )


def _record_step(
  results: BranchResults,
  horizon: int,
  gamma: float,
  where: tuple[np.ndarray, ...],
  rewards: np.ndarray,
  ends: np.ndarray,
  observations: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Adds one step of B branches to their results.

  Args:
    results: results of all branches.
    horizon: L.
    gamma: discount per env step.
    where: states, actions and trials of the branches, int [B] each.
    rewards: float64 [B].
    ends: uint8 [B], bits of End.
    observations: float32 [B, O] after the step. A step failed if its
      observation or its reward is not finite.

  Returns:
    bool [B] each: which steps failed, and which branches are over.
  """
  returns, lengths, branch_ends, finals, *_ = results
  failed = ~(np.isfinite(rewards) & np.isfinite(observations).all(1))
  discounts = gamma ** lengths[where]
  returns[where] += discounts * np.where(failed, 0, rewards)
  lengths[where] += ~failed
  branch_ends[where] = np.where(failed, End.DIVERGED, ends)
  at_end = ~failed & ((ends != 0) | (lengths[where] == horizon))
  finals[tuple(i[at_end] for i in where)] = observations[at_end]
  return failed, at_end | failed


class _Lanes:
  """Runs branches in lanes that step together; a free lane begins another."""

  def __init__(
    self,
    task_id: str,
    envs: Sequence[Cloner],
    observation_size: int,
    gamma: float,
  ):
    """Takes the environments, which may be in any state."""
    self._task_id, self._gamma = task_id, gamma
    self._observations = np.zeros((len(envs), observation_size), np.float32)
    self._lanes = [
      _Lane(i, env, self._observations[i]) for i, env in enumerate(envs)
    ]

  def close(self) -> None:
    """Closes the environments."""
    for lane in self._lanes:
      lane.close(self._task_id)

  def new_steps(
    self, first_actions: np.ndarray, noise: np.ndarray, width: int
  ) -> BranchSteps:
    """Makes zeros for the steps of all branches.

    Args:
      first_actions: [N, K, A].
      noise: float64 [N, M, L, A].
      width: number of outputs of the policy's network.
    """
    N, K, A = first_actions.shape
    shape = N, K, *noise.shape[1:3]
    return BranchSteps(
      np.zeros((*shape, self._observations.shape[1]), np.float32),
      np.zeros((*shape, A), first_actions.dtype),
      np.zeros((*shape, width), np.float32),
      np.zeros(shape),
    )

  def run(
    self,
    snapshots: Sequence[Snapshot],
    first_actions: np.ndarray,
    noise: np.ndarray,
    act: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    controls: Callable[[np.ndarray], np.ndarray],
    steps: BranchSteps | None,
  ) -> BranchResults:
    """Runs every branch to its end or to its maximum length L.

    Args:
      snapshots: the N states.
      first_actions: [N, K, A].
      noise: float64 [N, M, L, A].
      act: maps observations [B, O] and noise [B, A] to the policy's outputs
        [B, M] and actions [B, A].
      controls: maps actions [B, A] to what the environments receive.
      steps: zeros, to be filled with the steps; None: they are not kept.

    Raises:
      UserError: an environment failed to restore.
    """
    branches = (*first_actions.shape[:2], noise.shape[1])
    results = BranchResults(
      np.zeros(branches),
      np.zeros(branches, np.int32),
      np.zeros(branches, np.uint8),
      np.zeros((*branches, self._observations.shape[1]), np.float32),
    )
    waiting, failures = np.ndindex(branches), list[BranchFailure]()
    running = self._begin(self._lanes, waiting, snapshots)
    while running:
      where = n, k, m = tuple(np.array([lane.branch for lane in running]).T)
      rows, t = [lane.index for lane in running], results.lengths[where]
      outputs, actions = act(self._observations[rows], noise[n, m, t])
      first = t == 0
      actions[first] = first_actions[n[first], k[first]]
      if steps is not None:
        steps.observations[(*where, t)] = self._observations[rows]
        steps.outputs[(*where, t)] = outputs
        steps.actions[(*where, t)] = actions
      rewards, ends = np.array(
        [
          lane.step(control)
          for lane, control in zip(running, controls(actions), strict=True)
        ]
      ).T
      if steps is not None:
        steps.rewards[(*where, t)] = rewards
      failed, over = _record_step(
        results,
        noise.shape[2],
        self._gamma,
        where,
        rewards,
        ends.astype(np.uint8),
        self._observations[rows],
      )
      failures += [lane.failure() for lane in compress(running, failed)]
      idle = list(compress(running, over))
      running = [
        *compress(running, ~over),
        *self._begin(idle, waiting, snapshots),
      ]
    failures.sort(key=lambda failure: failure.branch)
    return results._replace(
      failures=tuple(failures[:MAX_RECORDED]), steps=steps
    )

  def _begin(
    self,
    idle: Sequence[_Lane],
    waiting: Iterator[Any],
    snapshots: Sequence[Snapshot],
  ) -> list[_Lane]:
    """Begins waiting branches in idle lanes; returns the lanes it used."""
    begun = []
    for lane, branch in zip(idle, waiting, strict=False):
      try:
        lane.begin(branch, snapshots[branch[0]])
      except KeyboardInterrupt:
        raise
      except BaseException as error:  # a user's code
        raise UserError(
          f'--task={self._task_id}: restore() failed ({cause(error)})'
        ) from error
      begun.append(lane)
    return begun
