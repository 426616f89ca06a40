"""Single-path sampling (section 5.1) of an Atari game, in worker processes.

The same batches, streams and slots as `gymnasium_sampler`. The slots are two
groups: while the policy acts for one, the workers emulate the other. A group
always acts as a whole and reads its slots' own streams, so a batch depends on
the run's seed and theta alone, not on the number of workers.

The states of the emulators are taken at the end of a batch. If a worker dies,
fresh ones go back to them and the batch is sampled anew.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np

from trpo_tf import seeding
from trpo_tf.config import SamplerConfig
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.atari_batch import AtariBatch
from trpo_tf.sampling.atari_pool import Pool
from trpo_tf.sampling.atari_records import Records
from trpo_tf.sampling.atari_stacks import PixelStacks, PolicyOutputs
from trpo_tf.sampling.atari_worker import IDLE
from trpo_tf.sampling.batch import End
from trpo_tf.sampling.numpy_policy import CategoricalActor
from trpo_tf.seeding import Stream
from trpo_tf.tasks.atari import Game

__all__ = ['AtariSampler', 'PolicyOutputs']

_NOISE_BLOCK = 256  # env steps whose noise is drawn together

_States = dict[tuple[int, int], bytes]  # of emulators, by slot and step


class AtariSampler:
  """Batches of env steps of the current policy in one game.

  Attributes:
    game: what is played.
    pool: the emulators, in the states that the next batch begins with.
  """

  def __init__(self, game: Game, config: SamplerConfig,
               outputs: PolicyOutputs, seed: int):
    """Starts the workers, each slot at the start of its first episode.

    Args:
      game: what is played.
      config: batch size, slots, and as threads the worker processes.
      outputs: the policy, called with the stacks of half of the slots.
      seed: the run's.
    """
    self.game, self._config, self._outputs = game, config, outputs
    self._seed, self._actor = seed, CategoricalActor(game.factors)
    S = config.num_slots
    workers = config.sampler_threads or len(os.sched_getaffinity(0))
    self.pool = Pool(game, seed, S, workers)
    self._stacks = PixelStacks(S, game.frame_shape)
    self._timesteps = np.zeros(S, np.int32)
    self._returns = np.zeros(S)
    every = np.ones(S, bool)
    self._stacks.push(slice(S), self.pool.shared['frames'], every, every)
    self._begin = self._present()

  @property
  def process_ids(self) -> list[int]:
    """Of the workers."""
    return self.pool.process_ids

  def close(self) -> None:
    """Ends the workers; so does the end of the sampler or of its process."""
    self.pool.close()

  def state(self) -> dict[str, np.ndarray]:
    """What the next batch depends on, beside theta."""
    return dict(self._begin)

  def _present(self) -> dict[str, np.ndarray]:
    states = self.pool.save()
    sizes = np.array([len(data) for data in states])
    emulators = np.zeros((sizes.size, sizes.max()), np.uint8)
    for row, data in zip(emulators, states, strict=True):
      row[: len(data)] = np.frombuffer(data, np.uint8)
    return dict(
      emulators=emulators,
      emulator_sizes=sizes,
      stacks=self._stacks.view().copy(),
      timesteps=self._timesteps.copy(),
      episode_return=self._returns.copy(),
    )

  def restore(self, state: dict[str, np.ndarray]) -> None:
    """Continues from `state`.

    Raises:
      UserError: the state is of another game or version of ale_py.
      ValueError: it is of another number of slots or another frame.
    """
    stacks = self._stacks.view()
    if state['stacks'].shape != stacks.shape:
      raise ValueError(f'the state has stacks of shape {state["stacks"].shape},'
                       f' not of {stacks.shape}')
    self.pool.load([
      row[:size].tobytes() for row, size in
      zip(state['emulators'], state['emulator_sizes'], strict=True)
    ])
    stacks[:] = state['stacks']
    self._timesteps[:] = state['timesteps']
    self._returns[:] = state['episode_return']
    self._begin = dict(state)

  def sample(
    self,
    theta: np.ndarray,
    normalizer: Normalizer | None,
    iteration: int,
    deterministic: bool = False,
  ) -> AtariBatch:
    """Collects one batch.

    Args:
      theta: float32 [P], the policy.
      normalizer: not used, frames are not normalised.
      iteration: key of the noise.
      deterministic: act by the likeliest choices.

    Returns:
      The batch; batch_steps env steps, or more with whole episodes.

    Raises:
      RuntimeError: workers died again and again; with the causes.
    """
    del normalizer
    nowhere = np.zeros((0, 2), np.int32)
    return self._sample(theta, iteration, deterministic, nowhere)[0]

  def sample_with_snapshots(
    self, theta: np.ndarray, iteration: int, places: np.ndarray
  ) -> tuple[AtariBatch, list[bytes]]:
    """Collects one batch and the emulators' states at some of its steps.

    Args:
      theta: float32 [P], the policy.
      iteration: key of the noise.
      places: int [N, 2], slots and steps.

    Returns:
      The batch, and the N states before the actions at `places`, the
      emulators' generators included.

    Raises:
      RuntimeError: workers died again and again; with the causes.
    """
    batch, states = self._sample(theta, iteration, False, places)
    return batch, [states[s, t] for s, t in places.tolist()]

  def _sample(self, theta: np.ndarray, iteration: int, deterministic: bool,
              places: np.ndarray) -> tuple[AtariBatch, _States]:
    def collect() -> tuple[Records, _States]:
      found = self._collect(theta, iteration, deterministic, places)
      self._begin = self._present()
      return found

    (records, states), deaths = self.pool.persist(
      collect, lambda: self.restore(self._begin)
    )
    return records.batch(self._actor, deaths), states

  def _collect(self, theta: np.ndarray, iteration: int, deterministic: bool,
               places: np.ndarray) -> tuple[Records, _States]:
    groups = self.pool.groups
    share = self._config.batch_steps // self._config.num_slots
    records = Records(groups, share, self._stacks.view(), self._timesteps)
    noise = [self._noise(g, iteration, deterministic) for g in groups]
    running = [np.ones(g.stop - g.start, bool) for g in groups]
    acted: list[tuple[np.ndarray, ...]] = [()] * len(groups)
    saved, states = defaultdict[int, list[int]](list), _States()
    for slot, step in places.tolist():
      saved[step].append(slot)

    def act(group: int) -> bool:
      if not running[group].any():
        return False
      acted[group] = self._act(theta, next(noise[group]), group, running[group])
      self.pool.step(group, saved[records.num_steps(group)])
      return True

    def finish(group: int, found: dict[int, bytes]) -> None:
      step = records.num_steps(group)
      states.update({(s, step): state for s, state in found.items()})
      over = self._record(records, group, running[group], *acted[group])
      if step + 1 >= share:
        running[group] &= self._config.whole_episodes & ~over

    self.pool.alternate(act, finish)
    return records, states

  def _noise(self, slots: slice, iteration: int,
             deterministic: bool) -> Iterator[np.ndarray | None]:
    """Noise rows [n, A], step by step; slot s reads its own stream."""
    streams = [
      seeding.generator(self._seed, Stream.ACTION_NOISE, iteration, s)
      for s in range(slots.start, slots.stop)
    ]
    shape = (_NOISE_BLOCK, len(self.game.factors))
    draw: Callable = self._actor.draw
    while True:
      if deterministic:
        yield None
      else:
        draws = [draw(stream, shape) for stream in streams]
        yield from np.stack(draws, 1)

  def _act(self, theta: np.ndarray, noise: np.ndarray | None, group: int,
           running: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The policy acts for a group; returns its outputs and actions."""
    slots = self.pool.groups[group]
    outputs = self._outputs(theta, slots, self._stacks.view(slots))
    actions = self._actor.act(outputs, noise)
    codes = self.game.codes[tuple(actions.T)]
    self.pool.shared['codes'][slots] = np.where(running, codes, IDLE)
    return outputs, actions

  def _record(self, records: Records, group: int, kept: np.ndarray,
              outputs: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Records what a group's step gave; returns whose game is over, [n]."""
    slots, shared = self.pool.groups[group], self.pool.shared
    rewards, ends = self.pool.outcomes(group)
    records.add(group, kept, outputs, actions, rewards, ends,
                self._timesteps[slots])
    over = kept & (shared['ends'][slots] != 0)
    self._timesteps[slots] += kept
    self._returns[slots] += np.where(kept, shared['rewards'][slots], 0)
    for place in np.flatnonzero(over).tolist():
      s = slots.start + place
      records.add_end(group, place, self._returns[s], self._timesteps[s])
      if ends[place] == End.TRUNCATED:
        records.add_boundary(group, place, shared['final_frames'][s])
      self._returns[s] = self._timesteps[s] = 0
    records.add_frames(group, kept, over, shared['frames'][slots])
    self._stacks.push(slots, shared['frames'][slots], kept, over)
    return over
