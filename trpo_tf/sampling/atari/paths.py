"""Single-path sampling (section 5.1) of an Atari game, in worker processes.

One process takes all steps of a slot in a batch: it emulates and acts by
itself. So no process waits for another, and its emulator stays in the cache.
The slot's state is saved at the end of the job, so any process can continue it,
and a batch depends only on the run's seed and theta.
"""

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from trpo_tf.config import ExperimentConfig, SamplerConfig
from trpo_tf.policies.categorical import CategoricalPolicy
from trpo_tf.policies.mlp import activation_number
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.policies.stacks import FrameStore
from trpo_tf.sampling.actors import CategoricalActor
from trpo_tf.sampling.atari.batch import AtariBatch
from trpo_tf.sampling.atari.emulator import check_slots
from trpo_tf.sampling.atari.jobs import (
  PathJob,
  PathResult,
  SlotState,
  WorkerConfig,
)
from trpo_tf.sampling.atari.pool import Pool
from trpo_tf.sampling.batch import Path, batch_of_paths
from trpo_tf.sampling.sampler import PathSampler, check_arrays
from trpo_tf.sampling.threads import thread_count
from trpo_tf.tasks.actions import ActionSpace
from trpo_tf.tasks.atari import STACK, Game

__all__ = ['AtariPathSampler', 'AtariStates']


class AtariStates(NamedTuple):
  """N states of a batch of trunks.

  Attributes:
    emulators: packed states of the emulators.
    rows: int32 [N, 4], the observations, as rows of the trunks' frames.
    trunks: the batch.
  """

  emulators: list[bytes]
  rows: np.ndarray
  trunks: AtariBatch


class AtariPathSampler(PathSampler[AtariStates]):
  """Sampler of paths in one game.

  Attributes:
    game: the game.
    pool: the processes that play it.
  """

  def __init__(
    self, game: Game, policy: CategoricalPolicy, config: ExperimentConfig
  ):
    """Starts the workers.

    Args:
      game: the game.
      policy: shape of the policy.
      config: the experiment; its sampler threads are worker processes.
    """
    self.game, self._config, self.name = game, config.sampler, game.name
    self._first_limits = _first_limits(game, config.sampler)
    self._actor, network = CategoricalActor(game.factors), policy.network
    sizes = np.array(game.factors, float)
    self.action_space = ActionSpace(game.factors, 0 * sizes, sizes - 1)
    worker = WorkerConfig(
      game,
      config.run.seed,
      network.filters,
      network.hidden_sizes,
      activation_number(network.activation),
    )
    slots, threads = config.sampler.num_slots, config.sampler.sampler_threads
    threads = thread_count('--sampler_threads', threads)
    self.pool = Pool(worker, min(threads, slots))
    nothing = np.zeros((*game.frame_shape, STACK), np.uint8)
    self._slots = [SlotState(b'', nothing, 0, 0.0)] * slots

  def close(self) -> None:
    """Ends the workers, which also end with the sampler or its process."""
    self.pool.close()

  def actor(self, theta: np.ndarray) -> CategoricalActor:
    """Returns the actor, which is the same for any theta; see PathSampler."""
    del theta
    return self._actor

  def state(self) -> dict[str, np.ndarray]:
    """Returns what the next batch depends on; see Sampler."""
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
      ValueError: the state has another number of slots or size of frames, or
        it is damaged. The slots are unchanged.
    """
    check_arrays(state, self.state(), emulators=1)
    sizes, timesteps = state['emulator_sizes'], state['timesteps']
    if (sizes < 0).any() or (timesteps < 0).any():
      raise ValueError('emulator_sizes or timesteps are negative')
    restored = [
      SlotState(
        state['emulators'][s, : sizes[s]].tobytes(),
        stack,
        int(timesteps[s]),
        float(state['episode_return'][s]),
      )
      for s, stack in enumerate(state['stacks'])
    ]
    check_slots(self.game, [slot.emulator for slot in restored])
    self._slots = restored

  def _sample(
    self,
    theta: np.ndarray,
    normalizer: Normalizer | None,
    iteration: int,
    deterministic: bool,
    rollout_set: np.ndarray,
  ) -> tuple[AtariBatch, AtariStates]:
    del normalizer  # frames are not normalised
    saved = defaultdict[int, set[int]](set)
    for slot, step in rollout_set.tolist():
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
        self.keeps_observations,
        self._first_limits[s],
      )
      for s, start in enumerate(self._slots)
    ]
    deaths: list[str] = []
    capacity = 1 + len(jobs) * (STACK + share) * self.keeps_observations
    frames = FrameStore(capacity, self.game.frame_shape)
    frames.add(np.zeros((1, *frames.shape), np.uint8))  # row 0 is black
    found = [
      result._replace(path=_with_rows(result, frames), frames=np.empty(0))
      for result in self.pool.run('path', theta, jobs, deaths)
    ]
    self._slots = [result.end for result in found]
    batch = batch_of_paths(
      [result.path for result in found],
      self._actor,
      self.action_space,
      AtariBatch,
      frames=frames.stored(),
      deaths=tuple(deaths),
    )
    states = [found[s].states[t] for s, t in rollout_set.tolist()]
    rows = batch.observations[tuple(rollout_set.T)]
    return batch, AtariStates(states, rows, batch)


def _first_limits(game: Game, sampler: SamplerConfig) -> list[int]:
  """Returns the time limit of each slot's first episode, in env steps."""
  S, most = sampler.num_slots, game.config.stagger_steps
  if not most or sampler.whole_episodes:
    return [game.time_limit] * S
  return [min(game.time_limit, -(-most * (s + 1) // S)) for s in range(S)]


def _with_rows(result: PathResult, frames: FrameStore) -> Path:
  """Adds a path's frames to a store; returns the path with the store's rows."""
  path = result.path
  rows = np.append(np.int32(0), frames.add(result.frames))
  return path._replace(
    observations=rows[path.observations],
    last_observation=rows[path.last_observation],
    boundaries={t: rows[seen] for t, seen in path.boundaries.items()},
  )
