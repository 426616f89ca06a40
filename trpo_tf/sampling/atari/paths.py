"""Single-path sampling (section 5.1) of an Atari game, in worker processes.

The same batches, streams and slots as `gymnasium_sampler`. The steps of a slot
are a job of a process, which emulates and acts by itself: nobody waits for
anybody, and the one emulator stays in the process's cache. A slot's state is
taken at the end of its job, so any process can go on with it, and a batch
depends on the run's seed and theta alone.
"""

import os
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from trpo_tf.config import SamplerConfig
from trpo_tf.policies.conv import ConvNet
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.actors import CategoricalActor
from trpo_tf.sampling.atari.batch import AtariBatch
from trpo_tf.sampling.atari.frames import FrameStore
from trpo_tf.sampling.atari.jobs import Path, PathJob, SlotState, WorkerConfig
from trpo_tf.sampling.atari.pool import Pool
from trpo_tf.sampling.atari.slot import unpacked
from trpo_tf.tasks.atari import STACK, Game

__all__ = ['AtariSampler']

_ACTIVATIONS = ('tanh', 'softplus')


class AtariSampler:
  """Batches of env steps of the current policy in one game.

  Attributes:
    game: what is played.
    pool: the processes that play it.
  """

  def __init__(
    self, game: Game, config: SamplerConfig, network: ConvNet, seed: int
  ):
    """Starts the workers.

    Args:
      game: what is played.
      config: batch size, slots, and as threads the worker processes.
      network: the policy's; its outputs are logits.
      seed: the run's.
    """
    self.game, self._config = game, config
    self._actor = CategoricalActor(game.factors)
    orders = WorkerConfig(
      game,
      seed,
      network.filters,
      network.hidden_sizes,
      _ACTIVATIONS.index(network.activation),
    )
    workers = config.sampler_threads or len(os.sched_getaffinity(0))
    self.pool = Pool(orders, min(workers, config.num_slots))
    nothing = np.zeros((*game.frame_shape, STACK), np.uint8)
    self._slots = [SlotState(b'', nothing, 0, 0.0)] * config.num_slots

  @property
  def process_ids(self) -> list[int]:
    """Of the workers."""
    return self.pool.process_ids

  def close(self) -> None:
    """Ends the workers; so does the end of the sampler or of its process."""
    self.pool.close()

  def state(self) -> dict[str, np.ndarray]:
    """What the next batch depends on, beside theta."""
    states, stacks, timesteps, returns = zip(*self._slots, strict=True)
    sizes = np.array([len(data) for data in states])
    emulators = np.zeros((sizes.size, sizes.max()), np.uint8)
    for row, data in zip(emulators, states, strict=True):
      row[: len(data)] = np.frombuffer(data, np.uint8)
    return dict(
      emulators=emulators,
      emulator_sizes=sizes,
      stacks=np.stack(stacks),
      timesteps=np.array(timesteps, np.int32),
      episode_return=np.array(returns, np.float64),
    )

  def restore(self, state: dict[str, np.ndarray]) -> None:
    """Continues from `state`.

    Raises:
      UserError: the state is of another game or version of ale_py.
      ValueError: it is of another number of slots or another frame.
    """
    shape = len(self._slots), *self._slots[0].stack.shape
    if state['stacks'].shape != shape:
      raise ValueError(
        f'the state has stacks of shape {state["stacks"].shape}, not of {shape}'
      )
    slots = zip(
      *(
        state[name]
        for name in (
          'emulators',
          'emulator_sizes',
          'stacks',
          'timesteps',
          'episode_return',
        )
      ),
      strict=True,
    )
    restored = [
      SlotState(row[:size].tobytes(), stack, int(timestep), float(total))
      for row, size, stack, timestep, total in slots
    ]
    for slot in restored:
      if slot.emulator:
        unpacked(self.game, slot.emulator)
    self._slots = restored

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
      UserError: workers died again and again; with the causes.
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
      UserError: workers died again and again; with the causes.
    """
    batch, paths = self._sample(theta, iteration, False, places)
    return batch, [paths[s].states[t] for s, t in places.tolist()]

  def _sample(
    self,
    theta: np.ndarray,
    iteration: int,
    deterministic: bool,
    places: np.ndarray,
  ) -> tuple[AtariBatch, list[Path]]:
    saved = defaultdict[int, set[int]](set)
    for slot, step in places.tolist():
      saved[slot].add(step)
    config = self._config
    share = config.batch_steps // config.num_slots
    jobs = [
      PathJob(
        s,
        start,
        iteration,
        share,
        config.whole_episodes,
        deterministic,
        frozenset(saved[s]),
      )
      for s, start in enumerate(self._slots)
    ]
    deaths: list[str] = []
    capacity = 1 + len(jobs) * (STACK + share)
    frames = FrameStore(capacity, self.game.frame_shape)
    paths = _gather(self.pool.run('path', theta, jobs, deaths), frames)
    self._slots = [path.end for path in paths]
    return _batch(frames, paths, self._actor, tuple(deaths)), paths


def _gather(found: Iterator[Path], frames: FrameStore) -> list[Path]:
  """The paths with rows of one store, which gets their frames; row 0: black."""
  frames.add(np.zeros((1, *frames.shape), np.uint8))
  paths = []
  for path in found:
    rows = np.append(np.int32(0), frames.add(path.frames))
    paths.append(
      path._replace(
        frames=np.empty(0, np.uint8),
        observations=rows[path.observations],
        last_observation=rows[path.last_observation],
        boundaries={t: rows[seen] for t, seen in path.boundaries.items()},
      )
    )
  return paths


def _batch(
  frames: FrameStore,
  paths: list[Path],
  actor: CategoricalActor,
  deaths: tuple[str, ...],
) -> AtariBatch:
  lengths = np.array([len(path.rewards) for path in paths], np.int32)
  kept = np.arange(lengths.max()) < lengths[:, np.newaxis]

  def padded(name: str) -> np.ndarray:
    """A field of all paths as [S, T, ...]; 0 after a path's end."""
    first = getattr(paths[0], name)
    result = np.zeros((*kept.shape, *first.shape[1:]), first.dtype)
    for row, path in zip(result, paths, strict=True):
      row[: len(path.rewards)] = getattr(path, name)
    return result

  outputs, actions = padded('outputs'), padded('actions')
  log_probs = np.where(kept, actor.log_prob(outputs, actions), 0)
  cuts = [(s, t) for s, path in enumerate(paths) for t in path.boundaries]
  reached = [rows for path in paths for rows in path.boundaries.values()]
  finished = [episode for path in paths for episode in path.episodes]
  return AtariBatch(
    frames=frames.stored(),
    observations=padded('observations'),
    actions=actions,
    outputs=outputs,
    log_probs=log_probs.astype(np.float32),
    rewards=padded('rewards'),
    ends=padded('ends'),
    timesteps=padded('timesteps'),
    lengths=lengths,
    kept=kept,
    last_observations=np.stack([path.last_observation for path in paths]),
    boundary_index=np.array(cuts, np.int32).reshape(-1, 2),
    boundary_observations=np.array(reached, np.int32).reshape(-1, STACK),
    episode_returns=np.array([r for r, _ in finished], np.float64),
    episode_lengths=np.array([n for _, n in finished], np.int32),
    deaths=deaths,
  )
