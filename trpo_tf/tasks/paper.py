"""The four continuous tasks of the TRPO paper's section 8.1.

Rewards, terminations, horizons and initial states are those of the authors'
experiments. The models are our own cart-pole and Gymnasium's swimmer, hopper
and walker. docs/paper_tasks.md gives every definition, its source and what
differs.

As in the authors' code, a step's reward depends on the state in which the step
began. Positions and velocities in rewards are therefore inside prev().
"""

import functools
import os
from collections.abc import Sequence

import mujoco
import numpy as np

from trpo_tf.tasks import gymnasium_v5
from trpo_tf.tasks.expression import Expression
from trpo_tf.tasks.language import (
  clip,
  concatenate,
  cos,
  every,
  prev,
  square,
  total,
)
from trpo_tf.tasks.simulation import Simulation
from trpo_tf.tasks.task import Definition, Task, uniform_reset

# Half the control ranges of the authors' models, in N m. The control cost is
# that of a torque; a model with other motors pays for the same fraction of its
# range.
SWIMMER_TORQUES = (50.0, 50.0)
HOPPER_TORQUES = (15.0, 60.0, 70.0)
WALKER_TORQUES = (162.3535, 76.651, 71.33, 176.701, 70.44, 69.6925)

# The authors' initial states, qpos and then qvel; only x, which is 0 here, is
# not theirs.
HOPPER_START = (
  0.0,
  1.3086,
  0.2283,
  -0.0590,
  -0.4890,
  -0.1317,
  1.0986,
  0.4848,
  -0.4735,
  -0.3697,
  2.7385,
  -0.5730,
)
WALKER_START = (0.0, 1.2, *[0.0] * 16)


def cartpole(sim: Simulation) -> Definition:
  """Defines a pole on a cart (Barto et al. 1983) to keep near the middle."""
  position, angle = sim.qpos['cart'], sim.qpos['pole']
  fallen = (abs(position) > 2.4) | (abs(angle) > 0.2)
  state = 1.0 - cos(prev(angle))
  control = 1e-5 * total(square(clip(sim.action, -10.0, 10.0)))
  return Definition(
    observation=concatenate(
      position, sim.qvel['cart'], angle, sim.qvel['pole']
    ),
    reward=10.0 - state - control,
    terminated=fallen,
    terms={
      'reward_survive': 10.0,
      'reward_state': -state,
      'reward_ctrl': -control,
    },
  )


def _control_cost(sim: Simulation, torques: Sequence[float]) -> Expression:
  return 1e-5 * total(square(np.array(torques) * sim.action))


def swimmer(sim: Simulation) -> Definition:
  """Defines three links that swim in a fluid; their episodes never end."""
  forward = prev(sim.qvel[0])
  control = _control_cost(sim, SWIMMER_TORQUES)
  return Definition(
    observation=concatenate(sim.qpos[1:], sim.qvel),
    reward=forward - control,
    terms={'reward_forward': forward, 'reward_ctrl': -control},
  )


def _capsules(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
  """Returns radii and half lengths of all geoms but the floor, geom 0."""
  return model.geom_size[1:, 0], model.geom_size[1:, 1]


def _runner(sim: Simulation, torques: Sequence[float]) -> Definition:
  """Defines a planar runner: speed pays, effort and hard impacts cost."""
  radii, halves = _capsules(sim.model)
  height = sim.geom_xpos[1:, 2] - abs(sim.geom_xmat[1:, 8]) * halves - radii
  impulse = sim.dt * sim.qfrc_constraint
  state = concatenate(sim.qpos, sim.qvel)
  upright = (
    every(abs(state) < 500.0)
    & (0.8 < sim.qpos[1])
    & (sim.qpos[1] < 2.0)
    & (abs(sim.qpos[2]) < 1.0)
  )
  center = sim.subtree_com['torso'][0]
  forward = (center - prev(center)) / sim.dt
  control = _control_cost(sim, torques)
  impact = 0.005 * total(square(impulse))
  return Definition(
    observation=concatenate(state[1:], impulse, clip(height, 0.0, 0.1)),
    reward=1.0 + forward - control - impact,
    terminated=~upright,
    terms={
      'reward_survive': 1.0,
      'reward_forward': forward,
      'reward_ctrl': -control,
      'reward_impact': -impact,
    },
  )


def hopper(sim: Simulation) -> Definition:
  """Defines a planar one-legged hopper."""
  return _runner(sim, HOPPER_TORQUES)


def walker(sim: Simulation) -> Definition:
  """Defines a planar two-legged walker."""
  return _runner(sim, WALKER_TORQUES)


def _depth(model: mujoco.MjModel, qpos: np.ndarray) -> np.ndarray:
  """Returns how far each pose [n, nq] reaches below z = 0: at least 0, in m."""
  data = mujoco.MjData(model)
  radii, halves = _capsules(model)
  depths = np.empty(len(qpos))
  for i, row in enumerate(qpos):
    data.qpos[:] = row
    mujoco.mj_kinematics(model, data)
    reach = np.abs(data.geom_xmat[1:, 8]) * halves + radii
    depths[i] = max(0.0, np.max(reach - data.geom_xpos[1:, 2]))
  return depths


def _reset_runner(
  model: mujoco.MjModel,
  rng: np.random.Generator,
  n: int,
  *,
  start: Sequence[float],
):
  """Adds noise of +-0.2 to `start` and lifts the body above the floor."""
  state = np.array(start) + rng.uniform(-0.2, 0.2, (n, model.nq + model.nv))
  qpos, qvel = state[:, : model.nq], state[:, model.nq :]
  qpos[:, 1] += _depth(model, qpos)
  return qpos, qvel


def _gymnasium_model(identifier: str) -> str:
  return gymnasium_v5.TASKS[identifier].model_path


def _starting_at(start: Sequence[float]):
  return functools.partial(_reset_runner, start=start)


_CARTPOLE = os.path.join(os.path.dirname(__file__), 'cartpole.xml')

TASKS = {
  task.name: task
  for task in (
    Task(
      'paper/cartpole', _CARTPOLE, 1, 1000, cartpole, uniform_reset(0.05, 0.05)
    ),
    Task(
      'paper/swimmer',
      _gymnasium_model('Swimmer-v5'),
      4,
      500,
      swimmer,
      uniform_reset(0.2, 0.2),
    ),
    Task(
      'paper/hopper',
      _gymnasium_model('Hopper-v5'),
      5,
      1000,
      hopper,
      _starting_at(HOPPER_START),
    ),
    Task(
      'paper/walker',
      _gymnasium_model('Walker2d-v5'),
      5,
      1000,
      walker,
      _starting_at(WALKER_START),
    ),
  )
}
