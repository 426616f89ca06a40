"""The vine on Gymnasium environments, and against the native vine."""

import dataclasses
import itertools

import gymnasium
import numpy as np
import programs
import pytest
import worlds
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv

from trpo_tf import seeding
from trpo_tf.cloning import packing
from trpo_tf.cloning.cloner import cloner
from trpo_tf.config import (
  EstimatorConfig,
  ExperimentConfig,
  PolicyConfig,
  RunConfig,
  SamplerConfig,
  TaskConfig,
  TrustRegionConfig,
)
from trpo_tf.errors import UserError
from trpo_tf.estimation import vine
from trpo_tf.experiment import backend
from trpo_tf.experiment.training import Training
from trpo_tf.policies.gaussian import gaussian_policy
from trpo_tf.policies.normalizer import initial_normalizer
from trpo_tf.sampling.batch import End
from trpo_tf.sampling.draws import Draws, ResetTable
from trpo_tf.sampling.gym.branching import GymVine, clonable
from trpo_tf.sampling.gym.paths import GymPathSampler
from trpo_tf.sampling.native.paths import NativePathSampler
from trpo_tf.sampling.native.vine import NativeVine
from trpo_tf.sampling.vine import VineSampler
from trpo_tf.seeding import Stream
from trpo_tf.tasks.environment import describe
from trpo_tf.tasks.environment import make as make_environment
from trpo_tf.tasks.gymnasium_v5 import TASKS
from trpo_tf.tasks.task import compile_task

SEED, GAMMA = 11, 0.9


class Buttons(gymnasium.Env):
  """Pays the buttons' numbers, which do not start at 0."""

  observation_space = spaces.Box(-1, 1, (2,), np.float64)

  def __init__(self, sizes=(2, 3)):
    self.action_space = spaces.MultiDiscrete(sizes, start=[5] * len(sizes))

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return np.zeros(2), {}

  def step(self, action):
    assert self.action_space.contains(action), action
    return np.zeros(2), float(action @ [1, 10]), False, False, {}

  def snapshot(self):
    return b''

  def restore(self, data):
    assert data == b''


class Fragile(gymnasium.Env):
  """Pays 1 a step; after an odd number of steps only action 0 is harmless."""

  observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
  action_space = spaces.Discrete(4)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.steps, self.cracked = 0, False
    return np.zeros(2), {}

  def step(self, action):
    if self.cracked:
      raise RuntimeError('motor\nburnt')
    harmful = self.steps % 2 * action
    self.steps, self.cracked = self.steps + 1, harmful == 1
    observation = np.array([self.steps / 8, np.nan if harmful == 2 else 0])
    return observation, -np.inf if harmful == 3 else 1.0, False, False, {}

  def snapshot(self):
    return packing.pack([self.steps, self.cracked])

  def restore(self, data):
    self.steps, self.cracked = packing.unpack(data)


class Forgotten(Buttons):
  def restore(self, data):
    raise KeyError('no\nsuch state')


gymnasium.register('Buttons-v0', Buttons)
gymnasium.register('ManyButtons-v0', Buttons, kwargs=dict(sizes=(5, 13)))
gymnasium.register('Fragile-v0', Fragile)
gymnasium.register('Forgotten-v0', Forgotten)
gymnasium.register('ShortCartPole-v0', CartPoleEnv, max_episode_steps=10)


def configure(task_id, proposal='policy', **sampler):
  options = (
    dict(
      num_slots=3,
      batch_steps=90,
      rollout_set_size=12,
      branch_actions=3,
      branch_length=8,
    )
    | sampler
  )
  every = proposal == 'all'
  return ExperimentConfig(
    task=TaskConfig(task=task_id),
    policy=PolicyConfig(output_scale=1.0),
    sampler=SamplerConfig(sampler='vine', branch_proposal=proposal, **options),
    estimator=EstimatorConfig(
      gamma=GAMMA,
      baseline='none',
      vine_objective='all_actions' if every else 'self_normalized',
    ),
    trust_region=TrustRegionConfig(max_kl=0.05),
    run=RunConfig(seed=SEED),
  )


def make(config):
  """Sampler, policy, parameters and a normaliser that has seen something."""
  task = backend.resolve(config)
  policy = task.policy()
  theta = policy.initial_parameters(np.random.default_rng(0))
  normalizer = initial_normalizer(policy.observation_size).update(
    np.random.default_rng(1).standard_normal((100, policy.observation_size))
  )
  return backend.make_sampler(task), policy, theta, normalizer


def sample(task_id, proposal='policy', iteration=0, **sampler):
  made, _, theta, normalizer = make(configure(task_id, proposal, **sampler))
  return made.sample(theta, normalizer, iteration)


def to_bytes(batch):
  return {
    name: field.tobytes() if isinstance(field, np.ndarray) else field
    for name, field in vars(batch).items()
  }


@pytest.mark.slow
def test_cartpole_learns():
  config = configure(
    'CartPole-v1',
    'all',
    num_slots=4,
    batch_steps=200,
    rollout_set_size=25,
    branch_length=50,
  )
  config = dataclasses.replace(
    config,
    policy=PolicyConfig(hidden_sizes=(16,)),
    estimator=dataclasses.replace(config.estimator, gamma=0.99),
    run=RunConfig(seed=SEED, total_env_steps=35_000),
  )
  batches = [i.batch for i in Training(config).iterations()]
  returns = [batch.episode_returns for batch in batches]
  assert 12 < np.mean(returns[0]) < 40  # of random actions: 22
  assert np.mean(np.concatenate(returns[-8:])) > 110


@pytest.mark.slow
@pytest.mark.parametrize('time_limit', [False, True])
@pytest.mark.parametrize('proposal', ['policy', 'uniform'])
@pytest.mark.parametrize(
  'name, kind',
  [
    ('InvertedPendulum-v5', InvertedPendulumEnv),
    ('Hopper-v5', HopperEnv),
    ('HalfCheetah-v5', HalfCheetahEnv),
  ],
)
def test_branches_equal_the_native_ones(name, kind, proposal, time_limit):
  # A policy whose arithmetic is exact in any order (one power of two a column)
  # leaves no rounding that the simulations could amplify.
  compiled = compile_task(dataclasses.replace(TASKS[name], time_limit=30))
  task_id = place(compiled, name, kind)
  config = configure(
    task_id,
    proposal,
    num_slots=4,
    batch_steps=160,
    rollout_set_size=20,
    branch_trials=2,
    branch_length=12,
    branch_time_limit=time_limit,
  ).sampler
  O, A = compiled.observation_size, compiled.action_size
  policy = gaussian_policy(PolicyConfig(hidden_sizes=()), O, A)
  weights = np.zeros((O + 1, A), np.float32)
  weights[(3 * np.arange(A) + 1) % O, np.arange(A)] = 0.25
  theta = np.append(weights.ravel(), np.full(A, -1, np.float32))
  normalizer = initial_normalizer(O).update(
    np.random.default_rng(0).standard_normal((50, O))
  )
  settings = worlds.experiment(config, SEED, GAMMA, task=task_id)
  paths = NativePathSampler(compiled, policy, settings)
  native = VineSampler(NativeVine(paths, settings), config, SEED)
  paths = GymPathSampler(describe(task_id), policy, settings, clonable)
  python = VineSampler(GymVine(paths, settings), config, SEED)
  for iteration in range(2):
    expected = native.sample(theta, normalizer, iteration)
    actual = python.sample(theta, normalizer, iteration)
    assert actual.num_steps == expected.num_steps
    for field in ('rollout_set', 'branch_lengths', 'branch_ends'):
      np.testing.assert_array_equal(
        getattr(actual, field), getattr(expected, field), field
      )
    for field in ('first_actions', 'log_q', 'branch_returns'):
      np.testing.assert_allclose(
        getattr(actual, field), getattr(expected, field), 1e-9, 1e-9, field
      )
    np.testing.assert_allclose(
      actual.final_observations, expected.final_observations, 1e-6, 1e-6
    )
    assert np.ptp(actual.branch_returns, axis=1).max() > 0.01


def place(compiled, name, kind):
  """Registers an environment that begins where the native task does."""
  table = ResetTable(compiled, SEED)(np.zeros(4, int), 96)
  rows = {
    seeding.derived_seed(SEED, Stream.ENVIRONMENT, s, e): table[s, e]
    for s, e in itertools.product(range(4), range(96))
  }

  class Placed(kind):
    def __init__(self):
      super().__init__()
      self.action_space = spaces.Box(
        compiled.low, compiled.high, dtype=np.float64
      )

    def reset(self, *, seed=None, options=None):
      self.row = rows.get(seed, table[0, 0])  # before a restore: any
      return super().reset(seed=seed)

    def reset_model(self):
      self.set_state(*np.split(self.row, [self.model.nq]))
      return self._get_obs()

  task_id = f'Placed{name}'
  gymnasium.registry.pop(task_id, None)
  gymnasium.register(task_id, Placed, max_episode_steps=30)
  return task_id


@pytest.mark.parametrize(
  'task_id',
  ['CartPole-v1', 'FrozenLake-v1', 'Pendulum-v1', 'gymnasium:Hopper-v5'],
)
def test_branches_that_repeat_the_trunk_reproduce_it(task_id, monkeypatch):
  L, S, T = 9, 3, 30
  config = configure(task_id, branch_length=L)
  made, _, theta, normalizer = make(config)
  trunk = backend.resolve(config).paths().sample(theta, normalizer, 0)
  assert not (trunk.ends & End.TRUNCATED).any()
  discrete = trunk.actions.dtype == np.int32
  noise = np.stack(
    [
      getattr(
        seeding.generator(SEED, Stream.ACTION_NOISE, 0, slot),
        'random' if discrete else 'standard_normal',
      )(trunk.actions[0].shape)
      for slot in range(S)
    ]
  )
  places = Draws(SEED, 0).rollout_set(S, T - L, 12)
  rows = np.stack([noise[s, t : t + L] for s, t in places])
  first = np.repeat(trunk.actions[tuple(places.T)][:, None], 3, 1)
  proposed = first, np.zeros((12, 3))
  monkeypatch.setattr(Draws, 'rollout_set', lambda *_: places)
  monkeypatch.setattr(Draws, 'branch_noise', lambda *_: rows[:, None])
  monkeypatch.setattr(Draws, 'first_actions', lambda *_: proposed)
  batch = made.sample(theta, normalizer, 0)
  for n, (s, t) in enumerate(places.tolist()):
    ends = np.flatnonzero(trunk.ends[s, t : t + L])
    length = int(ends[0]) + 1 if ends.size else L
    earned = sum(GAMMA**i * trunk.rewards[s, t + i] for i in range(length))
    assert (batch.branch_lengths[n] == length).all()
    assert (batch.branch_returns[n] == earned).all()
    assert (batch.branch_ends[n] == trunk.ends[s, t + length - 1]).all()
    if not ends.size:
      assert (batch.final_observations[n] == trunk.observations[s, t + L]).all()
  assert (batch.branch_ends == 0).any()


@pytest.mark.parametrize(
  'task_id, count', [('FrozenLake-v1', 6), ('CartPole-v1', 4), ('Taxi-v4', 9)]
)
def test_equal_first_actions_earn_equal_returns(task_id, count):
  batch = sample(
    task_id, branch_actions=count, branch_trials=2, branch_length=25
  )
  equal, differing = 0, 0
  for n in range(12):
    for j, k in itertools.combinations(range(count), 2):
      same = all(
        field[n, j].tobytes() == field[n, k].tobytes()
        for field in (
          batch.branch_returns,
          batch.branch_lengths,
          batch.branch_ends,
          batch.final_observations,
        )
      )
      if batch.first_actions[n, j] == batch.first_actions[n, k]:
        equal += 1
        assert same
      else:
        differing += not same
  assert equal >= 12 and differing


def test_env_steps_are_those_of_the_environments(monkeypatch):
  calls = []
  step = CartPoleEnv.step
  monkeypatch.setattr(
    CartPoleEnv, 'step', lambda env, a: calls.append(a) or step(env, a)
  )
  batch = sample('CartPole-v1', 'uniform', branch_trials=2, branch_length=30)
  assert batch.num_steps == len(calls) == 90 + batch.branch_lengths.sum()
  assert batch.branch_lengths.shape == (12, 3, 2)
  terminated = batch.branch_ends == End.TERMINATED
  assert (terminated == (batch.branch_lengths < 30)).all()
  assert terminated.any() and not terminated.all()
  expected = (1 - GAMMA**batch.branch_lengths) / (1 - GAMMA)
  np.testing.assert_allclose(batch.branch_returns, expected, 1e-12)


def test_time_limit_ends_trunks_and_with_the_flag_branches():
  free, limited = (
    sample('ShortCartPole-v0', branch_length=9, branch_time_limit=flag)
    for flag in (False, True)
  )
  assert to_bytes(free)['observations'] == to_bytes(limited)['observations']
  left = 10 - free.at_rollout_set(free.timesteps)[:, None, None]
  assert (free.branch_lengths > left).any()
  assert not (free.branch_ends & End.TRUNCATED).any()
  expected = np.minimum(free.branch_lengths, left)
  np.testing.assert_array_equal(limited.branch_lengths, expected)
  truncated = limited.branch_ends & End.TRUNCATED != 0
  np.testing.assert_array_equal(truncated, expected == left)
  assert (limited.ends & End.TRUNCATED).any()


@pytest.mark.parametrize('task_id', ['CartPole-v1', 'FrozenLake-v1'])
def test_draws_are_the_proposals(task_id):
  made, policy, theta, normalizer = make(
    configure(task_id, branch_actions=200, branch_length=1)
  )
  batch = made.sample(theta, normalizer, 0)
  distribution = policy.distribution(
    theta, np.repeat(batch.at_rollout_set(batch.outputs), 200, axis=0)
  )
  log_p = distribution.log_prob(batch.first_actions.reshape(2400, -1))
  np.testing.assert_allclose(batch.log_q.ravel(), log_p, 1e-5, 1e-5)
  (count,) = describe(task_id).factors
  drawn = batch.first_actions[..., 0]
  shares = (drawn[:, :, None] == np.arange(count)).mean(1)
  assert np.ptp(shares) > 0.1  # not uniform
  p = np.zeros((12, count))
  np.put_along_axis(p, drawn, np.exp(batch.log_q), 1)
  # six deviations of the mean of 200 draws
  assert (np.abs(shares - p) <= 6 * np.sqrt(p * (1 - p) / 200) + 1e-9).all()

  uniform = sample(task_id, 'uniform', branch_actions=200, branch_length=1)
  shares = (uniform.first_actions == np.arange(count)).mean((0, 1))
  deviation = np.sqrt((1 - 1 / count) / count / 2400)
  assert np.abs(shares - 1 / count).max() < 5 * deviation
  np.testing.assert_allclose(np.exp(uniform.log_q), 1 / count)


def test_every_action_of_several_factors():
  batch = sample('Buttons-v0', 'all', branch_length=1)
  expected = list(itertools.product(range(2), range(3)))
  assert (batch.first_actions == expected).all()
  earned = (np.array(expected) + 5) @ [1, 10]
  assert (batch.branch_returns == earned[:, None]).all()
  np.testing.assert_allclose(batch.log_q, np.full((12, 6), -np.log(6)))


def test_failed_branches_are_recorded_and_can_be_repeated():
  made, policy, _, normalizer = make(
    configure('Fragile-v0', 'all', branch_trials=2)
  )
  theta = np.zeros(policy.num_parameters, np.float32)
  theta[-3:] = -80  # only as a first action is another one than 0 chosen
  batch = made.sample(theta, normalizer, 4)
  odd = batch.at_rollout_set(batch.timesteps) % 2 == 1
  assert 0 < odd.sum() < 12
  assert (batch.branch_lengths[~odd] == 8).all()
  assert (batch.branch_ends[~odd] == 0).all()
  lengths = np.array([8, 1, 0, 0])[:, None]
  assert (batch.branch_lengths[odd] == lengths).all()
  diverged = np.where(lengths == 8, 0, End.DIVERGED)
  assert (batch.branch_ends[odd] == diverged).all()
  earned = np.broadcast_to((1 - GAMMA**lengths) / (1 - GAMMA), (4, 2))
  np.testing.assert_allclose(
    batch.branch_returns[odd], np.broadcast_to(earned, (odd.sum(), 4, 2))
  )
  _, valid = vine.q_values(
    batch.branch_returns, batch.branch_lengths, batch.branch_ends, None, GAMMA
  )
  assert (valid == ~odd).all()

  places = itertools.product(np.flatnonzero(odd), (1, 2, 3), (0, 1))
  assert [record.branch for record in batch.diverged] == list(places)
  env = cloner(make_environment('Fragile-v0'), 'Fragile-v0')
  env.reset()
  for record in batch.diverged:
    n, k, _ = record.branch
    slot, step = batch.rollout_set[n]
    assert (record.iteration, record.slot) == (4, slot)
    assert record.step == batch.timesteps[slot, step] + lengths[k, 0]
    env.restore(
      dataclasses.replace(env.snapshot(), data=record.state.tobytes())
    )
    *before, (last,) = record.controls
    assert [env.step(a)[1] for (a,) in before] == [1] * lengths[k, 0]
    if k == 1:
      assert record.causes == ('error',)
      assert record.message == 'RuntimeError: motor burnt'
      with pytest.raises(RuntimeError):
        env.step(last)
    else:
      assert (record.causes, record.message) == (('non-finite output',), '')
      observation, reward, *_ = env.step(last)
      assert not np.isfinite([*observation, reward]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
  'task_id, proposal',
  [
    ('CartPole-v1', 'all'),
    ('FrozenLake-v1', 'uniform'),
    ('gymnasium:InvertedPendulum-v5', 'policy'),
  ],
)
def test_resumed_run_goes_on_with_the_same_bytes(task_id, proposal):
  config = configure(task_id, proposal)
  config = dataclasses.replace(
    config,
    policy=PolicyConfig(hidden_sizes=(8,)),
  )
  whole = Training(config).iterations()
  for _ in range(2):
    saved = next(whole).state.tree()
  resumed = Training(config, saved).iterations()
  for _ in range(2):
    expected, actual = next(whole), next(resumed)
    assert to_bytes(actual.batch) == to_bytes(expected.batch)
    assert actual.state.theta.tobytes() == expected.state.theta.tobytes()
    assert actual.state.env_steps == expected.state.env_steps


@pytest.mark.parametrize(
  'task_id, proposal, reason',
  [
    ('Pendulum-v1', 'all', 'needs discrete actions; use policy or uniform'),
    ('Unbounded-v0', 'uniform', 'needs bounded actions .* use --branch'),
    ('Stuck-v0', 'uniform', 'needs bounded actions .* with low < high; use --'),
    ('ManyButtons-v0', 'all', 'would try 65 actions .* use policy or uniform'),
  ],
)
def test_proposal_that_does_not_fit(task_id, proposal, reason):
  class Bounded(Buttons):
    def __init__(self, low, high):
      self.action_space = spaces.Box(np.array(low), np.array(high), (2,))

  for name, low, high in (
    ('Unbounded-v0', [-np.inf] * 2, [np.inf] * 2),
    ('Stuck-v0', [-1.0, 0.0], [1.0, 0.0]),
  ):
    gymnasium.registry.pop(name, None)
    gymnasium.register(name, Bounded, kwargs=dict(low=low, high=high))
  with pytest.raises(UserError, match=f'^--task={task_id}: .*{reason}'):
    make(configure(task_id, proposal))


def test_restore_that_fails_is_one_line():
  with pytest.raises(UserError, match=r'restore\(\) failed \(KeyError: ') as e:
    sample('Forgotten-v0', 'policy')
  assert '\n' not in str(e.value)


@pytest.mark.slow
def test_unclonable_environment_is_refused_before_anything_is_made(tmp_path):
  (tmp_path / 'silent_module.py').write_text("""
import gymnasium

class Silent(gymnasium.Env):
  observation_space = gymnasium.spaces.Box(-1, 1, (2,))
  action_space = gymnasium.spaces.Discrete(2)

gymnasium.register('Silent-v0', Silent)
""")
  (result,) = programs.run(
    'train',
    [
      [
        '--task=silent_module:Silent-v0',
        '--sampler=vine',
        '--baseline=none',
        '--noprogress',
        '--run_dir=run',
      ]
    ],
    tmp_path,
  )
  assert result.code != 0 and result.stdout == ''
  (line,) = result.stderr.splitlines()
  assert line.endswith(
    '--task=silent_module:Silent-v0: class Silent has no snapshot() and '
    'restore(): implement snapshot() and restore(), or use '
    '--sampler=single_path'
  )
  assert not (tmp_path / 'run').exists()
