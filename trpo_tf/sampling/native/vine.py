"""The vine's back end on native tasks."""

import numpy as np

from trpo_tf.cloning import native as native_state
from trpo_tf.config import ExperimentConfig
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.batch import MAX_RECORDED, End, VineBatch
from trpo_tf.sampling.native.branching import Brancher, Branches, FrozenPolicy
from trpo_tf.sampling.native.paths import NativePathSampler
from trpo_tf.sampling.vine import BranchFailure, BranchResults, BranchSteps

__all__ = ['NativeVine']


class NativeVine:
  """Trunks and branches on MuJoCo's batch engine; see VineBackend.

  States are rows float64 [N, D], see `cloning.native`.
  """

  batch_type = VineBatch

  def __init__(self, paths: NativePathSampler, config: ExperimentConfig):
    """Makes the simulations of the branches.

    Args:
      paths: sampler of the trunks.
      config: the experiment.

    Raises:
      UserError: the model's states cannot be cloned.
    """
    self.paths, self._policy = paths, paths.policy
    self._brancher = Brancher(
      paths.compiled,
      paths.policy,
      action_range=config.task.action_range,
      clip_actions=config.task.clip_actions,
      threads=config.sampler.sampler_threads,
    )
    self._gamma = config.estimator.gamma
    self._time_limit = config.branches_have_time_limit
    self._keeps_steps = config.uses_every_step

  def close(self) -> None:
    """Stops the sampler of the trunks."""
    self.paths.close()

  def branch(
    self,
    states: np.ndarray,
    first_actions: np.ndarray,
    noise: np.ndarray,
    theta: np.ndarray,
    normalizer: Normalizer,
  ) -> BranchResults:
    """Runs the branches; see VineBackend."""
    policy = FrozenPolicy(self._policy, theta, normalizer)

    def run(
      n: slice, k: slice, m: slice, trajectories: bool = False
    ) -> Branches:
      """Runs the branches of some states, actions and trials."""
      return self._brancher.branch(
        states[n],
        first_actions[n, k],
        noise.shape[2],
        policy,
        noise[n, m],
        gamma=self._gamma,
        time_limit=self._time_limit,
        trajectories=trajectories,
      )

    every = slice(None)
    found = run(every, every, every, trajectories=self._keeps_steps)

    def failure(n: int, k: int, m: int) -> BranchFailure:
      """Describes a failed branch, which is run again to get its actions."""
      again = run(
        slice(n, n + 1), slice(k, k + 1), slice(m, m + 1), trajectories=True
      )
      assert again.actions is not None
      taken = again.actions[0, 0, 0, : again.lengths.item() + 1]
      fault = self._brancher.explain(again)
      return BranchFailure(
        branch=(n, k, m),
        causes=found.causes(n, k, m),
        message=found.messages.get((n, k, m), fault),
        state=states[n, : native_state.row_size(self.paths.compiled)].copy(),
        controls=self._brancher.controls(taken),
      )

    broken = np.argwhere(found.ends & End.DIVERGED)[:MAX_RECORDED]
    return BranchResults(
      found.returns,
      found.lengths,
      found.ends,
      found.final_observations,
      failures=tuple(failure(*branch) for branch in broken.tolist()),
      steps=_steps(found) if self._keeps_steps else None,
    )


def _steps(found: Branches) -> BranchSteps:
  assert found.observations is not None
  assert found.actions is not None
  assert found.outputs is not None
  assert found.rewards is not None
  return BranchSteps(
    found.observations, found.actions, found.outputs, found.rewards
  )
