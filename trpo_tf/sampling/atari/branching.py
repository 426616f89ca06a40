"""The vine's back end on Atari games.

The trunks are the paths of AtariPathSampler. A state includes the emulator's
random generator, so with sticky actions all branches of a state also share the
emulator's draws.
"""

from collections.abc import Iterator

import numpy as np

from trpo_tf.config import ExperimentConfig
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.stacks import FrameStore, extend
from trpo_tf.sampling.atari.batch import AtariVineBatch
from trpo_tf.sampling.atari.jobs import BranchJob, BranchPath, StateBranches
from trpo_tf.sampling.atari.paths import AtariPathSampler, AtariStates
from trpo_tf.sampling.vine import BranchResults, BranchSteps
from trpo_tf.tasks.atari import STACK

__all__ = ['AtariVine']


class AtariVine:
  """Trunks and branches in one game; see VineBackend."""

  batch_type = AtariVineBatch

  def __init__(self, paths: AtariPathSampler, config: ExperimentConfig):
    """Prepares to branch in the processes that play the trunks.

    Args:
      paths: sampler of the trunks.
      config: the experiment.
    """
    self.paths = paths
    self._keeps_steps = config.uses_every_step
    self._options = (
      config.estimator.gamma,
      config.branches_have_time_limit,
      self._keeps_steps,
    )

  def close(self) -> None:
    """Ends the processes that play trunks and branches."""
    self.paths.close()

  def branch(
    self,
    states: AtariStates,
    first_actions: np.ndarray,
    noise: np.ndarray,
    theta: np.ndarray,
    normalizer: Normalizer,
  ) -> BranchResults:
    """Runs the branches and stores their last frames; see VineBackend."""
    del normalizer
    stacks = states.trunks.stacks(states.rows)
    each = zip(states.emulators, stacks, first_actions, noise, strict=True)
    jobs = [BranchJob(*job, *self._options) for job in each]
    deaths: list[str] = []
    found = self.paths.pool.run('branches', theta, jobs, deaths)
    steps = None
    if self._keeps_steps:
      width = states.trunks.outputs.shape[-1]
      steps = _no_steps(states.rows, first_actions, noise, width)
    return _gather(found, states.rows, states.trunks.frames, deaths, steps)


def _gather(
  found: Iterator[StateBranches],
  rows: np.ndarray,
  frames: np.ndarray,
  deaths: list[str],
  steps: BranchSteps | None,
) -> BranchResults:
  """Combines the branches of N states.

  Args:
    found: the branches of each state.
    rows: int32 [N, 4], the observations in these states, rows of frames.
    frames: uint8 [F, H, W]; the last frames of the branches are appended.
    deaths: causes of worker crashes, complete once `found` is consumed.
    steps: those of first actions, to be completed; None: they are not kept.
  """
  more = FrameStore(STACK * len(rows), frames.shape[1:], len(frames))
  returns, lengths, ends, finals = [], [], [], []
  for n, (branches, old) in enumerate(zip(found, rows, strict=True)):
    for branch, path in branches.paths.items():
      assert steps is not None
      _store(path, tuple(field[(n, *branch)] for field in steps), more)
    observations = np.zeros((*branches.ends.shape, STACK), np.int32)
    for branch, newest in branches.finals.items():
      observations[branch] = np.append(old[len(newest) :], more.add(newest))
    returns.append(branches.returns)
    lengths.append(branches.lengths)
    ends.append(branches.ends)
    finals.append(observations)
  extend(frames, more.stored())
  return BranchResults(
    np.stack(returns),
    np.stack(lengths),
    np.stack(ends),
    np.stack(finals),
    deaths=tuple(deaths),
    steps=steps,
  )


def _no_steps(
  rows: np.ndarray, first_actions: np.ndarray, noise: np.ndarray, width: int
) -> BranchSteps:
  """Makes steps [N, K, M, L, ...] that hold the first ones only."""
  N, K, A = first_actions.shape
  shape = N, K, *noise.shape[1:3]
  steps = BranchSteps(
    np.zeros((*shape, rows.shape[1]), np.int32),
    np.zeros((*shape, A), np.int32),
    np.zeros((*shape, width), np.float32),
    np.zeros(shape),
  )
  steps.observations[:, :, :, 0] = rows[:, np.newaxis, np.newaxis]
  steps.actions[:, :, :, 0] = first_actions[:, :, np.newaxis]
  return steps


def _store(
  path: BranchPath, fields: tuple[np.ndarray, ...], frames: FrameStore
) -> None:
  """Writes a branch to its fields [L, ...], and its frames to a store."""
  observations, actions, outputs, rewards = fields
  stored, count = frames.add(path.frames), len(path.rewards)
  observations[1:count] = stored[path.observations - 1]
  actions[1:count] = path.actions
  outputs[1:count] = path.outputs
  rewards[:count] = path.rewards
