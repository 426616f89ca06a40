"""Single-path sampling (section 5.1) with the native closed loop.

Slots run side by side. By default each runs its share of the batch and carries
its running episode over to the next iteration, so every step is used. With
`whole_episodes`, a slot starts with a reset and stops at an episode's end.
"""

import dataclasses

import numpy as np

from trpo_tf.cloning import native as native_state
from trpo_tf.config import ExperimentConfig
from trpo_tf.policies.gaussian import GaussianPolicy
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.actors import GaussianActor
from trpo_tf.sampling.batch import Batch, Divergence, End
from trpo_tf.sampling.draws import Draws, ResetTable
from trpo_tf.sampling.native.slots import NativeSlots
from trpo_tf.sampling.sampler import PathSampler
from trpo_tf.tasks.actions import ActionSpace
from trpo_tf.tasks.task import CompiledTask


class NativePathSampler(PathSampler[np.ndarray]):
  """Sampler of paths in any native task.

  States are rows float64 [N, D], see `cloning.native`.

  Attributes:
    compiled: the task.
    policy: shape of the policies that act.
  """

  def __init__(
    self,
    compiled: CompiledTask,
    policy: GaussianPolicy,
    config: ExperimentConfig,
  ):
    """Makes a sampler whose slots begin with a reset.

    Args:
      compiled: the task.
      policy: shape of the policies that act.
      config: the experiment.

    Raises:
      UserError: the native sampler cannot run the task, or its reset fails.
    """
    sampler, seed = config.sampler, config.run.seed
    self.compiled, self._config, self._seed = compiled, sampler, seed
    self.policy, self.name = policy, compiled.task.name
    self.action_space, controls = compiled.actions(
      config.task.action_range, config.task.clip_actions
    )
    self._slots = NativeSlots(
      compiled, sampler.num_slots, policy, controls, sampler.sampler_threads
    )
    self._resets = ResetTable(compiled, seed)
    slots = np.arange(sampler.num_slots)
    self._resets(0 * slots, 1)  # a bad reset fails now
    if not sampler.whole_episodes:
      # staggers the first ends: otherwise equally long episodes would keep all
      # slots of a batch in the same phase
      limit = compiled.task.time_limit
      self._slots.slots['limit'] = -(-limit * (slots + 1) // sampler.num_slots)

  def actor(self, theta: np.ndarray) -> GaussianActor:
    """Makes the actor of the policy with parameters theta, float32 [P]."""
    return GaussianActor(self.policy.log_std(theta))

  def state(self) -> dict[str, np.ndarray]:
    """Returns what the next batch depends on; see Sampler."""
    return self._slots.state()

  def restore(self, state: dict[str, np.ndarray]) -> None:
    """Continues from a state; see Sampler."""
    self._slots.restore(state)

  def _sample(
    self,
    theta: np.ndarray,
    normalizer: Normalizer,
    iteration: int,
    deterministic: bool,
    rollout_set: np.ndarray,
  ) -> tuple[Batch, np.ndarray]:
    config, draw = self._config, Draws(self._seed, iteration)
    share = config.batch_steps // config.num_slots
    limit = self.compiled.task.time_limit
    capacity = share + limit - 1 if config.whole_episodes else share
    if config.whole_episodes:
      self._slots.slots['needs_reset'] = 1
    shape = capacity, self.compiled.action_size
    noise = np.zeros((config.num_slots, *shape))
    for slot in range(0 if deterministic else config.num_slots):
      noise[slot] = draw.path_noise(slot, GaussianActor.draw, shape)
    policies = np.atleast_2d(theta)
    index = np.arange(config.num_slots, dtype=np.int32) % len(policies)
    size = native_state.state_size(self.compiled)
    states = np.zeros((len(rollout_set), size))
    where = np.full((config.num_slots, capacity), -1, np.int32)
    where[tuple(rollout_set.T)] = np.arange(len(rollout_set))
    arrays = self._slots.new_arrays(capacity)
    arrays |= dict(snapshot_index=where, snapshots=states)
    arrays |= self._slots.policy_arrays(policies, index, normalizer, noise)

    def retry_noise(slot: int, failures: int) -> np.ndarray:
      return draw.retry_noise(slot, failures, shape[1])

    diverged = self._slots.rollout(
      arrays,
      self._resets,
      iteration=iteration,
      min_steps=share if config.whole_episodes else None,
      retry_noise=None if deterministic else retry_noise,
    )
    batch = batch_from_arrays(
      arrays, self.action_space, diverged, self.compiled.term_names
    )
    if config.on_divergence == 'drop':
      batch = drop_diverged(batch)
    return batch, states


def batch_from_arrays(
  arrays: dict,
  space: ActionSpace,
  diverged: list[Divergence],
  term_names: tuple[str, ...] = (),
) -> Batch:
  """Makes a Batch that shares the memory of a rollout's records.

  Args:
    arrays: the filled records of NativeSlots.
    space: the actions that the policy chooses from.
    diverged: the divergences that the rollout returned.
    term_names: names of the reward's terms.
  """
  S, T = arrays['rewards'].shape
  longest = int(arrays['lengths'].max())
  part = {
    name: arrays[name][:, :longest]
    for name in (
      'observations',
      'actions',
      'outputs',
      'log_probs',
      'rewards',
      'ends',
      'timesteps',
    )
  }
  kept = np.arange(longest) < arrays['lengths'][:, None]
  if diverged:  # a failed step leaves its inputs after the last valid step
    for rows in part.values():
      rows[~kept] = 0
  ended = (part['ends'] & (End.TERMINATED | End.TRUNCATED)) != 0
  ended &= ~np.isnan(arrays['episode_returns'][:, :longest])
  terms = arrays['episode_terms'][:, :longest][ended].T
  slots, rows = np.nonzero(
    np.arange(arrays['boundary_steps'].shape[1])
    < arrays['num_boundaries'][:, None]
  )
  actions = part['actions'][kept]
  clipped = (actions < space.low) | (actions > space.high)
  return Batch(
    **part,
    lengths=arrays['lengths'],
    kept=kept,
    last_observations=arrays['last_observations'],
    boundary_index=np.stack(
      [slots, arrays['boundary_steps'][slots, rows]], 1
    ).astype(np.int32),
    boundary_observations=arrays['boundary_observations'][slots, rows],
    episode_returns=arrays['episode_returns'][:, :longest][ended],
    episode_lengths=part['timesteps'][ended] + 1,
    episode_terms=dict(zip(term_names, terms, strict=False)),
    clipped_fraction=float(clipped.mean()) if clipped.size else 0.0,
    diverged=tuple(diverged),
  )


def drop_diverged(batch: Batch) -> Batch:
  """Returns the batch without the trajectories that a divergence cut."""
  kept = batch.kept.copy()
  for slot, last in np.argwhere((batch.ends & End.DIVERGED) != 0):
    before = np.flatnonzero(batch.ends[slot, :last])
    kept[slot, before[-1] + 1 if before.size else 0 : last + 1] = False
  return dataclasses.replace(batch, kept=kept)
