"""Single-path sampling (section 5.1) with the native closed loop.

Slots run side by side. By default each runs its share of the batch and carries
its running episode over to the next iteration, so every step is used; with
`whole_episodes` a slot starts afresh and stops at an episode's end instead.
"""

import dataclasses

import numpy as np

from trpo_tf import seeding
from trpo_tf.config import SamplerConfig, TaskConfig
from trpo_tf.errors import UserError
from trpo_tf.policies.mlp import MLP
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.batch import Batch, Divergence, End
from trpo_tf.sampling.native import state as native_state
from trpo_tf.sampling.native.engine import NativeSlots
from trpo_tf.seeding import Stream
from trpo_tf.tasks.task import CompiledTask

_CHUNK = 32  # episodes whose resets are drawn together


class ResetTable:
  """Initial states by (slot, episode), whatever the order they are asked in."""

  def __init__(self, compiled: CompiledTask, seed: int):
    self._compiled, self._seed = compiled, seed
    self._chunks: dict[tuple[int, int], np.ndarray] = {}

  def _chunk(self, slot: int, chunk: int) -> np.ndarray:
    rows = self._chunks.get((slot, chunk))
    if rows is None:
      rng = seeding.generator(self._seed, Stream.RESET, slot, chunk)
      rows = _draw_resets(self._compiled, rng)
      self._chunks.pop((slot, chunk - 2), None)  # long past
      self._chunks[slot, chunk] = rows
    return rows

  def __call__(self, episodes: np.ndarray, count: int) -> np.ndarray:
    """Rows [S, count, nq + nv] for each slot's episodes from `episodes` on."""
    return np.stack(
      [
        np.concatenate(
          [
            self._chunk(slot, chunk)
            for chunk in range(
              first // _CHUNK, (first + count - 1) // _CHUNK + 1
            )
          ]
        )[first % _CHUNK :][:count]
        for slot, first in enumerate(episodes.tolist())
      ]
    )


def _draw_resets(
  compiled: CompiledTask, rng: np.random.Generator
) -> np.ndarray:
  """Draws rows [_CHUNK, nq + nv] by the task's reset, which may be a user's."""
  task, model = compiled.task, compiled.model
  try:
    qpos, qvel = map(np.asarray, task.reset(model, rng, _CHUNK))
  except Exception as error:  # whatever the user's code raises
    raise UserError(
      f'{task.name}: its reset failed: {type(error).__name__}: {error}'
    ) from error
  wanted = (_CHUNK, model.nq), (_CHUNK, model.nv)
  if (qpos.shape, qvel.shape) != wanted:
    raise UserError(
      f'{task.name}: its reset(model, rng, {_CHUNK}) returned shapes '
      f'{qpos.shape} and {qvel.shape}; qpos and qvel need {wanted[0]} and '
      f'{wanted[1]}'
    )
  rows = np.concatenate([qpos, qvel], axis=1)
  if not np.isfinite(rows).all():
    raise UserError(f'{task.name}: its reset returned a NaN or an infinity')
  return rows


class SinglePathSampler:
  """Batches of env steps of the current policy, for any native task.

  Attributes:
    action_bounds: float64 [A] each, between which actions are not clipped.
  """

  def __init__(
    self,
    compiled: CompiledTask,
    task: TaskConfig,
    config: SamplerConfig,
    network: MLP,
    seed: int,
  ):
    """Makes a sampler whose slots are about to reset.

    Args:
      compiled: the task.
      task: treatment of actions.
      config: batch size, slots, threads, treatment of divergences.
      network: shape of the policy network.
      seed: the run's.
    """
    self._compiled, self._config, self._seed = compiled, config, seed
    self._slots = NativeSlots(
      compiled,
      config.num_slots,
      network,
      action_range=task.action_range,
      clip_actions=task.clip_actions,
      threads=config.sampler_threads,
    )
    self._resets = ResetTable(compiled, seed)
    self._resets(np.zeros(config.num_slots, np.int64), 1)  # a bad one fails now
    if not config.whole_episodes:
      # staggered ends, or equally long episodes would keep all slots in step
      # and a batch would hold one phase of the episode only
      limit, slots = compiled.task.time_limit, np.arange(config.num_slots)
      self._slots.slots['limit'] = -(-limit * (slots + 1) // config.num_slots)
    half = (compiled.high - compiled.low) / 2
    scaled = task.action_range == 'control'
    self.action_bounds = (
      (-np.ones_like(half), np.ones_like(half))
      if scaled
      else (compiled.low, compiled.high)
    )

  def state(self) -> dict[str, np.ndarray]:
    """What the next batch depends on, beside theta and the normaliser."""
    return self._slots.state()

  def restore(self, state: dict[str, np.ndarray]) -> None:
    """Continues from `state`."""
    self._slots.restore(state)

  def sample(
    self,
    theta: np.ndarray,
    normalizer: Normalizer,
    iteration: int,
    deterministic: bool = False,
  ) -> Batch:
    """Collects one batch.

    Args:
      theta: float32 [P], the policy, or [S, P], one a slot.
      normalizer: frozen for the batch.
      iteration: key of the noise.
      deterministic: act by the mean instead of sampling.

    Returns:
      The batch; batch_steps env steps, or more with whole episodes.

    Raises:
      UserError: the task diverges all the time.
    """
    return self._sample(theta, normalizer, iteration, deterministic, {})

  def sample_with_snapshots(
    self,
    theta: np.ndarray,
    normalizer: Normalizer,
    iteration: int,
    places: np.ndarray,
  ) -> tuple[Batch, np.ndarray]:
    """Collects one batch and the states at some of its steps.

    Args:
      theta: float32 [P], the policy.
      normalizer: frozen for the batch.
      iteration: key of the noise.
      places: int [N, 2], slots and steps.

    Returns:
      The batch, and the states [N, D] before the actions at `places`, see
      branching.

    Raises:
      UserError: the task diverges all the time.
    """
    config = self._config
    steps = config.batch_steps // config.num_slots
    index = np.full((config.num_slots, steps), -1, np.int32)
    index[tuple(places.T)] = np.arange(len(places))
    states = np.zeros((len(places), native_state.state_size(self._compiled)))
    wanted = dict(snapshot_index=index, snapshots=states)
    return self._sample(theta, normalizer, iteration, False, wanted), states

  def _sample(
    self,
    theta: np.ndarray,
    normalizer: Normalizer,
    iteration: int,
    deterministic: bool,
    wanted: dict,
  ) -> Batch:
    config = self._config
    share = config.batch_steps // config.num_slots
    limit = self._compiled.task.time_limit
    capacity = share + limit - 1 if config.whole_episodes else share
    if config.whole_episodes:
      self._slots.slots['needs_reset'] = 1
    noise = np.zeros((config.num_slots, capacity, self._compiled.action_size))
    for slot in range(0 if deterministic else config.num_slots):
      noise[slot] = seeding.generator(
        self._seed, Stream.ACTION_NOISE, iteration, slot
      ).standard_normal(noise[slot].shape)
    policies = np.atleast_2d(theta)
    index = np.arange(config.num_slots, dtype=np.int32) % len(policies)
    arrays = self._slots.new_arrays(capacity) | wanted
    arrays |= self._slots.policy_arrays(policies, index, normalizer, noise)

    def retry_noise(slot: int, failures: int) -> np.ndarray:
      rng = seeding.generator(
        self._seed, Stream.RETRY_NOISE, iteration, slot, failures
      )
      return rng.standard_normal(self._compiled.action_size)

    diverged = self._slots.rollout(
      arrays,
      self._resets,
      iteration=iteration,
      min_steps=share if config.whole_episodes else None,
      retry_noise=None if deterministic else retry_noise,
    )
    batch = batch_from_arrays(arrays, self.action_bounds, diverged)
    if config.on_divergence == 'drop':
      batch = drop_diverged(batch)
    return batch


def batch_from_arrays(
  arrays: dict,
  bounds: tuple[np.ndarray, np.ndarray],
  diverged: list[Divergence],
) -> Batch:
  """A Batch of a rollout's records.

  Args:
    arrays: the filled records of NativeSlots.
    bounds: float64 [A] each, between which actions are not clipped.
    diverged: what the rollout returned.

  Returns:
    The batch; it shares the arrays' memory.
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
  if diverged:  # a failed step leaves its inputs behind the last valid one
    for rows in part.values():
      rows[~kept] = 0
  ended = (part['ends'] & (End.TERMINATED | End.TRUNCATED)) != 0
  ended &= ~np.isnan(arrays['episode_returns'][:, :longest])
  slots, rows = np.nonzero(
    np.arange(arrays['boundary_steps'].shape[1])
    < arrays['num_boundaries'][:, None]
  )
  actions = part['actions'][kept]
  clipped = (actions < bounds[0]) | (actions > bounds[1])
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
    clipped_fraction=float(clipped.mean()) if clipped.size else 0.0,
    diverged=tuple(diverged),
  )


def drop_diverged(batch: Batch) -> Batch:
  """The batch without the trajectories that a divergence cut."""
  kept = batch.kept.copy()
  for slot, last in np.argwhere((batch.ends & End.DIVERGED) != 0):
    before = np.flatnonzero(batch.ends[slot, :last])
    kept[slot, before[-1] + 1 if before.size else 0 : last + 1] = False
  return dataclasses.replace(batch, kept=kept)
