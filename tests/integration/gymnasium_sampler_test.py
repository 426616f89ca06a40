"""The Python sampler on real environments and against the native sampler."""

import dataclasses

import gymnasium
import numpy as np
import pytest
import worlds
from gymnasium import spaces
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv

from trpo_tf import seeding
from trpo_tf.config import PolicyConfig, SamplerConfig
from trpo_tf.errors import UserError
from trpo_tf.policies.categorical import categorical_policy
from trpo_tf.policies.gaussian import gaussian_policy
from trpo_tf.policies.normalizer import initial_normalizer
from trpo_tf.sampling.batch import End
from trpo_tf.sampling.draws import ResetTable
from trpo_tf.sampling.gym.paths import GymPathSampler
from trpo_tf.sampling.native.paths import NativePathSampler
from trpo_tf.seeding import Stream
from trpo_tf.tasks.environment import describe
from trpo_tf.tasks.gymnasium_v5 import TASKS
from trpo_tf.tasks.task import compile_task

SEED = 11


class Lock(gymnasium.Env):
  """Dict observations, MultiDiscrete actions that do not start at 0."""

  received: list = []

  def __init__(self):
    self.observation_space = spaces.Dict(
      dial=spaces.Discrete(4), place=spaces.Box(-9, 9, (2, 2), np.float64)
    )
    self.action_space = spaces.MultiDiscrete([2, 3], start=[0, 5])

  def observation(self):
    place = np.full((2, 2), self.np_random.uniform())
    return dict(dial=self.dial, place=place)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.dial, self.received[:] = 0, [*self.received, seed]
    return self.observation(), {}

  def step(self, action):
    assert self.action_space.contains(action), action
    self.received.append(action.tolist())
    self.dial = (self.dial + int(action[0])) % 4
    reward = np.float32(action[0] * 10 + action[1])
    return self.observation(), reward, self.dial == 3, False, {}


class Drifting(gymnasium.Env):
  """Is no function of seed and actions."""

  observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
  action_space = spaces.Discrete(2)
  total = 0

  def __init__(self, drift):
    self.drift = np.array(drift)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return self.step(0)[0], {}

  def step(self, action):
    Drifting.total += 1
    observation, reward = Drifting.total * self.drift
    return np.array([observation]), reward, False, False, {}


class PlacedHopper(HopperEnv):
  """Hopper-v5 with given initial states, by seed, and float64 actions."""

  def __init__(self, rows):
    super().__init__()
    self.rows = rows
    self.action_space = spaces.Box(-1, 1, (3,), np.float64)

  def reset(self, *, seed=None, options=None):
    self.row = self.rows[seed]
    return super().reset(seed=seed)

  def reset_model(self):
    self.set_state(*np.split(self.row, [self.model.nq]))
    return self._get_obs()


gymnasium.register('Lock-v0', Lock, max_episode_steps=9)
gymnasium.register(
  'DriftingObservation-v0',
  Drifting,
  max_episode_steps=50,
  kwargs=dict(drift=(1, 0)),
)
gymnasium.register(
  'DriftingReward-v0', Drifting, max_episode_steps=50, kwargs=dict(drift=(0, 1))
)


def make(task_id, slots=3, steps=300, whole=False, seed=SEED, **task):
  space = describe(task_id)
  build = categorical_policy if space.factors else gaussian_policy
  policy = build(
    PolicyConfig(output_scale=1.0),
    space.observation_size,
    space.factors or space.action_size,
  )
  config = SamplerConfig(
    num_slots=slots, batch_steps=steps, whole_episodes=whole
  )
  made = GymPathSampler(
    space, policy, worlds.experiment(config, seed, task=task_id, **task)
  )
  theta = policy.initial_parameters(np.random.default_rng(0))
  normalizer = initial_normalizer(policy.observation_size).update(
    np.random.default_rng(1).standard_normal((100, policy.observation_size))
  )
  return made, policy, theta, normalizer


def to_bytes(batch):
  fields = vars(batch).values()
  return [f.tobytes() if isinstance(f, np.ndarray) else f for f in fields]


@pytest.mark.parametrize(
  'task_id', ['CartPole-v1', 'Pendulum-v1', 'Lock-v0', 'Hopper-v5']
)
def test_records_are_the_policys(task_id):
  sampler, policy, theta, normalizer = make(task_id)
  for iteration in range(2):
    batch = sampler.sample(theta, normalizer, iteration)
    assert batch.kept.all() and batch.num_steps == 300
    outputs = policy.outputs(theta, normalizer(batch.flat(batch.observations)))
    # products of a few units summed in another order, 64 wide
    np.testing.assert_allclose(batch.flat(batch.outputs), outputs, atol=1e-5)
    actions = batch.flat(batch.actions)
    assert actions.dtype == (np.int32 if describe(task_id).factors else float)
    distribution = policy.distribution(theta, batch.flat(batch.outputs))
    np.testing.assert_allclose(
      batch.flat(batch.log_probs),
      distribution.log_prob(actions.astype(outputs.dtype.as_numpy_dtype)),
      atol=1e-5,
      rtol=1e-5,
    )


@pytest.mark.parametrize('whole', [False, True])
@pytest.mark.parametrize('task_id', ['CartPole-v1', 'Pendulum-v1', 'Lock-v0'])
def test_resumed_and_repeated_runs_have_the_same_bytes(task_id, whole):
  sampler, _, theta, normalizer = make(task_id, whole=whole)
  batches = [sampler.sample(theta, normalizer, 0)]
  state = sampler.state()
  batches += [sampler.sample(theta, normalizer, i) for i in (1, 2)]
  repeated, *_ = make(task_id, whole=whole)
  resumed, *_ = make(task_id, whole=whole)
  resumed.restore(state)
  for i, batch in enumerate(batches):
    expected = to_bytes(batch)
    assert to_bytes(repeated.sample(theta, normalizer, i)) == expected
    if i:
      assert to_bytes(resumed.sample(theta, normalizer, i)) == expected
  if task_id != 'Lock-v0':  # all its episodes may just have ended
    assert (state['steps'].sum() == 0) == whole
  other, *_ = make(task_id, whole=whole, seed=SEED + 1)
  assert to_bytes(other.sample(theta, normalizer, 0)) != to_bytes(batches[0])


@pytest.mark.parametrize(
  'task_id', ['DriftingObservation-v0', 'DriftingReward-v0']
)
def test_resume_refuses_what_it_cannot_repeat(task_id):
  sampler, _, theta, normalizer = make(task_id, steps=30)
  sampler.sample(theta, normalizer, 0)
  state = sampler.state()
  fresh, *_ = make(task_id, steps=30)
  with pytest.raises(UserError, match='cannot resume .*--whole_episodes'):
    fresh.restore(state)
  afresh, *_ = make(task_id, steps=30, whole=True)
  afresh.restore(state)
  assert afresh.sample(theta, normalizer, 1).timesteps[:, 0].tolist() == [0] * 3
  wider, *_ = make(task_id, slots=2, steps=30)
  with pytest.raises(ValueError, match=r'\(3,\); this sampler needs \(2,\)'):
    wider.restore(state)


def test_discrete_spaces_seeds_and_returns():
  Lock.received = []
  sampler, _, theta, normalizer = make('Lock-v0', slots=1, steps=100)
  assert describe('Lock-v0').observation_size == 8
  assert describe('Lock-v0').factors == (2, 3)
  batch = sampler.sample(theta, normalizer, 0)
  received = Lock.received
  seeds = [r for r in received if isinstance(r, int)]
  assert len(seeds) > 5 and seeds == [
    seeding.derived_seed(SEED, Stream.ENVIRONMENT, 0, i)
    for i in range(len(seeds))
  ]
  sent = np.array([r for r in received if isinstance(r, list)])
  assert (sent - [0, 5] == batch.actions[0]).all()
  assert {tuple(a) for a in sent} == {(i, j) for i in (0, 1) for j in (5, 6, 7)}
  assert (batch.rewards[0] == sent @ [10, 1]).all()
  # the observation shows the dial in one-hot form: it is 3 after a termination
  dial = batch.observations[0, :, :4].argmax(1)
  terminated = batch.ends[0] & End.TERMINATED != 0
  assert ((dial + batch.actions[0, :, 0]) % 4 == 3).tolist() == (
    terminated.tolist()
  )
  assert terminated.any() and (batch.ends == End.TRUNCATED).any()
  ends = np.flatnonzero(batch.ends[0])
  returns = [part.sum() for part in np.split(batch.rewards[0], ends + 1)[:-1]]
  assert batch.episode_returns.tolist() == returns
  assert batch.episode_lengths.tolist() == np.diff(ends, prepend=-1).tolist()


@pytest.mark.parametrize('deterministic', [False, True])
def test_actions_between_the_bounds(deterministic, monkeypatch):
  received = []
  step = gymnasium.envs.classic_control.PendulumEnv.step

  def record(env, action):
    received.append(action.copy())
    return step(env, action)

  monkeypatch.setattr(
    gymnasium.envs.classic_control.PendulumEnv, 'step', record
  )
  for task, scale, clip in [
    ({}, 1, True),
    (dict(action_range='control'), 2, True),
    (dict(action_range='control', clip_actions=False), 2, False),
  ]:
    received.clear()
    sampler, _, theta, normalizer = make(
      'Pendulum-v1', slots=1, steps=200, **task
    )
    theta[-1] = 1.0  # log deviation: most actions are out of bounds
    batch = sampler.sample(theta, normalizer, 0, deterministic=deterministic)
    expected = scale * batch.actions[0]
    if clip:
      expected = np.clip(expected, -2, 2)
    assert np.array(received).dtype == np.float32
    assert (np.array(received) == expected.astype(np.float32)).all()
    assert batch.clipped_fraction == np.mean(np.abs(batch.actions) > 2 / scale)
    if deterministic:
      assert (batch.actions == batch.outputs).all()
    else:
      assert batch.clipped_fraction > 0.2


@pytest.mark.parametrize('whole', [False, True])
def test_hopper_equals_the_native_sampler(whole):
  # A policy whose arithmetic is exact in any order (one power of two a column)
  # leaves no rounding that the simulations could amplify.
  task = dataclasses.replace(TASKS['Hopper-v5'], time_limit=30)
  compiled = compile_task(task)
  config = SamplerConfig(num_slots=4, batch_steps=320, whole_episodes=whole)
  table = ResetTable(compiled, SEED)(np.zeros(4, int), 96)
  rows = {
    seeding.derived_seed(SEED, Stream.ENVIRONMENT, s, e): table[s, e]
    for s in range(4)
    for e in range(96)
  }
  name = f'PlacedHopper{int(whole)}-v0'
  gymnasium.register(
    name, PlacedHopper, max_episode_steps=30, kwargs=dict(rows=rows)
  )
  policy = gaussian_policy(PolicyConfig(hidden_sizes=()), 11, 3)
  weights = np.zeros((12, 3), np.float32)
  weights[[1, 6, 9], [0, 1, 2]] = [0.5, -0.25, 0.125]
  weights[11] = [0.1, -0.3, 0.2]
  theta = np.append(weights.ravel(), np.float32([-0.5, 0.2, -1]))
  normalizer = initial_normalizer(11).update(
    np.random.default_rng(0).standard_normal((50, 11))
  )
  settings = worlds.experiment(config, SEED, task=name)
  native = NativePathSampler(compiled, policy, settings)
  python = GymPathSampler(describe(name), policy, settings)
  kinds = set()
  for iteration in range(3):
    expected = native.sample(theta, normalizer, iteration)
    actual = python.sample(theta, normalizer, iteration)
    kinds |= set(expected.ends[expected.kept].tolist())
    for field in (
      'ends',
      'timesteps',
      'lengths',
      'kept',
      'boundary_index',
      'episode_lengths',
      'clipped_fraction',
    ):
      np.testing.assert_array_equal(
        getattr(actual, field), getattr(expected, field), field
      )
    for field in (
      'observations',
      'actions',
      'outputs',
      'rewards',
      'log_probs',
      'boundary_observations',
      'episode_returns',
    ):
      ours, theirs = getattr(actual, field), getattr(expected, field)
      assert ours.dtype == theirs.dtype
      np.testing.assert_allclose(ours, theirs, 1e-6, 1e-6, err_msg=field)
    if not whole:
      np.testing.assert_allclose(
        actual.last_observations, expected.last_observations, 1e-6, 1e-6
      )
  assert kinds >= {0, End.TERMINATED, End.TRUNCATED}
