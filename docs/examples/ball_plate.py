"""A ball on a plate that tilts about two axes: keep it at the center."""

import pathlib

from trpo_tf.tasks.language import concatenate, exp, square, total
from trpo_tf.tasks.task import Definition, Task, uniform_reset


def define(sim):
  """Observation, reward and end of an episode, from MuJoCo's fields."""
  offset = sim.xpos['ball'] - sim.site_xpos['center']
  near = exp(-30.0 * total(square(offset[:2])))
  effort = 0.01 * total(square(sim.action))
  return Definition(
    observation=concatenate(
      sim.qpos['roll'], sim.qpos['pitch'], offset, sim.qvel[:5]
    ),
    reward=near - effort,
    terminated=sim.xpos['ball'][2] < 0.3,
    terms={'reward_near': near, 'reward_effort': -effort},
  )


MODEL = str(pathlib.Path(__file__).with_name('ball_plate.xml'))
BALANCE = Task(
  'BallPlate',
  MODEL,
  frame_skip=4,
  time_limit=250,
  define=define,
  reset=uniform_reset(0.05, 0.2),
)
