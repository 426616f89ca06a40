"""Small MuJoCo models and tasks that several tests use."""

import types

import numpy as np

from trpo_tf.policies.mlp import MLP
from trpo_tf.sampling.native import NativeSlots
from trpo_tf.tasks.language import concatenate
from trpo_tf.tasks.task import (
  CompiledTask,
  Definition,
  Task,
  compile_task,
  uniform_reset,
)

# two links on a cart, one free ball that bounces on the floor
CART = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 .1"/>
    <body name="cart" pos="0 0 1">
      <joint name="slide" type="slide" axis="1 0 0"/>
      <geom name="cart" type="box" size=".2 .1 .05" mass="1" contype="0"/>
      <body name="pole">
        <joint name="hinge" type="hinge" axis="0 1 0" damping=".1"/>
        <geom name="pole" type="capsule" fromto="0 0 0 0 0 .4" size=".03"
              contype="0"/>
        <site name="tip" pos="0 0 .4"/>
      </body>
    </body>
    <body name="ball" pos="1 0 .3">
      <freejoint name="ball"/>
      <geom name="ball" type="sphere" size=".1"/>
    </body>
  </worldbody>
  <actuator>
    <motor name="push" joint="slide" gear="5" ctrlrange="-1 3"
           ctrllimited="true"/>
    <motor name="twist" joint="hinge" ctrlrange="-2 2" ctrllimited="true"/>
  </actuator>
  <sensor>
    <framepos name="tip" objtype="site" objname="tip"/>
    <jointvel name="slide" joint="slide"/>
  </sensor>
</mujoco>
"""


def write(directory, xml: str) -> str:
  """Writes a model; returns its path."""
  path = directory / 'model.xml'
  path.write_text(xml)
  return str(path)


def observe(sim) -> Definition:
  """Observes positions and velocities, earns nothing."""
  return Definition(concatenate(sim.qpos, sim.qvel), 0.0)


def make(
  directory, xml: str = CART, define=observe, *, frame_skip=2, time_limit=20,
  reset=None,
) -> CompiledTask:
  """Compiles a task of a model given as text."""
  return compile_task(
    Task('test', write(directory, xml), frame_skip, time_limit, define,
         reset or uniform_reset(0.05, 0.05))
  )


class Resets:
  """Reset rows by (slot, episode) from one seeded generator each."""

  def __init__(self, compiled: CompiledTask, seed: int = 0):
    self.compiled, self.seed = compiled, seed

  def row(self, slot: int, episode: int) -> np.ndarray:
    rng = np.random.default_rng([self.seed, slot, episode])
    return np.concatenate(
      self.compiled.task.reset(self.compiled.model, rng, 1), axis=1
    )[0]

  def __call__(self, episodes: np.ndarray, count: int) -> np.ndarray:
    return np.array([
      [self.row(slot, first + i) for i in range(count)]
      for slot, first in enumerate(episodes.tolist())
    ])


def fixed_rows(row: np.ndarray):
  """Every episode of every slot begins in the same state."""
  return lambda episodes, count: np.tile(row, (len(episodes), count, 1))


def identity_normalizer(size: int, clip: float = 1e6):
  """What `policy_arrays` reads of a normaliser, doing nothing."""
  return types.SimpleNamespace(
    mean32=np.zeros(size, np.float32),
    inv_std32=np.ones(size, np.float32),
    clip=clip,
  )


def slots(compiled: CompiledTask, num_slots: int, hidden=(), activation='tanh',
          **options) -> NativeSlots:
  """Native slots whose network fits the task."""
  network = MLP(compiled.observation_size, hidden, compiled.action_size,
                activation)
  return NativeSlots(compiled, num_slots, network, **options)
