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
from trpo_tf.sampling.atari.jobs import BranchJob, StateBranches
from trpo_tf.sampling.atari.paths import AtariPathSampler, AtariStates
from trpo_tf.sampling.vine import BranchResults
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
    self._options = config.estimator.gamma, config.sampler.branch_time_limit

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
    return _gather(found, states.rows, states.trunks.frames, deaths)


def _gather(
  found: Iterator[StateBranches],
  rows: np.ndarray,
  frames: np.ndarray,
  deaths: list[str],
) -> BranchResults:
  """Combines the branches of N states.

  Args:
    found: the branches of each state.
    rows: int32 [N, 4], the observations in these states, rows of frames.
    frames: uint8 [F, H, W]; the last frames of the branches are appended.
    deaths: causes of worker crashes, complete once `found` is consumed.
  """
  more = FrameStore(STACK * len(rows), frames.shape[1:], len(frames))
  returns, lengths, ends, finals = [], [], [], []
  for branches, old in zip(found, rows, strict=True):
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
  )
