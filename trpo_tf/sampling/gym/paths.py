"""Single-path sampling (section 5.1) of any Gymnasium environment, in Python.

The same batches, streams and slots as `single_path`, for environments that are
not native tasks. The slots' environments are stepped in turn in one process,
the policy runs for all slots at once.

Every episode begins with env.reset(seed=...) of its own derived seed, so a
batch depends on the run's seed, theta and the normaliser alone, provided that
the environment is a function of its seed and actions. A running episode is
resumed by replaying it under the same proviso.
"""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np

from trpo_tf import seeding
from trpo_tf.cloning.snapshot import Snapshot
from trpo_tf.config import SamplerConfig, TaskConfig
from trpo_tf.errors import UserError
from trpo_tf.policies.categorical import CategoricalPolicy
from trpo_tf.policies.gaussian import GaussianPolicy
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.actors import (
  CategoricalActor,
  GaussianActor,
  NumpyActor,
  network_function,
)
from trpo_tf.sampling.batch import Batch, End
from trpo_tf.sampling.gym import environment
from trpo_tf.sampling.gym.environment import EnvironmentSlot, spaces_of
from trpo_tf.seeding import Stream

__all__ = ['GymnasiumSampler']

_NOISE_BLOCK = 256  # env steps whose noise is drawn together
_LONGEST = 100_000  # env steps of a whole episode that no time limit ends


class _Records:
  """What the slots did, by (slot, step)."""

  def __init__(self):
    self.steps: list[tuple[np.ndarray, ...]] = []
    self.boundaries: dict[tuple[int, int], np.ndarray] = {}
    self.episodes: dict[tuple[int, int], tuple[float, int]] = {}

  def batch(
    self,
    actor: NumpyActor,
    bounds: tuple[np.ndarray, np.ndarray],
    last_observations: np.ndarray,
  ) -> Batch:
    """The batch, its unrecorded steps zeroed."""
    observations, outputs, actions, rewards, ends, timesteps, kept = (
      np.stack(rows, 1) for rows in zip(*self.steps, strict=True)
    )
    for field in (observations, outputs, actions):
      field[~kept] = 0
    log_probs = np.where(kept, actor.log_prob(outputs, actions), 0)
    clipped = (actions[kept] < bounds[0]) | (actions[kept] > bounds[1])
    cuts = sorted(self.boundaries)
    finished = [self.episodes[key] for key in sorted(self.episodes)]
    return Batch(
      observations=observations,
      actions=actions,
      outputs=outputs,
      log_probs=log_probs.astype(np.float32),
      rewards=rewards,
      ends=ends,
      timesteps=timesteps,
      lengths=kept.sum(1, dtype=np.int32),
      kept=kept,
      last_observations=last_observations,
      boundary_index=np.array(cuts, np.int32).reshape(-1, 2),
      boundary_observations=np.array(
        [self.boundaries[key] for key in cuts], np.float32
      ).reshape(-1, last_observations.shape[1]),
      episode_returns=np.array([r for r, _ in finished], np.float64),
      episode_lengths=np.array([n for _, n in finished], np.int32),
      clipped_fraction=float(clipped.mean()),
    )


class GymnasiumSampler:
  """Batches of env steps of the current policy, for any environment.

  Attributes:
    spaces: what the environment gives and takes.
    action_bounds: float64 [A] each, between which actions are not clipped.
  """

  def __init__(
    self,
    task: TaskConfig,
    config: SamplerConfig,
    policy: GaussianPolicy | CategoricalPolicy,
    seed: int,
    make: Callable[[str], gymnasium.Env] = environment.make,
  ):
    """Makes the environments, each about to reset.

    Args:
      task: Gymnasium id and treatment of actions. The environment receives
        continuous actions rounded to its action space's dtype.
      config: batch size and slots.
      policy: its network must be an MLP.
      seed: the run's.
      make: makes an environment from its id.

    Raises:
      UserError: an environment that cannot be made or is not supported, or an
        action range that needs bounds the environment lacks.
      ValueError: a policy of other sizes.
    """
    self._config, self._policy, self._seed = config, policy, seed
    envs = [make(task.task) for _ in range(config.num_slots)]
    self.spaces = space = spaces_of(task.task, envs[0])
    fits = (space.observation_size, space.output_size)
    if (policy.observation_size, policy.output_size) != fits:
      raise ValueError(
        f'{task.task} needs a policy of {fits[0]} inputs and {fits[1]} outputs,'
        f' not {policy.observation_size} and {policy.output_size}'
      )
    self._action_dtype = envs[0].action_space.dtype
    self._action_shape = envs[0].action_space.shape or ()
    self._clip = task.clip_actions and not space.factors
    self._scale, self._offset = np.ones(space.action_size), space.start
    self.action_bounds = space.low, space.high
    if task.action_range == 'control' and not space.factors:
      if not np.isfinite(self.action_bounds).all():
        raise UserError(
          f'--task={task.task}: --action_range=control needs a bounded action '
          f'space, not {envs[0].action_space}; use --action_range=raw'
        )
      self._scale = (space.high - space.low) / 2
      self._offset = (space.high + space.low) / 2
      one = np.ones(space.action_size)
      self.action_bounds = -one, one
    endless = config.whole_episodes and space.time_limit is None
    self._longest = _LONGEST if endless else None
    S = config.num_slots
    self._observations = np.zeros((S, space.observation_size), np.float32)
    self._slots = [
      EnvironmentSlot(
        task.task, env, s, seed, self._observations[s], self._first_limit(s)
      )
      for s, env in enumerate(envs)
    ]

  def _first_limit(self, slot: int) -> int | None:
    # staggered ends, as in single_path: equally long episodes would keep all
    # slots in step and a batch would hold one phase of the episode only
    limit = self.spaces.time_limit
    if self._config.whole_episodes or limit is None:
      return None
    return -(-limit * (slot + 1) // self._config.num_slots)

  def state(self) -> dict[str, np.ndarray]:
    """What the next batch depends on, beside theta and the normaliser.

    An environment's own state cannot be stored in general: stored are the
    keys of the running episodes and the actions that they took.
    """
    sent = [[] if s.needs_reset else s.sent for s in self._slots]
    actions = np.array([a for part in sent for a in part], self._action_dtype)
    return dict(
      episode=np.array([s.episode for s in self._slots]),
      needs_reset=np.array([s.needs_reset for s in self._slots]),
      episode_return=np.array([s.episode_return for s in self._slots]),
      steps=np.array([len(part) for part in sent]),
      actions=actions.reshape(-1, *self._action_shape),
      slot_observations=self._observations.copy(),
    )

  def restore(self, state: dict[str, np.ndarray]) -> None:
    """Continues from `state`; replays the running episodes.

    Raises:
      UserError: a replay came out elsewhere than the episode did.
      ValueError: the state of another number of slots.
    """
    if state['episode'].shape != (len(self._slots),):
      raise ValueError(
        f'the state is of {state["episode"].size} slots, not of '
        f'{len(self._slots)}'
      )
    parts = np.split(state['actions'], np.cumsum(state['steps'])[:-1])
    for s, slot in enumerate(self._slots):
      slot.episode, slot.needs_reset = int(state['episode'][s]), True
      if not (self._config.whole_episodes or state['needs_reset'][s]):
        slot.replay(
          slot.episode,
          parts[s],
          state['slot_observations'][s],
          state['episode_return'][s],
        )

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
      deterministic: act by the mean or the likeliest choice.

    Returns:
      The batch; batch_steps env steps, or more with whole episodes.

    Raises:
      UserError: the environment failed, or returned a NaN, an infinity or an
        observation of another shape; with the keys to replay it.
    """
    return self._sample(theta, normalizer, iteration, deterministic, {})

  def sample_with_snapshots(
    self,
    theta: np.ndarray,
    normalizer: Normalizer,
    iteration: int,
    places: np.ndarray,
  ) -> tuple[Batch, list[Snapshot]]:
    """Collects one batch and the states at some of its steps.

    Args:
      theta: float32 [P], the policy.
      normalizer: frozen for the batch.
      iteration: key of the noise.
      places: int [N, 2], slots and steps; the environments must be Cloners.

    Returns:
      The batch, and the N states before the actions at `places`.

    Raises:
      UserError: as `sample`, or an environment's snapshot failed.
    """
    snapshots: dict[tuple[int, int], Any] = {
      (slot, step): None for slot, step in places.tolist()
    }
    batch = self._sample(theta, normalizer, iteration, False, snapshots)
    return batch, list(snapshots.values())

  def controller(
    self, theta: np.ndarray
  ) -> tuple[Callable[[np.ndarray], np.ndarray], NumpyActor]:
    """The policy in NumPy.

    Args:
      theta: float32 [P], or [S, P], one a row of observations.

    Returns:
      Its network as a function, and what acts by the network's outputs.
    """
    network = self._policy.network
    theta = np.asarray(theta, np.float32)
    actor: NumpyActor = (
      CategoricalActor(self.spaces.factors)
      if self.spaces.factors
      else GaussianActor(theta[..., network.num_parameters :])
    )
    if theta.ndim == 1:
      return network_function(network, theta), actor
    functions = [network_function(network, row) for row in theta]

    def each(x: np.ndarray) -> np.ndarray:
      rows = zip(functions, np.split(x, len(x)), strict=True)
      return np.concatenate([function(row) for function, row in rows])

    return each, actor

  def _sample(
    self,
    theta: np.ndarray,
    normalizer: Normalizer,
    iteration: int,
    deterministic: bool,
    snapshots: dict[tuple[int, int], Any],
  ) -> Batch:
    """As `sample`; fills in the values of snapshots by slot and step."""
    config = self._config
    share = config.batch_steps // config.num_slots
    network, actor = self.controller(theta)
    noise = self._noise(actor.draw, iteration)
    records = _Records()
    while running := [
      slot
      for slot in self._slots
      if len(records.steps) < share
      or (config.whole_episodes and not slot.needs_reset)
    ]:
      for slot in running:
        if slot.needs_reset:
          slot.reset()
        if (place := (slot.index, len(records.steps))) in snapshots:
          snapshots[place] = slot.snapshot()
      observations = self._observations.copy()
      outputs = network(normalizer(observations))
      actions = actor.act(outputs, None if deterministic else next(noise))
      results = self._step(running, self.controls(actions), records)
      records.steps.append((observations, outputs, actions, *results))
    return records.batch(actor, self.action_bounds, self._observations.copy())

  def _noise(self, draw: Callable, iteration: int) -> Iterator[np.ndarray]:
    """Noise rows [S, A], step by step; slot s reads its own stream."""
    streams = [
      seeding.generator(self._seed, Stream.ACTION_NOISE, iteration, slot.index)
      for slot in self._slots
    ]
    shape = (_NOISE_BLOCK, self.spaces.action_size)
    while True:
      yield from np.stack([draw(stream, shape) for stream in streams], 1)

  def controls(self, actions: np.ndarray) -> np.ndarray:
    """What the environments receive for actions [S, A]."""
    controls = self._offset + self._scale * actions
    if self._clip:
      controls = np.clip(controls, self.spaces.low, self.spaces.high)
    return controls.astype(self._action_dtype).reshape(-1, *self._action_shape)

  def _step(
    self,
    running: list[EnvironmentSlot],
    controls: np.ndarray,
    records: '_Records',
  ) -> tuple[np.ndarray, ...]:
    """Steps the running slots; returns rewards, ends, timesteps, kept [S]."""
    S, t = len(self._slots), len(records.steps)
    rewards, kept = np.zeros(S), np.zeros(S, bool)
    ends, timesteps = np.zeros(S, np.uint8), np.zeros(S, np.int32)
    for slot in running:
      s = slot.index
      kept[s], timesteps[s] = True, len(slot.sent)
      rewards[s], ends[s] = slot.step(controls[s])
      if slot.needs_reset and not slot.shortened:
        records.episodes[s, t] = slot.episode_return, len(slot.sent)
      if ends[s] == End.TRUNCATED:
        records.boundaries[s, t] = slot.observation.copy()
      if len(slot.sent) == self._longest:
        raise slot.error(
          'the episode has no end (register the environment '
          'with max_episode_steps)'
        )
    if not np.isfinite(self._observations).all():
      for slot in running:
        slot.check_observation()
    return rewards, ends, timesteps, kept
