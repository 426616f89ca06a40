"""The parts of the Python sampler, and what it refuses, on toy environments."""

import re
import sys

import gymnasium
import numpy as np
import pytest
import worlds
from gymnasium import spaces
from scipy import stats

from trpo_tf import seeding
from trpo_tf.config import PolicyConfig, SamplerConfig
from trpo_tf.errors import UserError
from trpo_tf.policies.categorical import categorical_policy
from trpo_tf.policies.gaussian import gaussian_policy
from trpo_tf.policies.mlp import MLP
from trpo_tf.policies.normalizer import initial_normalizer
from trpo_tf.sampling import actors
from trpo_tf.sampling.gym import paths as gymnasium_sampler
from trpo_tf.sampling.gym.paths import GymPathSampler
from trpo_tf.seeding import Stream
from trpo_tf.tasks.environment import describe

VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)
NAN = np.array([0, np.nan, 0])


class Toy(gymnasium.Env):
  """Observes its step; what is asked for goes wrong at step 4."""

  def __init__(self, fault='', observation=VECTOR, action=None):
    self.fault = fault
    self.observation_space = observation
    self.action_space = action or spaces.Box(-1, 3, (2,), np.float32)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.steps = 0
    return NAN if self.fault == 'reset' else np.zeros(3), {}

  def step(self, action):
    self.steps += 1
    if self.fault == 'mutates':
      action += 1
    observation, reward = np.full(3, self.steps / 8), 1.0
    if self.steps == 4:
      if self.fault == 'crash':
        raise RuntimeError('motor\nburnt')
      if self.fault == 'exit':
        sys.exit(0)
      if self.fault == 'old_api':
        return observation, reward, False, {}
      observation = {
        'observation': NAN,
        'shape': np.zeros(4),
        'complex': np.zeros(3, complex),
        'objects': np.array([None] * 3),
        'overflow': np.array([1.0, 2, 1e300]),
      }.get(self.fault, observation)
      reward = {
        'reward': -np.inf,
        'text': 'high',
        'row': np.ones(1),
      }.get(self.fault, reward)
    terminated = self.fault == 'ends' and self.steps == 4
    return observation, reward, terminated, False, {}


def register(fault='', limit=8, **kwargs):
  name = f'Toy{len(gymnasium.registry)}-v0'
  gymnasium.register(
    name, Toy, max_episode_steps=limit, kwargs=dict(kwargs, fault=fault)
  )
  return name


def sampler(task_id, seed=5, slots=2, steps=12, whole=False, **task):
  space = describe(task_id)
  make = categorical_policy if space.factors else gaussian_policy
  policy = make(
    PolicyConfig(), space.observation_size, space.factors or space.action_size
  )
  config = SamplerConfig(
    num_slots=slots, batch_steps=steps, whole_episodes=whole
  )
  settings = worlds.experiment(config, seed, task=task_id, **task)
  return policy, GymPathSampler(space, policy, settings)


def sample(task_id, iteration=0, **kwargs):
  policy, made = sampler(task_id, **kwargs)
  theta = policy.initial_parameters(np.random.default_rng(0))
  return made.sample(theta, initial_normalizer(3), iteration)


IMAGE = spaces.Box(0, 255, (8, 8, 3), np.uint8)


@pytest.mark.parametrize(
  'observation, text',
  [
    (spaces.Box(0, 1, (4, 8, 8), np.float32), 'are images'),
    (spaces.Dict(eye=IMAGE, arm=VECTOR), r'\(8, 8, 3\) are images'),
    (spaces.Tuple([VECTOR, spaces.Dict(eye=IMAGE)]), 'are images'),
    (spaces.Box(-1, 1, (0,), np.float32), 'flatten to 0 numbers'),
    (spaces.Discrete(10**12), 'flatten to 1000000000000 numbers'),
    ('a vector', "'a vector' is not a space of Gymnasium"),
  ],
)
def test_observations_that_no_mlp_takes(observation, text):
  with pytest.raises(UserError, match=text):
    describe(register(observation=observation))


@pytest.mark.parametrize(
  'action', [spaces.Box(-1, 1, (0,), np.float32), spaces.Discrete(10**12)]
)
def test_actions_of_no_or_endless_width(action):
  with pytest.raises(UserError, match='components or choices: take between 1'):
    describe(register(action=action))


def test_rows_of_numbers_are_no_image():
  rows = spaces.Box(-1, 1, (4, 8), np.float32)
  assert describe(register(observation=rows)).observation_size == 32


@pytest.mark.parametrize('task', ['ALE/Pong-v5', 'ale_py:ALE/Pong-v5'])
def test_a_game_of_gymnasium_names_the_task_that_sees_it(task):
  with pytest.raises(UserError, match='images.* --task=atari/pong'):
    describe(task)


@pytest.mark.parametrize(
  'fault, text, where',
  [
    ('observation', r'observation\[1\] is nan', 'step 4'),
    ('overflow', r'observation\[2\] is inf', 'step 4'),
    ('reset', r'observation\[1\] is nan', 'the reset'),
    ('reward', 'the reward is -inf', 'step 4'),
    ('text', r'env\.step failed \(ValueError: could not convert', 'step 4'),
    ('row', r'reward array\(\[1\.\]\), not a number', 'step 4'),
    ('shape', r'observation of shape \(4,\) instead of \(3,\)', 'step 4'),
    ('crash', r'env\.step failed \(RuntimeError: motor burnt;', 'step 4'),
    ('exit', r'env\.step failed \(SystemExit: 0; --verbosity=1', 'step 4'),
    ('complex', r'observation of complex128 numbers', 'step 4'),
    ('objects', r'observation of object numbers', 'step 4'),
    ('old_api', r'not enough values to unpack \(expected 5, got 4\)', 'step 4'),
  ],
)
@pytest.mark.filterwarnings('ignore:overflow')
def test_fault_is_one_line_with_its_keys(fault, text, where):
  task_id = register(fault)
  with pytest.raises(UserError) as caught:
    sample(task_id, whole=True)
  message = str(caught.value)
  seed = seeding.derived_seed(5, Stream.ENVIRONMENT, 0, 0)
  assert re.search(text, message), message
  assert message.startswith(f'--task={task_id}: ')
  assert f'at {where} of episode 0 in slot 0' in message
  assert f'env.reset(seed={seed})' in message
  assert '\n' not in message


@pytest.mark.parametrize(
  'action, kind',
  [
    (spaces.Box(0, 5, (2,), np.int64), 'Box'),
    (spaces.Dict(a=spaces.Discrete(2)), 'Dict'),
  ],
)
def test_unsupported_action_space(action, kind):
  with pytest.raises(
    UserError,
    match=rf'{kind}.* not supported; supported: '
    'Box of floating-point numbers, Discrete, MultiDiscrete, MultiBinary',
  ):
    describe(register(action=action))


def test_unsupported_observation_space():
  graph = spaces.Graph(spaces.Box(0, 1, (2,)), None)
  with pytest.raises(UserError, match='Graph.* do not flatten'):
    describe(register(observation=graph))


@pytest.mark.parametrize('task_id', ['no_such_module:Id-v0', 'Nothing-v7'])
def test_environment_that_cannot_be_made(task_id):
  with pytest.raises(UserError, match=f'--task={task_id}: .*cannot be made'):
    describe(task_id)


def test_constructor_error_is_one_line():
  def broken():
    raise OSError('no\nlicence')

  gymnasium.register('BrokenConstructor-v0', broken)
  with pytest.raises(UserError, match='OSError: no licence'):
    describe('BrokenConstructor-v0')


def test_policy_of_another_size():
  policy = gaussian_policy(PolicyConfig(), 3, 5)
  with pytest.raises(ValueError, match='3 inputs and 2 outputs, not 3 and 5'):
    task = register()
    settings = worlds.experiment(SamplerConfig(), task=task)
    GymPathSampler(describe(task), policy, settings)


def test_control_range_needs_bounds():
  unbounded = spaces.Box(-np.inf, np.inf, (2,), np.float32)
  with pytest.raises(UserError, match='needs a bounded action space'):
    sampler(register(action=unbounded), action_range='control')


def test_whole_episodes_that_never_end(monkeypatch):
  monkeypatch.setattr(gymnasium_sampler, '_MAX_EPISODE_STEPS', 20)
  endless = register(limit=None)
  with pytest.raises(UserError, match='no end .*max_episode_steps.* step 20'):
    sample(endless, whole=True)
  assert sample(endless, steps=60).num_steps == 60  # carried over


def test_staggered_first_episodes():
  # limits 8 * 1/4, 2/4, 3/4 and 1, then 8; all but the last cut short
  batch = sample(register(limit=8), slots=4, steps=40)
  cuts = [np.flatnonzero(row).tolist() for row in batch.ends]
  assert cuts == [[1, 9], [3], [5], [7]]
  assert batch.episode_lengths.tolist() == [8, 8]
  assert batch.episode_returns.tolist() == [8, 8]
  expected = [(0, 1), (0, 9), (1, 3), (2, 5), (3, 7)]
  assert [tuple(i) for i in batch.boundary_index] == expected
  steps = np.array([2, 8, 4, 6, 8])
  assert batch.boundary_observations[:, 0].tolist() == (steps / 8).tolist()
  assert batch.last_observations[:, 0].tolist() == [1, 0.75, 0.5, 0.25]
  assert not (batch.ends == 1).any()


def test_whole_episodes_end_every_slot():
  batch = sample(register(limit=8), slots=2, steps=20, whole=True)
  assert batch.lengths.tolist() == [16, 16]
  assert batch.ends[:, [7, 15]].tolist() == [[2, 2], [2, 2]]
  assert batch.timesteps[0].tolist() == [*range(8), *range(8)]


def test_termination_at_the_time_limit_has_no_boundary():
  batch = sample(register('ends', limit=4), slots=1, steps=8)
  assert batch.ends.tolist() == [[0, 0, 0, 3] * 2]
  assert batch.boundary_index.shape == (0, 2)
  assert batch.boundary_observations.shape == (0, 3)
  assert batch.episode_lengths.tolist() == [4, 4]


def test_state_holds_the_actions_as_sent():
  policy, made = sampler(register('mutates', limit=None), steps=10)
  theta = policy.initial_parameters(np.random.default_rng(0))
  batch = made.sample(theta, initial_normalizer(3), 0)
  sent = np.clip(batch.actions, -1, 3).astype(np.float32).reshape(10, 2)
  assert (made.state()['actions'] == sent).all()


def test_network_is_the_policys():
  rng = np.random.default_rng(0)
  x = rng.standard_normal((50, 5)).astype(np.float32)
  for *hidden, activation in [
    ('tanh',),
    (8, 4, 'tanh'),
    (7, 'softplus'),
    (8, 5, 'relu'),
  ]:
    mlp = MLP(5, tuple(hidden), 3, activation)
    theta = rng.standard_normal(mlp.num_parameters).astype(np.float32)
    actual = mlp.numpy_function(theta)(x)
    assert actual.dtype == np.float32
    expected = mlp.outputs(theta, x).numpy()
    # sums of at most 9 products of a few units, rounded in another order
    np.testing.assert_allclose(actual, expected, atol=1e-5, rtol=1e-5)


def test_inverse_cdf():
  logits = np.log(np.array([[0.2, 0.5, 0.3, 0.9, 0.1]], np.float32))
  actor = actors.CategoricalActor((3, 2))
  for u, choice in [
    (0, 0),
    (0.19, 0),
    (0.21, 1),
    (0.69, 1),
    (0.71, 2),
    (1 - 2**-53, 2),
  ]:
    assert actor.act(logits, np.array([[u, 0.89]])).tolist() == [[choice, 0]]
  assert actor.act(logits, np.array([[0, 0.91]])).tolist() == [[0, 1]]
  assert actor.act(logits, None).tolist() == [[1, 0]]
  assert actor.log_prob(logits, np.array([[2, 1]])) == pytest.approx(
    np.log(0.3 * 0.1), rel=1e-6
  )


def test_impossible_choices_are_not_drawn():
  logits = np.array([[-1e30, 0, -1e30]], np.float32)
  actor = actors.CategoricalActor((3,))
  for u in (0, 0.5, 1 - 2**-53):
    assert actor.act(logits, np.array([[u]])).tolist() == [[1]]


def test_extreme_logits_stay_in_range():
  logits = np.array([[1e30, -1e30, 0], [500, 500, 500]], np.float32)
  actor = actors.CategoricalActor((3,))
  actions = actor.act(logits, np.full((2, 1), 1 - 2**-53))
  assert actions.tolist() == [[0], [2]]
  np.testing.assert_allclose(
    actor.log_prob(logits, actions), [0, -np.log(3)], rtol=1e-12
  )


def test_gaussian_log_density():
  rng = np.random.default_rng(1)
  means, noise = rng.standard_normal((2, 6, 3))
  log_std = rng.standard_normal(3).astype(np.float32)
  actor = actors.GaussianActor(log_std)
  actions = actor.act(means, noise)
  deviation = np.exp(log_std.astype(np.float64))
  np.testing.assert_allclose(actions, means + deviation * noise, rtol=1e-14)
  np.testing.assert_allclose(
    actor.log_prob(means, actions),
    stats.norm.logpdf(actions, means, deviation).sum(1),
    rtol=1e-12,
  )
  assert (actor.act(means, None) == means).all()
