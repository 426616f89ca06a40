"""Single-path sampling (section 5.1) of any Gymnasium environment, in Python.

The policy runs for all slots at once. The environments of the slots are stepped
in turn in this process, or in worker processes; the numbers are the same.

Every episode begins with env.reset(seed=...) and its own derived seed. So a
batch depends only on the run's seed, theta and the normaliser, provided that
the environment is a function of its seed and actions. A running episode is
resumed by replaying it, under the same condition.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from trpo_tf.cloning.snapshot import Snapshot
from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.policies.categorical import CategoricalPolicy
from trpo_tf.policies.function import numpy_function
from trpo_tf.policies.gaussian import GaussianPolicy
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.actors import (
  Actor,
  CategoricalActor,
  GaussianActor,
)
from trpo_tf.sampling.batch import Batch, End, Path, batch_of_paths
from trpo_tf.sampling.draws import Draws
from trpo_tf.sampling.gym.environment import EnvironmentSlot
from trpo_tf.sampling.gym.observations import ImageRecord, VectorRecord
from trpo_tf.sampling.gym.taken import Taken
from trpo_tf.sampling.gym.workers import Workers
from trpo_tf.sampling.sampler import PathSampler, check_arrays
from trpo_tf.sampling.threads import thread_count
from trpo_tf.tasks import environment
from trpo_tf.tasks.environment import Spaces

__all__ = ['GymPathSampler']

# env steps after which a whole episode without a time limit is refused
_MAX_EPISODE_STEPS = 100_000
_MOST_EPISODES = 2**53  # of a slot


class _Record(NamedTuple):
  """The steps of a slot, as they are taken; see Path."""

  rewards: list[float]
  ends: list[int]
  timesteps: list[int]
  boundaries: dict[int, np.ndarray]
  episodes: list[tuple[float, int]]


class GymPathSampler(PathSampler[list[Snapshot]]):
  """Sampler of paths in any environment.

  Errors of the environment are reported with the keys to replay them.

  Attributes:
    spaces: observations and actions of the environment.
  """

  def __init__(
    self,
    spaces: Spaces,
    policy: GaussianPolicy | CategoricalPolicy,
    config: ExperimentConfig,
    make: Callable[..., gymnasium.Env] = environment.make,
  ):
    """Makes the environments, which begin with a reset.

    Args:
      spaces: observations and actions of the environment.
      policy: the policy.
      config: the experiment. The environment receives continuous actions
        rounded to its action space's dtype.
      make: makes an environment from its id and its keyword arguments.

    Raises:
      UserError: the environment cannot be made, or it lacks the bounds that
        --action_range needs.
      ValueError: the policy has other sizes.
    """
    self._config, self._policy = config.sampler, policy
    self._seed, task = config.run.seed, config.task
    self.name = f'--task={task.task}'
    S = config.sampler.num_slots
    self.spaces = spaces
    fits = spaces.observation_size, spaces.output_size
    if (policy.observation_size, policy.output_size) != fits:
      raise ValueError(
        f'{task.task} needs a policy of {fits[0]} inputs and {fits[1]} outputs,'
        f' not {policy.observation_size} and {policy.output_size}'
      )
    self.action_space, self._controls = spaces.actions(
      task.task, task.action_range, task.clip_actions
    )
    endless = config.sampler.whole_episodes and spaces.time_limit is None
    self._max_steps = _MAX_EPISODE_STEPS if endless else None
    row = spaces.row
    rows = self._observations = np.zeros((S, *row.shape), row.dtype)
    make_one = functools.partial(make, task.task, keywords=task.env_keywords)
    if spaces.images:
      make_one = functools.partial(make_one, flatten=False)
    self._workers = None
    if config.sampler.env_workers:
      processes = thread_count('--env_workers', config.sampler.env_workers)
      self._workers = Workers(
        task.task, make_one, row, spaces.action_space, S, processes
      )
      envs = [self._workers.env(s) for s in range(S)]
    else:
      envs = [make_one() for _ in range(S)]
    self._slots = [
      EnvironmentSlot(task.task, env, s, self._seed, row, self._first_limit(s))
      for s, (env, row) in enumerate(zip(envs, rows, strict=True))
    ]

  def close(self) -> None:
    """Closes the environments, and ends the workers if there are any."""
    if self._workers:
      self._workers.close()
      return
    for slot in self._slots:
      slot.close()

  def _first_limit(self, slot: int) -> int | None:
    # staggers the first ends, as the native sampler does: otherwise equally
    # long episodes would keep all slots of a batch in the same phase
    limit = self.spaces.time_limit
    if self._config.whole_episodes or limit is None:
      return None
    return -(-limit * (slot + 1) // self._config.num_slots)

  def state(self) -> dict[str, np.ndarray]:
    """Returns what the next batch depends on; see Sampler.

    The state of an environment cannot be stored in general. Instead, the keys
    of the running episodes are stored, with the actions taken so far.
    """
    sent = [Taken() if s.needs_reset else s.sent for s in self._slots]
    dtype = self.spaces.action_space.dtype
    parts = [part.array.ravel().astype(dtype, copy=False) for part in sent]
    return dict(
      episode=np.array([s.episode for s in self._slots]),
      needs_reset=np.array([s.needs_reset for s in self._slots]),
      episode_return=np.array([s.episode_return for s in self._slots]),
      steps=np.array([len(part) for part in sent]),
      actions=np.concatenate(parts).reshape(-1, *self.spaces.action_shape),
      slot_observations=self._observations.copy(),
    )

  def restore(self, state: dict[str, np.ndarray]) -> None:
    """Continues from `state`; replays the running episodes.

    Raises:
      TaskError: a replay did not reproduce the episode, or failed.
      ValueError: the state has another number of slots, other actions or
        impossible counters. In both cases the slots begin anew.
    """
    self._check(state)
    parts = np.split(state['actions'], np.cumsum(state['steps'])[:-1])
    try:
      for s, slot in enumerate(self._slots):
        slot.episode, slot.needs_reset = int(state['episode'][s]), True
        if not (self._config.whole_episodes or state['needs_reset'][s]):
          slot.replay(
            slot.episode,
            parts[s],
            state['slot_observations'][s],
            state['episode_return'][s],
          )
    except UserError:
      for slot in self._slots:
        slot.episode, slot.needs_reset = 0, True
      raise

  def _check(self, state: dict[str, np.ndarray]) -> None:
    """Raises ValueError unless the slots can be put into a state."""
    check_arrays(state, self.state(), actions=0)
    steps = state['steps']
    taken = len(state['actions'])
    if ((steps < 0) | (steps > taken)).any() or steps.sum() != taken:
      raise ValueError('steps do not count the actions')
    runs = ~state['needs_reset'] & (not self._config.whole_episodes)
    least = np.where(runs, 1, 0)  # a running episode has begun
    if ((state['episode'] < least) | (state['episode'] > _MOST_EPISODES)).any():
      raise ValueError('episode is out of range')

  def controls(self, actions: np.ndarray) -> np.ndarray:
    """Maps actions [S, A] to what is sent, [S, *action_shape]."""
    return self.spaces.as_sent(self._controls(actions))

  def actor(self, theta: np.ndarray) -> Actor:
    """Makes the actor of the policy, for theta [P] or [S, P]."""
    if self.spaces.factors:
      return CategoricalActor(self.spaces.factors)
    return GaussianActor(self._policy.log_std(np.asarray(theta, np.float32)))

  def network(self, theta: np.ndarray) -> Callable[[Any], np.ndarray]:
    """Makes the policy's network, from inputs of S states to float32 [S, M].

    theta is float32 [P], or [S, P] with one policy per row of inputs.
    """
    parameters = self._policy.network_parameters(np.asarray(theta, np.float32))
    network = self._policy.network
    if parameters.ndim == 1:
      return numpy_function(network, parameters)
    functions = [numpy_function(network, p) for p in parameters]

    def each(x: np.ndarray) -> np.ndarray:
      rows = zip(functions, np.split(x, len(x)), strict=True)
      return np.concatenate([function(row) for function, row in rows])

    return each

  def _sample(
    self,
    theta: np.ndarray,
    normalizer: Normalizer,
    iteration: int,
    deterministic: bool,
    rollout_set: np.ndarray,
  ) -> tuple[Batch, list[Snapshot]]:
    """Samples; the environments must be Cloners if states are wanted."""
    snapshots: dict[tuple[int, int], Any] = {
      (slot, step): None for slot, step in rollout_set.tolist()
    }
    config = self._config
    share = config.batch_steps // config.num_slots
    network, actor = self.network(theta), self.actor(theta)
    noise = Draws(self._seed, iteration).noise_rows(
      range(len(self._slots)), actor.draw, self.action_space.size
    )
    images, count = (
      self.spaces.images,
      config.batch_steps + 2 * len(self._slots),
    )
    seen = ImageRecord(images, count) if images else VectorRecord()
    steps = list[tuple[np.ndarray, ...]]()
    records = [_Record([], [], [], {}, []) for _ in self._slots]
    while running := [
      slot
      for slot in self._slots
      if len(steps) < share or (config.whole_episodes and not slot.needs_reset)
    ]:
      self._ask_for_resets(running)
      for slot in running:
        if slot.needs_reset:
          slot.reset()
        step = slot.index, len(steps)
        if step in snapshots:
          snapshots[step] = slot.snapshot()
      chosen = [slot.index for slot in running]
      observations = seen.keep(self._observations, chosen)
      outputs = network(seen.inputs(self._observations, normalizer))
      actions = actor.act(outputs, None if deterministic else next(noise))
      self._step(running, actions, records)
      steps.append((observations, outputs, actions))
    columns = [np.stack(rows, axis=1) for rows in zip(*steps, strict=True)]
    last = seen.keep(self._observations)
    paths = []
    for s, record in enumerate(records):
      observations, outputs, actions = (
        column[s, : len(record.rewards)] for column in columns
      )
      path = Path(
        observations,
        last[s],
        outputs,
        actions,
        np.array(record.rewards),
        np.array(record.ends, np.uint8),
        np.array(record.timesteps, np.int32),
        {t: seen.keep(x[None])[0] for t, x in record.boundaries.items()},
        record.episodes,
      )
      paths.append(path)
    batch = batch_of_paths(
      paths, actor, self.action_space, seen.batch_type, **seen.fields
    )
    return batch, list(snapshots.values())

  def _ask_for_resets(self, running: list[EnvironmentSlot]) -> None:
    """Has the workers begin the next episodes of several slots at once."""
    seeds = {s.index: s.next_seed for s in running if s.needs_reset}
    if self._workers and seeds:
      self._workers.reset(seeds)

  def _step(
    self,
    running: list[EnvironmentSlot],
    actions: np.ndarray,
    records: list[_Record],
  ) -> None:
    """Steps the running slots by their rows of the actions [S, A]."""
    sent = self.controls(actions)
    if self._workers:
      self._workers.step({slot.index: sent[slot.index] for slot in running})
    for slot in running:
      record = records[slot.index]
      record.timesteps.append(len(slot.sent))
      reward, ends = slot.step(sent[slot.index])
      if slot.needs_reset and not slot.shortened:
        record.episodes.append((slot.episode_return, len(slot.sent)))
      if ends == End.TRUNCATED:
        record.boundaries[len(record.rewards)] = slot.observation.copy()
      record.rewards.append(reward)
      record.ends.append(ends)
      if len(slot.sent) == self._max_steps:
        raise slot.error(
          'the episode has no end (register the environment '
          'with max_episode_steps)'
        )
    if not np.isfinite(self._observations).all():
      for slot in running:
        slot.check_observation()
