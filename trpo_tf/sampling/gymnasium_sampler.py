"""Single-path sampling (section 5.1) of any Gymnasium environment, in Python.

The same batches, streams and slots as `single_path`, for environments that are
not native tasks. The slots' environments are stepped in turn in one process,
the policy runs for all slots at once; in NumPy, as a call of a compiled
TensorFlow function took some 40 times as long (eight rows, 64-64, two cores
that were busy with other work).

Every episode begins with env.reset(seed=...) of its own derived seed, so a
batch depends on the run's seed, theta and the normaliser alone, provided that
the environment is a function of its seed and actions. A running episode is
resumed by replaying it under the same proviso.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation

from trpo_tf import seeding
from trpo_tf.config import SamplerConfig, TaskConfig
from trpo_tf.errors import UserError
from trpo_tf.policies.categorical import CategoricalPolicy
from trpo_tf.policies.gaussian import GaussianPolicy
from trpo_tf.policies.mlp import MLP
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.batch import Batch, End
from trpo_tf.seeding import Stream

__all__ = ['GymnasiumSampler', 'Spaces', 'describe']

_TERMINATED, _TRUNCATED = int(End.TERMINATED), int(End.TRUNCATED)
_NOISE_BLOCK = 256  # env steps whose noise is drawn together
_LONGEST = 100_000  # env steps of a whole episode that no time limit ends


@dataclasses.dataclass(frozen=True)
class Spaces:
  """What an environment gives and takes.

  Attributes:
    observation_size: entries of the observation, flattened.
    factors: choices of each discrete factor; () for continuous actions.
    low, high: float64 [A], bounds of an action as the policy gives it; a
      factor's are 0 and n - 1.
    start: int [A], what the environment calls choice 0; zero if continuous.
    time_limit: env steps after which Gymnasium truncates, or None.
  """

  observation_size: int
  factors: tuple[int, ...]
  low: np.ndarray
  high: np.ndarray
  start: np.ndarray
  time_limit: int | None

  @property
  def action_size(self) -> int:
    """Width A of an action: continuous components or discrete factors."""
    return self.low.size

  @property
  def output_size(self) -> int:
    """Width M of the outputs of a policy that fits."""
    return sum(self.factors) or self.action_size


def describe(task_id: str) -> Spaces:
  """Describes a Gymnasium environment.

  Args:
    task_id: as gymnasium.make takes it, 'module:Id-v0' included.

  Raises:
    UserError: it cannot be made, or has spaces that are not supported.
  """
  env = _make(task_id)
  try:
    return _spaces(task_id, env)
  finally:
    env.close()


def _make(task_id: str) -> gymnasium.Env:
  try:
    env = gymnasium.make(task_id, disable_env_checker=True)
  except Exception as error:  # whatever a constructor may raise
    raise UserError(
      f'--task={task_id}: the environment cannot be made: {_line(error)}'
    ) from error
  space = env.observation_space
  if isinstance(space, spaces.Box) and len(space.shape) == 1:
    return env
  return FlattenObservation(env)


def _line(error: Exception) -> str:
  return f'{type(error).__name__}: {" ".join(str(error).split())}'


def _spaces(task_id: str, env: gymnasium.Env) -> Spaces:
  if not isinstance(env.observation_space, spaces.Box):
    raise UserError(
      f'--task={task_id}: observations of {env.unwrapped.observation_space} do '
      'not flatten to a vector; supported: Box, Discrete, MultiDiscrete, '
      'MultiBinary, and Dict and Tuple of these'
    )
  action = env.action_space
  factors: tuple[int, ...] = ()
  if isinstance(action, spaces.Box) and action.dtype.kind == 'f':
    low, high = action.low.ravel(), action.high.ravel()
    start = np.zeros(low.size, int)
  elif isinstance(action, spaces.Discrete | spaces.MultiDiscrete):
    sizes = action.n if isinstance(action, spaces.Discrete) else action.nvec
    factors = tuple(int(n) for n in np.ravel(sizes))
    low, high = np.zeros(len(factors)), np.array(factors) - 1
    start = np.ravel(action.start)
  else:
    raise UserError(
      f'--task={task_id}: actions of {action} are not supported; supported: '
      'Box of floating-point numbers, Discrete, MultiDiscrete'
    )
  return Spaces(
    observation_size=env.observation_space.shape[0],
    factors=factors,
    low=low.astype(np.float64),
    high=high.astype(np.float64),
    start=start,
    time_limit=env.spec.max_episode_steps if env.spec else None,
  )


class _Slot:
  """One environment and its running episode.

  Attributes:
    index: number of the slot.
    observation: float32 [O], the latest; a row of the sampler's.
    episode: resets so far.
    needs_reset: the next step needs a reset before it.
    sent: the actions that the environment got since its reset.
    episode_return: undiscounted, so far.
    shortened: a staggered episode was cut short, its return means nothing.
  """

  def __init__(self, task_id: str, env: gymnasium.Env, index: int, seed: int,
               observation: np.ndarray, first_limit: int | None):
    self._task_id, self._env, self._seed = task_id, env, seed
    self._first_limit = first_limit
    self.index, self.observation = index, observation
    self.episode, self.needs_reset = 0, True
    self.sent: list[np.ndarray] = []
    self.episode_return, self.shortened = 0.0, False

  @property
  def episode_seed(self) -> int:
    """Seed of the running episode's reset."""
    return seeding.derived_seed(
      self._seed, Stream.ENVIRONMENT, self.index, self.episode - 1
    )

  def error(self, what: str) -> UserError:
    """The error of something that went wrong, with the keys to replay it."""
    where = f'step {len(self.sent)}' if self.sent else 'the reset'
    return UserError(
      f'--task={self._task_id}: {what} at {where} of episode '
      f'{self.episode - 1} in slot {self.index}; to replay it: '
      f'env.reset(seed={self.episode_seed}) and the same actions'
    )

  def reset(self) -> None:
    """Begins the next episode."""
    self.episode += 1
    self.needs_reset = self.shortened = False
    self.sent, self.episode_return = [], 0.0
    try:
      observation, _ = self._env.reset(seed=self.episode_seed)
      self._observe(observation)
    except Exception as error:
      raise self.error(f'env.reset failed ({_line(error)})') from error
    self.check_observation()

  def step(self, action: np.ndarray) -> tuple[float, int]:
    """Sends an action, in the environment's own form; returns reward, ends.

    The caller checks the observations of all slots at once.
    """
    self.sent.append(action.copy())
    try:
      observation, reward, terminated, truncated, _ = self._env.step(action)
      self._observe(observation)
      reward, terminated, truncated = (
        float(reward), bool(terminated), bool(truncated)
      )
    except Exception as error:
      raise self.error(f'env.step failed ({_line(error)})') from error
    if not math.isfinite(reward):
      raise self.error(f'the reward is {reward}')
    self.episode_return += reward
    if self.episode == 1 and len(self.sent) == self._first_limit:
      self.shortened = not (terminated or truncated)
      truncated = True
    self.needs_reset = terminated or truncated
    return reward, _TERMINATED * terminated | _TRUNCATED * truncated

  def _observe(self, observation: Any) -> None:
    values = np.asarray(observation, np.float32)
    if values.shape != self.observation.shape:
      raise ValueError(f'observation of shape {values.shape} instead of '
                       f'{self.observation.shape}')
    self.observation[:] = values

  def check_observation(self) -> None:
    """Raises UserError if the observation is not finite."""
    for i in np.flatnonzero(~np.isfinite(self.observation))[:1]:
      raise self.error(f'observation[{i}] is {self.observation[i]}')

  def replay(self, episode: int, actions: np.ndarray, observation: np.ndarray,
             episode_return: float) -> None:
    """Repeats an episode up to where it was.

    Raises:
      UserError: it does not come out at the same observation and return.
    """
    self.episode = episode - 1
    self.reset()
    for action in actions:
      if self.needs_reset:
        break
      self.step(action)
    same = np.array_equal(self.observation, observation)
    if self.needs_reset or not same or self.episode_return != episode_return:
      raise self.error(
        'cannot resume the running episode (the environment is not a function '
        'of its seed and actions; --whole_episodes needs no replay): '
        f'{len(actions)} stored actions led to another observation or return'
      )


class _Gaussian:
  """Actions of a GaussianPolicy; all float64."""

  draw = staticmethod(np.random.Generator.standard_normal)

  def __init__(self, log_std: np.ndarray):
    self._log_std = log_std.astype(np.float64)
    self._deviation = np.exp(self._log_std)

  def act(self, means: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
    """Means [S, A] plus scaled normal noise [S, A]; without, the means."""
    means = means.astype(np.float64)
    return means if noise is None else means + self._deviation * noise

  def log_prob(self, means: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Log density [...] at actions [..., A]."""
    z = (actions - means) / self._deviation
    constant = self._log_std + 0.5 * np.log(2 * np.pi)
    return -(0.5 * z * z + constant).sum(-1)


class _Categorical:
  """Actions of a CategoricalPolicy; int32, computed in float64."""

  draw = staticmethod(np.random.Generator.random)

  def __init__(self, factors: tuple[int, ...]):
    ends = np.cumsum(factors)
    self._slices = [slice(e - n, e) for e, n in zip(ends, factors, strict=True)]

  def act(self, logits: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
    """Inverse CDF of uniforms [S, A]; without, the likeliest choice."""
    if noise is None:
      choices = [logits[:, part].argmax(1) for part in self._slices]
      return np.stack(choices, 1).astype(np.int32)
    actions = np.empty(noise.shape, np.int32)
    for i, part in enumerate(self._slices):
      z = logits[:, part].astype(np.float64)
      cdf = np.exp(z - z.max(1, keepdims=True)).cumsum(1)
      # all but the last: a product that rounds up to the sum stays in range
      below = cdf[:, :-1] <= noise[:, i, None] * cdf[:, -1:]
      actions[:, i] = below.sum(1)
    return actions

  def log_prob(self, logits: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Log probability [...] of actions [..., A]."""
    total = np.zeros(actions.shape[:-1])
    for i, part in enumerate(self._slices):
      z = logits[..., part].astype(np.float64)
      z -= z.max(-1, keepdims=True)
      chosen = np.take_along_axis(z, actions[..., i, None], -1)[..., 0]
      total += chosen - np.log(np.exp(z).sum(-1))
    return total


_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  'tanh': np.tanh,
  'softplus': lambda x: np.logaddexp(x, 0),
}


def _network(
  network: MLP, theta: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
  """The network at theta as a function of float32 [S, O], in NumPy."""
  activation = _ACTIVATIONS[network.activation]
  shapes = network.layer_shapes
  starts = np.cumsum([a * b for a, b in shapes])[:-1]
  parts = np.split(theta[: network.num_parameters], starts)
  *hidden, last = (p.reshape(s) for p, s in zip(parts, shapes, strict=True))

  def outputs(x):
    for layer in hidden:
      x = activation(x @ layer[:-1] + layer[-1])
    return x @ last[:-1] + last[-1]

  return outputs


class _Records:
  """What the slots did, by (slot, step)."""

  def __init__(self):
    self.steps: list[tuple[np.ndarray, ...]] = []
    self.boundaries: dict[tuple[int, int], np.ndarray] = {}
    self.episodes: dict[tuple[int, int], tuple[float, int]] = {}

  def batch(self, actor: _Gaussian | _Categorical,
            bounds: tuple[np.ndarray, np.ndarray],
            last_observations: np.ndarray) -> Batch:
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
  """Batches of env steps of the current policy, for any environment."""

  def __init__(
    self,
    task: TaskConfig,
    config: SamplerConfig,
    policy: GaussianPolicy | CategoricalPolicy,
    seed: int,
  ):
    """Makes the environments, each about to reset.

    Args:
      task: Gymnasium id and treatment of actions. The environment receives
        continuous actions rounded to its action space's dtype.
      config: batch size and slots.
      policy: its network must be an MLP.
      seed: the run's.

    Raises:
      UserError: an environment that cannot be made or is not supported, or an
        action range that needs bounds the environment lacks.
      ValueError: a policy of other sizes.
    """
    self._config, self._policy, self._seed = config, policy, seed
    envs = [_make(task.task) for _ in range(config.num_slots)]
    self._spaces = space = _spaces(task.task, envs[0])
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
    self._bounds = space.low, space.high
    if task.action_range == 'control' and not space.factors:
      if not np.isfinite(self._bounds).all():
        raise UserError(
          f'--task={task.task}: --action_range=control needs a bounded action '
          f'space, not {envs[0].action_space}; use --action_range=raw'
        )
      self._scale = (space.high - space.low) / 2
      self._offset = (space.high + space.low) / 2
      self._bounds = -np.ones(space.action_size), np.ones(space.action_size)
    endless = config.whole_episodes and space.time_limit is None
    self._longest = _LONGEST if endless else None
    S = config.num_slots
    self._observations = np.zeros((S, space.observation_size), np.float32)
    self._slots = [
      _Slot(task.task, env, s, seed, self._observations[s],
            self._first_limit(s))
      for s, env in enumerate(envs)
    ]

  def _first_limit(self, slot: int) -> int | None:
    # staggered ends, as in single_path: equally long episodes would keep all
    # slots in step and a batch would hold one phase of the episode only
    limit = self._spaces.time_limit
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
        slot.replay(slot.episode, parts[s], state['slot_observations'][s],
                    state['episode_return'][s])

  def sample(
    self,
    theta: np.ndarray,
    normalizer: Normalizer,
    iteration: int,
    deterministic: bool = False,
  ) -> Batch:
    """Collects one batch.

    Args:
      theta: float32 [P], the policy.
      normalizer: frozen for the batch.
      iteration: key of the noise.
      deterministic: act by the mean or the likeliest choice.

    Returns:
      The batch; batch_steps env steps, or more with whole episodes.

    Raises:
      UserError: the environment failed, or returned a NaN, an infinity or an
        observation of another shape; with the keys to replay it.
    """
    config, policy = self._config, self._policy
    share = config.batch_steps // config.num_slots
    theta = np.asarray(theta, np.float32)
    network = _network(policy.network, theta)
    actor = (
      _Categorical(self._spaces.factors) if self._spaces.factors
      else _Gaussian(theta[policy.network.num_parameters :])
    )
    noise = self._noise(actor.draw, iteration)
    records = _Records()
    while running := [
      slot for slot in self._slots
      if len(records.steps) < share
      or (config.whole_episodes and not slot.needs_reset)
    ]:
      for slot in running:
        if slot.needs_reset:
          slot.reset()
      observations = self._observations.copy()
      outputs = network(normalizer(observations))
      actions = actor.act(outputs, None if deterministic else next(noise))
      results = self._step(running, self._controls(actions), records)
      records.steps.append((observations, outputs, actions, *results))
    return records.batch(actor, self._bounds, self._observations.copy())

  def _noise(self, draw: Callable, iteration: int) -> Iterator[np.ndarray]:
    """Noise rows [S, A], step by step; slot s reads its own stream."""
    streams = [
      seeding.generator(self._seed, Stream.ACTION_NOISE, iteration, slot.index)
      for slot in self._slots
    ]
    shape = (_NOISE_BLOCK, self._spaces.action_size)
    while True:
      yield from np.stack([draw(stream, shape) for stream in streams], 1)

  def _controls(self, actions: np.ndarray) -> np.ndarray:
    """What the environments receive for actions [S, A]."""
    controls = self._offset + self._scale * actions
    if self._clip:
      controls = np.clip(controls, self._spaces.low, self._spaces.high)
    return controls.astype(self._action_dtype).reshape(-1, *self._action_shape)

  def _step(self, running: list[_Slot], controls: np.ndarray,
            records: '_Records') -> tuple[np.ndarray, ...]:
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
      if ends[s] == _TRUNCATED:
        records.boundaries[s, t] = slot.observation.copy()
      if len(slot.sent) == self._longest:
        raise slot.error('the episode has no end (register the environment '
                         'with max_episode_steps)')
    if not np.isfinite(self._observations).all():
      for slot in running:
        slot.check_observation()
    return rewards, ends, timesteps, kept
