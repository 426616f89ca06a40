"""A network of the user's own in the training loop, --policy."""

import functools
import random
import re

import numpy as np
import pytest

import trpo_tf
from trpo_tf import config
from trpo_tf.distributed import training as distributed
from trpo_tf.distributed.local import LocalEngine
from trpo_tf.errors import UserError
from trpo_tf.experiment import backend
from trpo_tf.experiment.evaluation import evaluate
from trpo_tf.policies import user

_MODULE = """
import numpy as np
import tensorflow as tf
import trpo_tf


def linear(observation_size, output_size):
  shape = observation_size, output_size

  def function(theta, x):
    bias, weights = tf.split(theta, [output_size, -1])
    return x @ tf.reshape(weights, shape) + bias

  initial = np.zeros(output_size + np.prod(shape), np.float32)
  return trpo_tf.FunctionNetwork(
    function, initial, output_size, observation_size
  )


def keras(observation_size, output_size):
  layers = tf.keras.layers
  model = [layers.Dense(8, 'relu'), layers.Dense(output_size)]
  model = tf.keras.Sequential([tf.keras.Input([observation_size]), *model])
  return trpo_tf.KerasNetwork(model)


def features(observation_size, output_size):
  shape = 8, output_size
  drawn = np.random.normal(size=(observation_size, 8)).astype(np.float32)
  return trpo_tf.FunctionNetwork(
    lambda theta, x: tf.tanh(x @ drawn) @ tf.reshape(theta, shape),
    np.ones(8 * output_size, np.float32),
    output_size,
    observation_size,
  )


class Empty(trpo_tf.FunctionNetwork):
  def __len__(self):
    return 0


def empty(observation_size, output_size):
  made = linear(observation_size, output_size)
  return Empty(made.function, made.initial, output_size, observation_size)


class Drawn(trpo_tf.FunctionNetwork):
  def initial_parameters(self, rng, output_scale):
    return np.random.normal(size=len(self.initial)).astype(np.float32)


def drawn(observation_size, output_size):
  made = linear(observation_size, output_size)
  return Drawn(made.function, made.initial, output_size, observation_size)


def wider(observation_size, output_size):
  return linear(observation_size, output_size + 1)


def transposed(observation_size, output_size):
  function = lambda theta, x: tf.zeros([output_size, len(x)])
  return trpo_tf.FunctionNetwork(
    function, np.zeros(3, np.float32), output_size, observation_size
  )


def branches(observation_size, output_size):
  made = linear(observation_size, output_size)

  def function(theta, x):
    found = made.function(theta, x)
    return found if tf.reduce_sum(x) > 0 else -found

  return trpo_tf.FunctionNetwork(
    function, made.initial, output_size, observation_size
  )


def constant(observation_size, output_size):
  return trpo_tf.FunctionNetwork(
    lambda theta, x: tf.tile(x[:, :1], [1, output_size]),
    np.zeros(3, np.float32),
    output_size,
    observation_size,
  )


def centred(observation_size, output_size):
  made = linear(observation_size, output_size)
  return trpo_tf.FunctionNetwork(
    lambda theta, x: made.function(theta, x - tf.reduce_mean(x, 0)),
    np.ones_like(made.initial),
    output_size,
    observation_size,
  )


def nowhere(observation_size, output_size):
  made = linear(observation_size, output_size)
  return trpo_tf.FunctionNetwork(
    lambda theta, x: made.function(theta, x) / 0.0,
    made.initial,
    output_size,
    observation_size,
  )


def infinite(observation_size, output_size):
  return trpo_tf.FunctionNetwork(
    lambda theta, x: x, np.full(3, np.inf), output_size, observation_size
  )


def raises(observation_size, output_size):
  raise KeyError('no\\nweights')


def model(observation_size, output_size):
  return tf.keras.Sequential()


number = 3
"""

_TINY = dict(
  task='CartPole-v1',
  check_env=False,
  num_slots=2,
  batch_steps=60,
  value_hidden_sizes=(),
  value_epochs=1,
  tensorboard=False,
)


@pytest.fixture
def world(tmp_path, monkeypatch):
  """A working directory with the networks in a file and in a module."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(str(tmp_path))
  (tmp_path / 'networks_of_mine.py').write_text(_MODULE)
  return tmp_path


def _resolved(**settings):
  return backend.resolve(config.from_settings(settings))


@pytest.mark.slow
def test_it_trains_resumes_and_is_evaluated(world):
  settings = _TINY | dict(policy='networks_of_mine.py:linear')
  *_, whole = trpo_tf.train(**settings, total_iterations=3, run_dir='whole')
  list(trpo_tf.train(**settings, total_iterations=1, run_dir='run'))
  *_, last = trpo_tf.train(**settings, total_iterations=3, run_dir='run')
  assert last.state.theta.size == 5 * 2
  np.testing.assert_array_equal(last.state.theta, whole.state.theta)
  assert last.record.step_status == 'accepted' and last.state.theta.any()
  policy = trpo_tf.load_policy('run')
  assert policy.act(np.zeros(4)) in (0, 1)
  found, _ = evaluate(
    policy.backend, policy.theta, policy.normalizer, 2, deterministic=True
  )
  assert (found.returns > 0).all()
  with pytest.raises(UserError, match='--policy=networks_of_mine.py:keras he'):
    next(
      trpo_tf.train(
        **settings | dict(policy='networks_of_mine.py:keras'), run_dir='run'
      )
    )


@pytest.mark.slow
@pytest.mark.parametrize('task', ['CartPole-v1', 'Pendulum-v1'])
def test_the_samplers_run_it(world, task):
  """The outputs are those of TensorFlow, on paths and on branches."""
  made = _resolved(
    task=task,
    policy='networks_of_mine:keras',
    sampler='vine',
    num_slots=2,
    batch_steps=40,
    rollout_set_size=4,
    branch_length=5,
  )
  policy, normalizer = made.policy(), made.normalizer()
  theta = policy.initial_parameters(np.random.default_rng(0))
  batch = backend.make_sampler(made).sample(theta, normalizer, 0)
  for part in batch.parts:
    x = normalizer(part.steps('observations'))
    np.testing.assert_allclose(
      part.steps('outputs'), policy.outputs(theta, x), atol=1e-5
    )
  several = np.stack([theta, theta + 1])
  batch = made.paths().sample(several, normalizer, 0)
  for slot, parameters in enumerate(several):
    outputs = policy.outputs(parameters, normalizer(batch.observations[slot]))
    np.testing.assert_allclose(batch.outputs[slot], outputs, rtol=1e-4)


def test_the_seed_of_a_run_draws_the_weights_of_keras(world):
  thetas = [_keras_parameters(seed) for seed in (0, 1)]
  file = world / 'networks_of_mine.py'
  file.write_text(f'{_MODULE}\n')  # so that it is run again
  assert (thetas[0] == _keras_parameters(0)).all()
  assert (thetas[0] != thetas[1]).any()


def _keras_parameters(seed):
  policy = _resolved(
    task='CartPole-v1', policy='networks_of_mine.py:keras', seed=seed
  ).policy()
  return policy.initial_parameters(np.random.default_rng(0))


def test_a_file_is_read_again_once_it_was_edited(world):
  load = functools.partial(user.load, 'networks_of_mine.py:linear', 4, 2, 0)
  first = load()
  assert load() is first and not first.initial.any()
  file = world / 'networks_of_mine.py'
  file.write_text(
    _MODULE.replace('np.zeros(output_size', 'np.ones(output_size')
  )
  assert load().initial.all()


def test_a_network_without_length_is_one(world):
  policy = _resolved(
    task='CartPole-v1', policy='networks_of_mine:empty'
  ).policy()
  assert type(policy.network).__name__ == 'Empty'


def test_another_directory_is_another_file(world, monkeypatch):
  load = functools.partial(user.load, 'networks_of_mine.py:linear', 4, 2, 0)
  first = load()
  other = world / 'other'
  other.mkdir()
  (other / 'networks_of_mine.py').write_text(_MODULE)
  monkeypatch.chdir(other)
  assert load() is not first


def test_the_callers_generators_go_on(world):
  random.seed(5)
  np.random.seed(5)
  expected = random.random(), np.random.random()
  random.seed(5)
  np.random.seed(5)
  user.load('networks_of_mine.py:features', 4, 2, 11)
  assert (random.random(), np.random.random()) == expected


@pytest.mark.slow
def test_a_run_keeps_its_network_while_the_file_is_edited(world):
  settings = _TINY | dict(policy='networks_of_mine.py:linear', seed=2)
  settings |= dict(eval_every_env_steps=1, total_iterations=2)
  run = trpo_tf.train(**settings)
  next(run)
  (world / 'networks_of_mine.py').write_text(
    'def linear(*sizes): raise OSError'
  )
  assert next(run).evaluated.return_mean > 0


@pytest.mark.slow
def test_what_the_function_draws_stays_in_evaluations_and_shards(world):
  settings = _TINY | dict(policy='networks_of_mine.py:features', seed=3)
  *_, last = trpo_tf.train(**settings, total_iterations=1, run_dir='run')
  policy = trpo_tf.load_policy('run')
  found, batch = evaluate(
    policy.backend, policy.theta, policy.normalizer, 1, deterministic=True
  )
  [length] = found.lengths
  x = policy.normalizer(batch.observations[0, :length])
  np.testing.assert_allclose(
    batch.outputs[0, :length], policy.policy.outputs(policy.theta, x), atol=1e-5
  )
  # a shard's outputs would not be those of the whole run's network
  shards = settings | dict(num_shards=2, value_minibatch=10)
  sharded = config.from_settings(shards)
  run = distributed.on_engine(sharded, LocalEngine(sharded))
  assert next(run.iterations()).record.step_status == 'accepted'
  run.sampler.close()
  other = settings | dict(init_from='run', seed=4, total_iterations=1)
  with pytest.raises(UserError, match='drew from seed 3, .*--network_seed=3'):
    list(trpo_tf.train(**other))
  *_, begun = trpo_tf.train(**other, network_seed=3)
  assert begun.batch.num_steps == last.batch.num_steps


@pytest.mark.parametrize(
  ('name', 'says'),
  [
    ('networks_of_mine', 'write my_module:make_network or path/to/file.py:'),
    (':linear', 'write my_module:make_network'),
    ('none.py:linear', 'none.py: no such file'),
    ('no_module:linear', "no_module cannot be imported: .*'no_module'"),
    ('networks_of_mine:none', "has no function called 'none'"),
    ('networks_of_mine.py:number', "has no function called 'number'"),
    ('networks_of_mine:raises', "failed: KeyError: 'no.*weights'; --verbosity"),
    ('networks_of_mine:wider', 'FunctionNetwork, from 6 inputs to 4 outputs:'),
    ('networks_of_mine:transposed', r'returned shape \(3, 2\) instead'),
    ('networks_of_mine:drawn', 'draws from other generators than its rng'),
    ('networks_of_mine:infinite', 'whose parameters are not finite'),
    ('networks_of_mine:branches', 'failed: OperatorNotAllowedInGraphError'),
    (
      'networks_of_mine:constant',
      'have no derivative with respect to its para',
    ),
    ('networks_of_mine:centred', 'whose outputs for a state depend on other'),
    ('networks_of_mine:nowhere', 'whose outputs are not finite'),
    ('networks_of_mine:model', 'Sequential, which has no input_size: return'),
  ],
)
def test_what_is_no_network_is_one_line(world, name, says):
  with pytest.raises(UserError, match=says) as error:
    _resolved(task='Acrobot-v1', policy=name).policy()
  text = str(error.value)
  assert '\n' not in text and re.match('--policy=', text)


@pytest.mark.parametrize('task', ['Hopper-v5', 'paper/hopper', 'atari/pong'])
def test_native_tasks_and_games_have_their_own_networks(task):
  if task.startswith('atari'):
    pytest.importorskip('ale_py')
  with pytest.raises(UserError, match='--policy is for environments of Gymn'):
    _resolved(task=task, policy='networks_of_mine:linear')
