"""Gymnasium environments that worker processes can import without TensorFlow.

A task names them by 'toy_envs:Dial-v0'.
"""

import os
import signal
import sys
import threading
import time

import gymnasium
import numpy as np
from gymnasium import spaces


class Odd(Exception):
  """Cannot be pickled, and is not made from its arguments."""

  def __init__(self, first, second):
    super().__init__(f'{first}\n{second}')
    self.lock = threading.Lock()


class Dial(gymnasium.Env):
  """Dict observations, discrete actions, random ends; a step may take time."""

  def __init__(self, seconds=0.0, fault=''):
    self.observation_space = spaces.Dict(
      dial=spaces.Discrete(4), place=spaces.Box(-9, 9, (2, 2), np.float64)
    )
    self.action_space = spaces.MultiDiscrete([2, 3], start=[0, 5])
    self.seconds, self.fault, self.ended = seconds, fault, True
    if fault == 'make' and 'spawn_main' in ' '.join(sys.orig_argv):
      raise OSError('no\nlicence')

  def _observation(self):
    return dict(dial=self.dial, place=self.np_random.uniform(size=(2, 2)))

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    assert options is None
    self.dial, self.steps, self.ended = 0, 0, False
    return self._observation(), {}

  def step(self, action):
    assert self.action_space.contains(action), action
    assert not self.ended
    time.sleep(self.seconds)
    self.steps += 1
    if self.steps == 4:
      if self.fault == 'odd':
        raise Odd('motor', 'burnt')
      if self.fault == 'exit':
        sys.exit(3)
      if self.fault == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
    self.dial = (self.dial + int(action[0])) % 4
    reward = np.float32(action[0] * 10 + action[1])
    self.ended = bool(self.dial == 3 and self.np_random.uniform() < 0.3)
    # the width of what it tells changes
    info = dict(history=np.zeros(self.steps))
    return self._observation(), reward, self.ended, False, info


gymnasium.register('Dial-v0', Dial, max_episode_steps=30)


class Picture(gymnasium.Env):
  """Shows a bright patch on the left or right, which an action names."""

  metadata = {'render_modes': ['rgb_array']}
  render_mode = None

  def __init__(self, shape=(40, 40, 3), columns=1, continuous=False):
    self.observation_space = spaces.Box(0, 255, tuple(shape), np.uint8)
    self.columns = columns  # axis of the columns
    self.continuous = continuous
    self.action_space = (
      spaces.Box(-1, 1, (1,), np.float32) if continuous else spaces.Discrete(2)
    )

  def _observation(self):
    self.side = int(self.np_random.integers(2))
    image = self.np_random.integers(0, 60, self.observation_space.shape, 'u1')
    halves = np.array_split(image, 2, axis=self.columns)
    halves[self.side] += 150
    return image

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.steps = 0
    return self._observation(), {}

  def step(self, action):
    chosen = float(action[0]) if self.continuous else 2 * int(action) - 1
    reward = 1 - abs(chosen - (2 * self.side - 1)) / 2
    self.steps += 1
    return self._observation(), reward, False, False, {}


gymnasium.register('Picture-v0', Picture, max_episode_steps=10)


def flat_pictures():
  """Pictures whose observations are vectors."""
  return gymnasium.wrappers.FlattenObservation(Picture((7, 7, 3)))


gymnasium.register('FlatPicture-v0', flat_pictures, max_episode_steps=10)
