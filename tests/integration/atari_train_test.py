"""Training on Atari games: paths and vine, exact resume, what is refused."""

import dataclasses

import imageio.v3 as iio
import numpy as np
import plain_atari
import pytest

from trpo_tf import config, seeding
from trpo_tf.errors import UserError
from trpo_tf.experiment import atari_video, backend, checkpoint, evaluation
from trpo_tf.experiment.training import Training
from trpo_tf.policies.stacks import FrameStacks
from trpo_tf.seeding import Stream

SETTINGS = dict(
  task='atari/breakout',
  hidden_sizes=(20,),
  value_hidden_sizes=(8,),
  num_slots=4,
  batch_steps=64,
  value_epochs=2,
  value_minibatch=16,
  sampler_threads=2,
  noop_max=3,
  max_kl=0.01,
  cg_damping=0.01,
)
VINE = dict(
  sampler='vine',
  rollout_set_size=6,
  branch_length=5,
  branch_proposal='uniform',
  baseline='value_network',
)


def settings(**changed):
  return config.from_settings(SETTINGS | changed)


def iterate(training, count):
  found = []
  for iteration in training.iterations():
    found.append(iteration)
    if len(found) == count:
      break
  training.sampler.close()
  return found


def numbers(iteration):
  """The record without times."""
  numbers = dataclasses.asdict(iteration.record)
  return {k: v for k, v in numbers.items() if 'second' not in k}


@pytest.mark.slow
@pytest.mark.parametrize('changed', [{}, VINE], ids=['paths', 'vine'])
def test_learns_and_resumes_exactly(changed):
  first, second = iterate(Training(settings(**changed)), 2)
  assert len(first.state.theta) == 33_500
  record = first.record
  assert record.step_status == 'accepted'
  assert 0 < record.mean_kl <= 0.01
  assert record.surrogate_after > record.surrogate_before
  assert record.sampler_output_error < 1e-4
  assert np.abs(second.state.theta - first.state.theta).max() > 0
  (again,) = iterate(
    Training(settings(**changed, sampler_threads=1), first.state.tree()), 1
  )
  np.testing.assert_equal(numbers(again), numbers(second))
  np.testing.assert_array_equal(again.state.theta, second.state.theta)
  inputs = second.batch.inputs(
    second.batch.flat(second.batch.observations), None
  )
  assert isinstance(inputs, FrameStacks) and inputs.frames is second.batch.tiled


@pytest.mark.slow
@pytest.mark.parametrize('method', ['natural_gradient', 'max_kl'])
def test_other_steps_see_frames_too(method):
  (found,) = iterate(Training(settings(method=method)), 1)
  assert found.record.step_status in ('accepted', 'kl_exceeded')
  assert found.record.gradient_norm > 0


def test_evaluates():
  changed = settings(time_limit=30)
  task = backend.resolve(changed)
  policy = task.policy()
  theta = policy.initial_parameters(np.random.default_rng(0))
  normalizer = task.normalizer()
  found, _ = evaluation.evaluate(task, theta, normalizer, 3, False)
  np.testing.assert_array_equal(found.lengths, [30, 30, 30])


def test_video_is_of_the_episode(tmp_path):
  changed = settings(time_limit=30)
  task = backend.resolve(changed)
  policy = task.policy()
  theta = policy.initial_parameters(np.random.default_rng(0))
  normalizer = task.normalizer()
  _, batch = evaluation.evaluate(task, theta, normalizer, 2, False)
  game = task.game
  under = evaluation.evaluation_config(changed, 2)
  screens = list(atari_video.episode_screens(game, under, batch, 1))
  draws = seeding.generator(under.run.seed, Stream.ENVIRONMENT, 1, 0)
  noops = draws.integers(1, 3, endpoint=True)
  ale = plain_atari.emulator(game, noops=max(noops, 2))
  if noops == 1:
    ale.reset_game()
    ale.act(0)
  for screen, action in zip(screens, batch.actions[1], strict=True):
    plain_atari.step(game, ale, game.codes[tuple(action)])
    assert (screen == ale.getScreenRGB()).all()
  path = tmp_path / 'new' / 'video.mp4'
  atari_video.write_video(str(path), game, iter(screens))
  frames = iio.imread(path)
  assert frames.shape == (30, 630, 480, 3) and iio.immeta(path)['fps'] == 15
  error = frames[-1, 1::3, 1::3].astype(float) - screens[-1]
  assert np.abs(error).mean() < 10 and screens[-1].std() > 20


@pytest.mark.parametrize(
  'changed, message',
  [
    (dict(method='cem', whole_episodes=True), 'cem cannot learn from frames'),
    (dict(method='empirical_fisher'), 'take trpo, natural_gradient'),
    (
      dict(baseline='linear', whole_episodes=True),
      'vectors: take --baseline=value_network or time',
    ),
    (dict(task='atari/brekout'), 'did you mean atari/breakout'),
  ],
)
def test_refuses(changed, message):
  with pytest.raises(UserError, match=message):
    Training(settings(**changed))


def test_a_forged_checkpoint_is_refused(tmp_path):
  """By the program itself, not by the worker that it would crash."""
  training = Training(settings())
  state = training.state
  training.sampler.sample(state.theta, state.normalizer, 0)

  def forge(values):
    data, *rest = values[5]
    return [
      *values[:5],
      (plain_atari.forged_chip(data, b'M6532', 0, 2**20), *rest),
    ]

  forged = plain_atari.forged_slot(training.sampler.state(), forge)
  checkpoint.save(tmp_path, 0, state.tree() | {'sampler': forged}, keep=1)
  with pytest.raises(UserError, match='stored emulator is damaged: .* M6532'):
    checkpoint.load_newest(tmp_path, lambda saved: training.resume(saved.state))
  training.sampler.close()
