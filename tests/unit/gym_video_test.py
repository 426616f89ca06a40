"""Videos of environments of Gymnasium: what is repeated, what is refused."""

import gymnasium
import imageio.v3 as iio
import numpy as np
import pytest

from trpo_tf.config import TaskConfig
from trpo_tf.errors import UserError
from trpo_tf.experiment import gym_video, render_gym


def _episode(path, **changed):
  env = gymnasium.make('CartPole-v1')
  env.reset(seed=3)
  actions = np.array([0, 1, 0, 1])
  rewards = np.array([float(env.step(a)[1]) for a in actions])
  found = dict(task='CartPole-v1', keywords='', seed=3)
  found |= dict(actions=actions, rewards=rewards) | changed
  np.savez(path, **found)
  return str(path)


def test_a_frame_for_each_state(tmp_path):
  pytest.importorskip('pygame')
  pytest.importorskip('imageio_ffmpeg')
  path = str(tmp_path / 'video.mp4')  # a .gif joins frames that are equal
  render_gym.render(_episode(tmp_path / 'episode.npz'), path)
  frames = iio.imread(path)
  assert len(frames) == 5 and frames.std() > 5


def test_an_episode_that_cannot_be_repeated(tmp_path):
  pytest.importorskip('pygame')
  episode = _episode(tmp_path / 'episode.npz', rewards=np.array([1, 2.0]))
  with pytest.raises(UserError, match='step 2 earned 2 and now 1'):
    render_gym.render(episode, str(tmp_path / 'video.gif'))


def test_an_environment_without_images():
  class Blind(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

  gymnasium.register('Blind-v0', Blind)
  with pytest.raises(UserError, match='Blind-v0 does not render images'):
    gym_video.require_images(TaskConfig(task='Blind-v0'))
  gym_video.require_images(TaskConfig(task='CartPole-v1'))
