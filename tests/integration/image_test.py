"""Gymnasium's images: from the environment to the convolutional policy."""

import json

import gymnasium
import numpy as np
import programs
import pytest
import tensorflow as tf
import toy_envs
from gymnasium import spaces

import trpo_tf
from trpo_tf import config
from trpo_tf.errors import UserError
from trpo_tf.experiment import backend, memory
from trpo_tf.experiment.evaluation import evaluate
from trpo_tf.experiment.training import Training
from trpo_tf.tasks import environment
from trpo_tf.tasks.images import Images

PICTURE = 'toy_envs:Picture-v0'
TINY = dict(
  task=PICTURE,
  batch_steps=240,
  num_slots=4,
  conv_filters=(4, 4),
  hidden_sizes=(16,),
  value_hidden_sizes=(16,),
  value_epochs=2,
  max_kl=0.05,
  tensorboard=False,
  check_env=False,
)
# by the environment's own shape: the axis of its columns, and H, W, C
SHAPES = {
  (40, 40, 3): (1, (40, 40, 3)),
  (4, 20, 20): (2, (20, 20, 4)),
  (24, 13): (1, (24, 13, 1)),
}


def resolved(**settings):
  return backend.resolve(config.from_settings(TINY | settings))


def pictured(shape):
  return dict(
    env_kwargs=json.dumps(dict(shape=shape, columns=SHAPES[shape][0]))
  )


def sampled(made, count=1):
  theta = made.policy().initial_parameters(np.random.default_rng(0))
  sampler = made.paths()
  for i in range(count):
    batch = sampler.sample(theta, made.normalizer(), i)
  return theta, batch


def plain(theta, pixels, filters, hidden, outputs):
  """The network of images [N, H, W, C], by its definition."""
  h = tf.constant(pixels, tf.float32) / 255

  def cut(*shape):
    nonlocal theta
    size = int(np.prod(shape))
    part, theta = theta[:size], theta[size:]
    return part.reshape(shape)

  for units in filters:
    kernel = cut(4, 4, h.shape[3], units)
    h = tf.tanh(tf.nn.conv2d(h, kernel, 2, 'VALID') + cut(units))
  h = tf.reshape(h, [len(pixels), -1]).numpy()
  for units in hidden:
    h = np.tanh(h @ cut(h.shape[1], units) + cut(units))
  return h @ cut(h.shape[1], outputs) + cut(outputs)


@pytest.mark.slow
def test_a_run_learns_and_its_resumed_copy_has_the_same_bytes(tmp_path):
  def train(name, iterations, **settings):
    return list(
      trpo_tf.train(
        **TINY | settings,
        run_dir=tmp_path / name,
        total_iterations=iterations,
      )
    )

  found = train('one', 7)
  returns = [i.record.return_mean for i in found]
  assert returns[0] < 6.5 < 8.5 < returns[-1]  # 5 by chance, at most 10
  train('many', 3)
  train('many', 7, env_workers=2)
  one, many = tmp_path / 'one', tmp_path / 'many'
  assert programs.progress(one) == programs.progress(many)
  assert programs.final_state(one) == programs.final_state(many)
  batch = found[-1].batch
  assert batch.frames.dtype == np.uint8
  assert batch.frames.shape[0] <= 3 * (240 + 4 + len(batch.boundary_index))
  policy = trpo_tf.load_policy(one, trust_task=True)
  evaluated, _ = evaluate(
    policy.backend, policy.theta, policy.normalizer, 3, deterministic=True
  )
  assert evaluated.returns.mean() > 9
  env = toy_envs.Picture()
  image, _ = env.reset(seed=3)
  assert policy.act(image) == env.side
  _, reward, *_ = env.step(policy.act(image))
  assert reward == 1
  batch_of_two = np.stack([image, image])
  assert policy.act(batch_of_two).tolist() == [policy.act(image)] * 2
  logits = plain(policy.theta, batch_of_two, (4, 4), (16,), 2)
  probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  choice = policy.distribution(batch_of_two)
  for action in (0, 1):
    np.testing.assert_allclose(
      np.exp(choice.log_prob(np.full((2, 1), action))),
      probabilities[:, action],
      rtol=1e-4,
    )
  with pytest.raises(UserError, match=r'uint8 \[40, 40, 3\], or N of them'):
    policy.act(image.astype(float))


@pytest.mark.parametrize('shape', SHAPES)
def test_the_policy_sees_the_environments_images(shape):
  made = resolved(batch_steps=32, **pictured(shape))
  assert made.spaces.images.shape == SHAPES[shape][1]
  theta, batch = sampled(made)
  pixels = batch.stacks(batch.flat(batch.observations))
  outputs = plain(theta, pixels, (4, 4), (16,), 2)
  np.testing.assert_allclose(batch.flat(batch.outputs), outputs, atol=1e-5)
  env = gymnasium.make(PICTURE, shape=shape, columns=SHAPES[shape][0])
  first, _ = env.reset(seed=made.paths()._slots[0].next_seed)
  expected = Images(shape).planes(first[np.newaxis])[0]
  assert (np.moveaxis(pixels[0], -1, 0) == expected).all()
  columns = np.abs(np.diff(pixels.astype(int).mean((1, 3)), axis=1)).argmax(1)
  middle = -(-SHAPES[shape][1][1] // 2) - 1
  assert (columns == middle).all()  # where the bright half begins or ends
  text = made.describe()
  assert text.startswith(f'{PICTURE}: images of {SHAPES[shape][1][0]} x ')


@pytest.mark.slow
def test_continuous_actions_whole_episodes_and_shards():
  run = Training(
    config.from_settings(
      TINY
      | dict(env_kwargs='{"continuous": true}', whole_episodes=True)
      | dict(fisher_fraction=0.3, total_iterations=2)
    )
  )
  for iteration in run.iterations():
    assert iteration.record.step_status == 'accepted'
  from trpo_tf.distributed import training as distributed
  from trpo_tf.distributed.local import LocalEngine

  sharded = config.from_settings(
    TINY | dict(num_shards=2, value_minibatch=60, batch_steps=80)
  )
  run = distributed.on_engine(sharded, LocalEngine(sharded))
  assert next(run.iterations()).record.step_status == 'accepted'
  run.sampler.close()


def test_memory_of_images():
  values = dict(env_kwargs='{"shape": [64, 64, 3]}', batch_steps=400)
  made = resolved(**values)
  _, batch = sampled(made)
  parts = {part.name: part.size for part in memory.estimate(made)}
  measured = sum(
    value.nbytes for value in vars(batch).values() if hasattr(value, 'nbytes')
  )
  pixels = 400 * 64 * 64 * 3
  assert pixels < measured < 1.2 * pixels  # a byte each
  assert measured / 2 < parts['the steps of a batch'] < 2 * measured
  state = made.paths().state()
  assert state['slot_observations'].dtype == np.uint8


class Spaced(gymnasium.Env):
  """Has any space, and may observe something else."""

  action_space = spaces.Discrete(2)

  def __init__(self, space, given=None):
    self.observation_space, self.given = space, given

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    given = self.given
    return self.observation_space.sample() if given is None else given, {}

  def step(self, action):
    return self.reset()[0], 0.0, False, False, {}


def register(space, given=None):
  name = f'Spaced{len(gymnasium.registry)}-v0'
  gymnasium.register(
    name, Spaced, max_episode_steps=5, kwargs=dict(space=space, given=given)
  )
  return name


def box(*shape, high=255, dtype=np.uint8):
  return spaces.Box(0, high, shape, dtype)


@pytest.mark.parametrize(
  'space, settings, says',
  [
    (box(7, 7, 3), {}, 'nothing of 7 x 7 pixels; take fewer, or .*Resize'),
    (box(3, 3, 3), {}, 'nothing of 3 x 3 pixels; take larger frames, or'),
    (box(4, 40, 40, 3), {}, r'\(4, 40, 40, 3\) are images, of which'),
    (box(40, 40, 3, high=1, dtype=np.float32), {}, 'a single Box of uint8'),
    (spaces.Dict(a=box(40, 40)), {}, r'\(40, 40\) are images.*--policy='),
    (
      box(40, 40, 3),
      dict(sampler='vine', rollout_set_size=4),
      'does not branch from images',
    ),
    (
      box(40, 40, 3),
      dict(method='cem', whole_episodes=True, baseline='none'),
      '--method=cem cannot learn from frames',
    ),
  ],
)
def test_what_is_no_image_for_the_convolutions(space, settings, says):
  with pytest.raises(UserError, match=says) as caught:
    Training(config.from_settings(TINY | settings | dict(task=register(space))))
  assert '\n' not in str(caught.value)


def test_small_images_train_with_one_convolution_or_as_vectors():
  _, batch = sampled(
    resolved(task=register(box(7, 7, 3)), conv_filters=(4,), batch_steps=8)
  )
  assert batch.num_steps == 8
  flat = resolved(task='toy_envs:FlatPicture-v0', batch_steps=8)
  assert flat.spaces.images is None
  assert sampled(flat)[1].observations.shape[-1] == 147


def test_an_image_of_other_numbers_is_one_line():
  task = register(box(8, 8), given=np.zeros((8, 8)))
  with pytest.raises(UserError, match='observation of float64 numbers') as e:
    sampled(resolved(task=task, conv_filters=(4,)))
  assert '\n' not in str(e.value)


def test_a_network_of_the_users_own_sees_vectors():
  own = environment.describe(PICTURE, flatten=True)
  assert (own.images, own.observation_size) == (None, 4800)
  task = register(spaces.Dict(eye=box(4, 4, 3), arm=box(2, high=1)))
  assert environment.describe(task, flatten=True).observation_size == 50
