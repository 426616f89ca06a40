"""A point on a plane: push it to the goal. An environment for Gymnasium."""

import json

import gymnasium
import numpy as np
from gymnasium import spaces


class Point(gymnasium.Env):
  """A mass with friction that two forces push."""

  metadata = {'render_modes': ['rgb_array'], 'render_fps': 20}

  def __init__(self, force=0.2, render_mode=None):
    self.force, self.render_mode = force, render_mode
    self.action_space = spaces.Box(-1, 1, (2,), np.float32)
    two = spaces.Box(-10, 10, (2,), np.float64)
    self.observation_space = spaces.Dict(offset=two, velocity=two)

  def _observation(self):
    return dict(offset=self.goal - self.position, velocity=self.velocity)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)  # seeds np_random, the only source of chance
    self.position, self.goal = self.np_random.uniform(-1, 1, (2, 2))
    self.velocity = np.zeros(2)
    return self._observation(), {}

  def step(self, action):
    self.velocity = 0.9 * self.velocity + self.force * np.float64(action)
    self.position = np.clip(self.position + 0.1 * self.velocity, -2, 2)
    distance = float(np.linalg.norm(self.goal - self.position))
    return self._observation(), -distance, distance < 0.1, False, {}

  def render(self):
    image = np.full((64, 64, 3), 255, np.uint8)
    for place, color in (
      (self.goal, [0, 160, 0]),
      (self.position, [200, 0, 0]),
    ):
      column, row = (32 + 15 * place * [1, -1]).astype(int)
      image[row - 1 : row + 2, column - 1 : column + 2] = color
    return image

  # What the vine and the planner need: the complete state as bytes.
  def snapshot(self):
    numbers = np.array([self.position, self.velocity, self.goal])
    chance = self.np_random.bit_generator.state
    return json.dumps([numbers.tolist(), chance]).encode()

  def restore(self, data):
    numbers, self.np_random.bit_generator.state = json.loads(data)
    self.position, self.velocity, self.goal = np.array(numbers)


gymnasium.register('Point-v0', Point, max_episode_steps=100)
