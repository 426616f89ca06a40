"""An environment of the user's own, from its check to the trained policy."""

import functools
import logging
import re

import gymnasium
import numpy as np
import programs
import pytest
import tiny
from gymnasium import spaces

import trpo_tf
from trpo_tf import config
from trpo_tf.errors import UserError
from trpo_tf.experiment import backend, flagfiles, saved_runs
from trpo_tf.experiment.evaluation import evaluate
from trpo_tf.tasks import environment, environment_check


class Lamps(gymnasium.Env):
  """Lamps to switch as a pattern shows; a Dict with a Tuple, MultiBinary."""

  def __init__(self, rows=1, fault=''):
    self.shape, self.fault = (rows, 3), fault
    self.action_space = spaces.MultiBinary(self.shape)
    self.observation_space = spaces.Dict(
      pattern=spaces.MultiBinary(self.shape),
      clock=spaces.Tuple(
        [spaces.Discrete(4), spaces.Box(0, 1, (2,), np.float32)]
      ),
    )

  def _observation(self):
    self.pattern = self.np_random.integers(0, 2, self.shape, np.int8)
    phase = np.full(2, self.steps / 20, np.float32)
    if self.fault == 'dtype':
      phase = phase.astype(int)
    return dict(pattern=self.pattern.copy(), clock=(self.steps % 4, phase + 0))

  def reset(self, *, seed=None, options=None):
    super().reset(seed=None if self.fault == 'seed' else seed)
    self.steps = 0
    return self._observation(), {}

  def step(self, action):
    assert self.action_space.contains(action), action
    if self.fault == 'raises':
      raise OSError('no\nlamp')
    self.steps += 1
    reward = float((action == self.pattern).mean())
    if self.fault == 'reward':
      reward = str(reward)
    return self._observation(), reward, False, False, {}


gymnasium.register('Lamps-v0', Lamps, max_episode_steps=20)

TINY = {k: v for k, v in tiny.SETTINGS.items() if k != 'task'}
TINY |= dict(batch_steps=80, num_slots=2)
_CARTPOLE = dict(task='CartPole-v1', num_slots=2, batch_steps=200)


def resolved(**settings):
  return backend.resolve(config.from_settings(settings))


def test_multi_binary_is_a_choice_of_two_for_each_bit():
  found = environment.describe('Lamps-v0', dict(rows=2))
  assert found.factors == (2,) * 6
  assert (found.output_size, found.action_size) == (12, 6)
  sent = found.as_sent(np.array([[0, 1, 1, 0, 0, 1]], np.int32))
  assert sent.dtype == np.int8 and sent.tolist() == [[[0, 1, 1], [0, 0, 1]]]
  assert found.action_space.contains(sent[0])


def test_parts_of_an_observation_stand_in_the_order_of_the_space():
  env = gymnasium.make('Lamps-v0')
  observation, _ = env.reset(seed=0)
  env.step(env.action_space.sample())
  observation, *_ = env.step(env.action_space.sample())
  flat = environment.describe('Lamps-v0').flatten(observation)
  clock = [0, 0, 1, 0, 0.1, 0.1]  # a Discrete is one-hot
  expected = [*observation['pattern'][0], *clock]
  np.testing.assert_allclose(flat, expected, rtol=1e-6)


@pytest.mark.slow
def test_a_failure_while_resuming_leaves_the_run_as_it_is(
  tmp_path, monkeypatch
):
  settings = TINY | dict(task='Lamps-v0', batch_steps=84)
  settings |= dict(run_dir=tmp_path / 'r')
  list(trpo_tf.train(**settings, total_iterations=2))
  before = programs.final_state(tmp_path / 'r')
  with monkeypatch.context() as patch:
    patch.setattr(Lamps, 'reset', lambda self, **_: 1 / 0)
    with pytest.raises(trpo_tf.UserError, match='env.reset failed .*Zero'):
      list(trpo_tf.train(**settings, total_iterations=3))
  assert programs.final_state(tmp_path / 'r') == before
  *_, last = trpo_tf.train(**settings, total_iterations=3)
  assert last.record.iteration == 3


@pytest.mark.slow
def test_a_run_from_its_check_to_its_policy(tmp_path, caplog):
  caplog.set_level(logging.WARNING, 'trpo_tf')
  settings = TINY | dict(
    task='Lamps-v0', env_kwargs=dict(rows=2), run_dir=tmp_path / 'run'
  )
  *_, first = trpo_tf.train(**settings, total_iterations=1)
  *_, last = trpo_tf.train(**settings, total_iterations=6)
  assert last.state.iteration == 6 and last.batch.actions.shape[-1] == 6
  # the check warns of nothing, and a run that continues is not checked again
  own = [r.message for r in caplog.records if r.name.startswith('trpo_tf')]
  assert own == ['continuing after 80 env steps']
  written = saved_runs.read_config(tmp_path / 'run')
  assert written.task.env_keywords == {'rows': 2}
  assert last.record.return_mean > first.record.return_mean
  policy = trpo_tf.load_policy(tmp_path / 'run')
  env = gymnasium.make('Lamps-v0', rows=2)
  observation, _ = env.reset(seed=0)
  action = policy.act(observation)
  assert env.action_space.contains(action) and action.shape == (2, 3)
  found, batch = evaluate(
    policy.backend, policy.theta, policy.normalizer, 2, True
  )
  assert (found.lengths == 20).all() and batch.actions.shape[-1] == 6


def test_keyword_arguments_reach_every_environment():
  """With Sutton and Barto's reward a pole earns -1 where it falls, else 0."""
  sutton = '{"sutton_barto_reward": true}'
  settings = _CARTPOLE | dict(env_kwargs=sutton, hidden_sizes=(4,))
  task = resolved(**settings)
  policy, normalizer = task.policy(), task.normalizer()
  theta = policy.initial_parameters(np.random.default_rng(0))
  batch = task.paths().sample(theta, normalizer, 0)
  assert set(batch.rewards.ravel().tolist()) == {0, -1}
  found, _ = evaluate(task, theta, normalizer, 3, True)
  assert found.returns.tolist() == [-1, -1, -1]
  vine = dict(sampler='vine', rollout_set_size=8, branch_length=40)
  task = resolved(**settings, **vine)
  batch = backend.make_sampler(task).sample(theta, normalizer, 0)
  assert set(batch.rewards.ravel().tolist()) == {0, -1}
  assert (batch.branch_returns <= 0).all()


def test_keyword_arguments_set_the_time_limit():
  settings = dict(task='CartPole-v1', env_kwargs='{"max_episode_steps": 7}')
  assert resolved(**settings).spaces.time_limit == 7
  with pytest.raises(UserError, match='"max_episode_steps": 9}'):
    resolved(task='CartPole-v1', time_limit=9)


@pytest.mark.parametrize(
  'text',
  [
    '{"a": 1',
    'a=1',
    '[1]',
    '3',
    'null',
    "{'a': 1}",
    '[' * 10**5,
    '{"a": \x00}',
  ],
)
def test_text_that_is_no_json_object(text):
  with pytest.raises(
    ValueError, match='--env_kwargs=.* is not a JSON'
  ) as error:
    config.from_settings(dict(env_kwargs=text))
  assert len(str(error.value)) < 300


def test_equal_arguments_are_one_setting():
  texts = ['{"b": [1, null], "a": "\\u00e9"}', ' {"a":"é",\n"b":[1,null]} ']
  first, second = (config.from_settings(dict(env_kwargs=t)) for t in texts)
  assert first == second
  assert first.task.env_keywords == dict(a='é', b=[1, None])
  assert config.from_settings(dict(env_kwargs='{}')) == (
    config.ExperimentConfig()
  )
  line = f'--env_kwargs={first.task.env_kwargs}'
  assert line in flagfiles.flagfile(first).splitlines()


@pytest.mark.parametrize(
  ('task', 'keywords', 'says'),
  [
    ('CartPole-v1', dict(length=3), 'TypeError: .*keyword argument .length'),
    ('CartPole-v1', dict(id=3), "TypeError: .*argument 'id'"),
    ('Lamps-v0', dict(rows='two'), 'cannot be made: '),
  ],
)
def test_unknown_keyword_arguments(task, keywords, says):
  with pytest.raises(UserError, match=says) as error:
    environment.describe(task, keywords)
  text = str(error.value)
  assert text.startswith(f'--task={task} with --env_kwargs={{"')
  assert '\n' not in text and '--verbosity=1' in text


@pytest.mark.parametrize(
  ('task', 'hint'),
  [
    ('Hopper-v5', 'or take --task=gymnasium:Hopper-v5'),
    ('paper/hopper', 'leave it out$'),
    ('atari/pong', 'leave it out$'),
  ],
)
def test_native_tasks_and_games_take_no_keyword_arguments(task, hint):
  if task.startswith('atari'):
    pytest.importorskip('ale_py')
  with pytest.raises(UserError, match=f'--env_kwargs is for .*{hint}'):
    resolved(task=task, env_kwargs='{"a": 1}')


def test_mujoco_of_gymnasium_takes_keyword_arguments():
  task = 'gymnasium:Hopper-v5'
  keywords = '{"exclude_current_positions_from_observation": false}'
  assert resolved(task=task, env_kwargs=keywords).spaces.observation_size == 12


@pytest.mark.parametrize(
  ('fault', 'says'),
  [
    ('seed', 'AssertionError: .*seed'),
    ('dtype', 'AssertionError: .*not within the observation space'),
    ('raises', 'OSError: no lamp;'),
  ],
)
def test_the_checker_of_gymnasium_ends_a_run_before_it_begins(
  fault, says, tmp_path
):
  train = functools.partial(
    trpo_tf.train, task='Lamps-v0', env_kwargs=dict(fault=fault), **TINY
  )
  with pytest.raises(UserError, match=says) as error:
    next(train(run_dir=tmp_path / 'run'))
  text = str(error.value)
  assert re.match('--task=Lamps-v0 fails the environment checker', text)
  assert '--check_env=false' in text and '--verbosity=1' in text
  assert '\n' not in text
  assert [path.name for path in (tmp_path / 'run').iterdir()] == ['run.lock']
  with pytest.raises(UserError, match='--check_env=false'):
    train()


def test_warnings_of_the_checker_are_lines():
  lines = environment_check.check('CartPole-v1')
  assert len(lines) == 2 and all('\x1b' not in line for line in lines)
  assert lines[0] == (
    '--task=CartPole-v1: Gymnasium warns: A Box observation space minimum '
    'value is -infinity. This is probably too low.'
  )
  silent = resolved(task='CartPole-v1', check_env=False)
  assert silent.check() == resolved(task='Hopper-v5').check() == []


@pytest.mark.parametrize(
  ('low', 'high', 'warns'),
  [
    ([-1, -2], [1, 2], ''),
    ([-1, 10], [1, 200], 'component 1 of an action goes from 10 to 200'),
    ([-1, -3], [1, 0], 'component 1 of an action goes from -3 to 0'),
    ([-np.inf, 0], [np.inf, np.inf], ''),
  ],
)
def test_ranges_of_actions_that_a_new_policy_hardly_reaches(low, high, warns):
  bounds = np.array(low, float), np.array(high, float)
  lines = environment_check.check_range('X-v0', *bounds)
  assert len(lines) == bool(warns)
  if warns:
    assert warns in lines[0] and '--action_range=control' in lines[0]


def test_the_warning_of_a_range_is_of_raw_actions():
  made = functools.partial(resolved, task=_FAR, check_env=False)
  [line] = made().check()
  assert 'goes from 1 to 3' in line
  assert made(action_range='control').check() == []


class Far(gymnasium.Env):
  """Its actions lie on one side of 0."""

  observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
  action_space = gymnasium.spaces.Box(1, 3, (1,), np.float32)


_FAR = 'Far-v0'
gymnasium.register(_FAR, Far, max_episode_steps=5)


class Socket(gymnasium.Env):
  """Counts the instances that are open; closing fails if `stuck`."""

  observation_space = spaces.Box(-1, 1, (2,), np.float32)
  action_space = spaces.Discrete(2)
  opened = closed = 0

  def __init__(self, stuck=False):
    self.stuck = stuck
    Socket.opened += 1

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return self.observation_space.sample() * 0, {}

  def step(self, action):
    return self.observation_space.sample() * 0, 1.0, False, False, {}

  def snapshot(self):
    return b''

  def restore(self, state):
    del state

  def close(self):
    Socket.closed += 1
    if self.stuck:
      raise OSError('stuck')


gymnasium.register('Socket-v0', Socket, max_episode_steps=20)


@pytest.mark.slow
@pytest.mark.parametrize('sampler', ['single_path', 'vine'])
@pytest.mark.parametrize('stuck', [False, True])
def test_environments_are_closed(sampler, stuck, caplog):
  settings = TINY | dict(
    task='Socket-v0',
    env_kwargs=dict(stuck=stuck),
    check_env=False,
    sampler=sampler,
    eval_every_env_steps=80,
    eval_episodes=3,
    rollout_set_size=4,
    branch_actions=2,
    branch_length=2,
    total_iterations=2,
  )
  Socket.opened = Socket.closed = 0
  found = list(trpo_tf.train(**settings))
  assert found[-1].evaluated
  assert Socket.opened == Socket.closed
  messages = [record.getMessage() for record in caplog.records]
  assert stuck == any(
    'Socket-v0: env.close failed (OSError: stuck)' in text for text in messages
  )
