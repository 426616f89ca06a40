"""Gymnasium's eleven MuJoCo environments, version 5, as tasks.

Observations and episode ends equal those of `gymnasium.make(id)` with its
default arguments bit for bit. Rewards differ by up to 2 ulp on Reacher, Pusher
and InvertedDoublePendulum; on the others they are equal. All of this holds if
actions are not clipped (--noclip_actions) or lie in the control range: clipping
lowers the control cost of actions outside it. tests/parity/gymnasium_v5_test.py
checks it. Comments point out what a reader may not expect.
"""

import os

import gymnasium.envs.mujoco
import mujoco
import numpy as np

from trpo_tf.tasks.expression import Expression
from trpo_tf.tasks.language import (
  all_finite,
  clip,
  concatenate,
  cos,
  every,
  minimum,
  norm,
  prev,
  sin,
  square,
  total,
  weighted_sum,
)
from trpo_tf.tasks.simulation import Simulation
from trpo_tf.tasks.task import (
  Definition,
  Task,
  normal_velocity_reset,
  rejection_sample,
  uniform_reset,
)

_ASSETS = os.path.join(
  os.path.dirname(gymnasium.envs.mujoco.__file__), 'assets'
)


def _velocity(position: Expression, sim: Simulation) -> Expression:
  return (position - prev(position)) / sim.dt


def _between(low: float, x: Expression, high: float) -> Expression:
  return (low < x) & (x < high)


def inverted_pendulum(sim: Simulation) -> Definition:
  """Defines a pole on a cart; ends when it leans by more than 0.2 rad."""
  observation = concatenate(sim.qpos, sim.qvel)
  fallen = ~all_finite(observation) | (abs(sim.qpos[1]) > 0.2)
  return Definition(observation, ~fallen, fallen, {'reward_survive': ~fallen})


def inverted_double_pendulum(sim: Simulation) -> Definition:
  """Defines two poles on a cart; ends when the tip is at most 1 m high."""
  x, y = sim.site_xpos[0, 0], sim.site_xpos[0, 2]
  fallen = y <= 1.0
  survive = 10.0 * ~fallen
  distance = 0.01 * square(x) + square(y - 2.0)
  velocity = 1e-3 * square(sim.qvel[1]) + 5e-3 * square(sim.qvel[2])
  return Definition(
    observation=concatenate(
      sim.qpos[:1],
      sin(sim.qpos[1:]),
      cos(sim.qpos[1:]),
      clip(sim.qvel, -10, 10),
      clip(sim.qfrc_constraint[:1], -10, 10),
    ),
    reward=survive - distance - velocity,
    terminated=fallen,
    terms={
      'reward_survive': survive,
      'distance_penalty': -distance,
      'velocity_penalty': -velocity,
    },
  )


def reacher(sim: Simulation) -> Definition:
  """Defines a planar arm whose fingertip approaches a target."""
  angles = sim.qpos[:2]
  to_target = sim.xpos['fingertip'] - sim.xpos['target']
  distance = -norm(to_target)
  control = -total(square(sim.action))
  return Definition(
    observation=concatenate(
      cos(angles), sin(angles), sim.qpos[2:], sim.qvel[:2], to_target[:2]
    ),
    reward=distance + control,
    terms={'reward_dist': distance, 'reward_ctrl': control},
  )


def pusher(sim: Simulation) -> Definition:
  """Defines an arm that pushes a cylinder to a goal."""
  tip, cylinder, goal = (sim.xpos[b] for b in ('tips_arm', 'object', 'goal'))
  near = -norm(cylinder - tip) * 0.5
  distance = -norm(cylinder - goal)
  control = -total(square(sim.action)) * 0.1
  return Definition(
    observation=concatenate(sim.qpos[:7], sim.qvel[:7], tip, cylinder, goal),
    reward=distance + control + near,
    terms={
      'reward_dist': distance,
      'reward_ctrl': control,
      'reward_near': near,
    },
  )


def swimmer(sim: Simulation) -> Definition:
  """Defines three links that swim forward in a fluid."""
  forward = _velocity(sim.qpos[0], sim)
  control = 1e-4 * total(square(sim.action))
  return Definition(
    observation=concatenate(sim.qpos[2:], sim.qvel),
    reward=forward - control,
    terms={'reward_forward': forward, 'reward_ctrl': -control},
  )


def half_cheetah(sim: Simulation) -> Definition:
  """Defines a planar cheetah that runs forward; its episodes never end."""
  forward = _velocity(sim.qpos[0], sim)
  control = 0.1 * total(square(sim.action))
  return Definition(
    observation=concatenate(sim.qpos[1:], sim.qvel),
    reward=forward - control,
    terms={'reward_forward': forward, 'reward_ctrl': -control},
  )


def _planar_runner(sim: Simulation, healthy: Expression) -> Definition:
  forward = _velocity(sim.qpos[0], sim)
  survive = 1.0 * healthy
  control = 1e-3 * total(square(sim.action))
  return Definition(
    observation=concatenate(sim.qpos[1:], clip(sim.qvel, -10, 10)),
    reward=forward + survive - control,
    terminated=~healthy,
    terms={
      'reward_forward': forward,
      'reward_ctrl': -control,
      'reward_survive': survive,
    },
  )


def hopper(sim: Simulation) -> Definition:
  """Defines a planar one-legged hopper."""
  state = concatenate(sim.qpos, sim.qvel)[2:]
  healthy = (
    every(_between(-100.0, state, 100.0))
    & (0.7 < sim.qpos[1])
    & _between(-0.2, sim.qpos[2], 0.2)
  )
  return _planar_runner(sim, healthy)


def walker2d(sim: Simulation) -> Definition:
  """Defines a planar two-legged walker."""
  healthy = _between(0.8, sim.qpos[1], 2.0) & _between(-1.0, sim.qpos[2], 1.0)
  return _planar_runner(sim, healthy)


def ant(sim: Simulation) -> Definition:
  """Defines a four-legged walker that pays for contact forces."""
  state = concatenate(sim.qpos, sim.qvel)
  healthy = all_finite(state) & (0.2 <= sim.qpos[2]) & (sim.qpos[2] <= 1.0)
  forces = clip(sim.cfrc_ext, -1.0, 1.0)  # clipped, then summed
  forward = _velocity(sim.xpos[1][0], sim)
  survive = 1.0 * healthy
  control = 0.5 * total(square(sim.action))
  contact = 5e-4 * total(square(forces))  # including the world's row
  return Definition(
    observation=concatenate(sim.qpos[2:], sim.qvel, forces[1:]),
    reward=forward + survive - (control + contact),
    terminated=~healthy,
    terms={
      'reward_forward': forward,
      'reward_ctrl': -control,
      'reward_contact': -contact,
      'reward_survive': survive,
    },
  )


def _humanoid_observation(sim: Simulation) -> Expression:
  return concatenate(
    sim.qpos[2:],
    sim.qvel,
    sim.cinert[1:],
    sim.cvel[1:],
    sim.qfrc_actuator[6:],
    sim.cfrc_ext[1:],
  )


def humanoid(sim: Simulation) -> Definition:
  """Defines a two-legged walker in 3-D that pays for contact forces."""
  healthy = _between(1.0, sim.qpos[2], 2.0)
  mass = sim.model.body_mass
  center = weighted_sum(mass, sim.xipos) / mass.sum()
  forward = 1.25 * _velocity(center[0], sim)
  survive = 5.0 * healthy
  control = 0.1 * total(square(sim.action))
  # summed, then clipped
  contact = minimum(5e-7 * total(square(sim.cfrc_ext)), 10.0)
  return Definition(
    observation=_humanoid_observation(sim),
    reward=forward + survive - (control + contact),
    terminated=~healthy,
    terms={
      'reward_survive': survive,
      'reward_forward': forward,
      'reward_ctrl': -control,
      'reward_contact': -contact,
    },
  )


def humanoid_standup(sim: Simulation) -> Definition:
  """Defines the humanoid that is paid for the height of its torso."""
  up = sim.qpos[2] / sim.model.opt.timestep  # the simulator's step, not sim.dt
  control = 0.1 * total(square(sim.action))
  impact = minimum(0.5e-6 * total(square(sim.cfrc_ext)), 10.0)
  return Definition(
    observation=_humanoid_observation(sim),
    reward=up - control - impact + 1.0,
    terms={
      'reward_linup': up,
      'reward_quadctrl': -control,
      'reward_impact': -impact,
    },
  )


def reset_reacher(model: mujoco.MjModel, rng: np.random.Generator, n: int):
  """Draws states with a goal anywhere in the disc of radius 0.2 m.

  Args:
    model: the MuJoCo model.
    rng: source of the draws.
    n: number of states.

  Returns:
    qpos float64 [n, nq] and qvel float64 [n, nv].
  """
  qpos = model.qpos0 + rng.uniform(-0.1, 0.1, (n, model.nq))
  qpos[:, -2:] = rejection_sample(
    lambda count: rng.uniform(-0.2, 0.2, (count, 2)),
    lambda goal: np.linalg.norm(goal, axis=1) < 0.2,
    n,
  )
  qvel = rng.uniform(-0.005, 0.005, (n, model.nv))
  qvel[:, -2:] = 0
  return qpos, qvel


def reset_pusher(model: mujoco.MjModel, rng: np.random.Generator, n: int):
  """Draws states with a cylinder over 0.17 m from the goal at the origin.

  Args:
    model: the MuJoCo model.
    rng: source of the draws.
    n: number of states.

  Returns:
    qpos float64 [n, nq] and qvel float64 [n, nv].
  """
  qpos = np.tile(model.qpos0, (n, 1))
  qpos[:, -4:-2] = rejection_sample(
    lambda count: rng.uniform([-0.3, -0.2], [0.0, 0.2], (count, 2)),
    lambda cylinder: np.linalg.norm(cylinder, axis=1) > 0.17,
    n,
  )
  qpos[:, -2:] = 0
  qvel = rng.uniform(-0.005, 0.005, (n, model.nv))
  qvel[:, -4:] = 0
  return qpos, qvel


def _task(name, xml, frame_skip, define, reset, time_limit=1000) -> Task:
  path = os.path.join(_ASSETS, xml)
  return Task(name, path, frame_skip, time_limit, define, reset, name)


TASKS = {
  task.name: task
  for task in (
    _task(
      'InvertedPendulum-v5',
      'inverted_pendulum.xml',
      2,
      inverted_pendulum,
      uniform_reset(0.01, 0.01),
    ),
    _task(
      'InvertedDoublePendulum-v5',
      'inverted_double_pendulum.xml',
      5,
      inverted_double_pendulum,
      normal_velocity_reset(0.1, 0.1),
    ),
    _task('Reacher-v5', 'reacher.xml', 2, reacher, reset_reacher, 50),
    _task('Pusher-v5', 'pusher_v5.xml', 5, pusher, reset_pusher, 100),
    _task('Swimmer-v5', 'swimmer.xml', 4, swimmer, uniform_reset(0.1, 0.1)),
    _task('Hopper-v5', 'hopper.xml', 4, hopper, uniform_reset(5e-3, 5e-3)),
    _task(
      'Walker2d-v5', 'walker2d_v5.xml', 4, walker2d, uniform_reset(5e-3, 5e-3)
    ),
    _task(
      'HalfCheetah-v5',
      'half_cheetah.xml',
      5,
      half_cheetah,
      normal_velocity_reset(0.1, 0.1),
    ),
    _task('Ant-v5', 'ant.xml', 5, ant, normal_velocity_reset(0.1, 0.1)),
    _task(
      'Humanoid-v5', 'humanoid.xml', 5, humanoid, uniform_reset(1e-2, 1e-2)
    ),
    _task(
      'HumanoidStandup-v5',
      'humanoidstandup.xml',
      5,
      humanoid_standup,
      uniform_reset(1e-2, 1e-2),
    ),
  )
}
