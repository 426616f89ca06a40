"""Small MuJoCo models and tasks that several tests use."""

import types
from typing import NamedTuple

import numpy as np

from trpo_tf import seeding
from trpo_tf.config import (
  EstimatorConfig,
  ExperimentConfig,
  RunConfig,
  SamplerConfig,
  TaskConfig,
)
from trpo_tf.policies.gaussian import GaussianPolicy
from trpo_tf.policies.mlp import MLP
from trpo_tf.policies.normalizer import initial_normalizer
from trpo_tf.sampling.batch import Batch
from trpo_tf.sampling.native.branching import Brancher, FrozenPolicy
from trpo_tf.sampling.native.paths import NativePathSampler
from trpo_tf.sampling.native.slots import NativeSlots
from trpo_tf.tasks.language import concatenate
from trpo_tf.tasks.task import (
  CompiledTask,
  Definition,
  Task,
  compile_task,
  uniform_reset,
)

# a link that swings from a hinge
LEVER = """
<mujoco>
  <worldbody>
    <body>
      <joint name="hinge" type="hinge" axis="0 1 0" damping=".1"/>
      <geom type="capsule" fromto="0 0 0 0 0 -.4" size=".03"/>
    </body>
  </worldbody>
  <actuator>
    <motor joint="hinge" ctrlrange="-3 3" ctrllimited="true"/>
  </actuator>
</mujoco>
"""
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

# A pole that swings as it should, and a light mass on a spring that is too
# stiff for the time step: at rest it stays there, and once pushed it grows
# about fourfold with every step of the simulator.
WILD = """
<mujoco>
  <option timestep="0.01" integrator="Euler"/>
  <worldbody>
    <body name="pole">
      <joint name="hinge" type="hinge" axis="0 1 0" damping=".1"/>
      <geom type="capsule" fromto="0 0 0 0 0 -.4" size=".03"/>
    </body>
    <body name="mass" pos="5 0 0">
      <joint name="spring" type="slide" axis="1 0 0" stiffness="62.5"/>
      <geom type="sphere" size=".1" mass="1e-3"/>
    </body>
  </worldbody>
  <actuator>
    <motor joint="hinge"/>
    <motor joint="spring" gear="1e-3" ctrlrange="-.5 .5" ctrllimited="true"/>
  </actuator>
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
  directory,
  xml: str = CART,
  define=observe,
  *,
  frame_skip=2,
  time_limit=20,
  reset=None,
) -> CompiledTask:
  """Compiles a task of a model given as text."""
  return compile_task(
    Task(
      'test',
      write(directory, xml),
      frame_skip,
      time_limit,
      define,
      reset or uniform_reset(0.05, 0.05),
    )
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
    return np.array(
      [
        [self.row(slot, first + i) for i in range(count)]
        for slot, first in enumerate(episodes.tolist())
      ]
    )


def fixed_rows(row: np.ndarray):
  """Every episode of every slot begins in the same state."""
  return lambda episodes, count: np.tile(row, (len(episodes), count, 1))


def experiment(
  sampler: SamplerConfig, seed=0, gamma=0.99, **task
) -> ExperimentConfig:
  """The settings of a run with that sampler, all others consistent."""
  every = sampler.branch_proposal == 'all'
  return ExperimentConfig(
    task=TaskConfig(**task),
    sampler=sampler,
    estimator=EstimatorConfig(
      gamma=gamma,
      vine_objective='all_actions' if every else 'self_normalized',
    ),
    run=RunConfig(seed=seed),
  )


def identity_normalizer(size: int, clip: float = 1e6):
  """What `policy_arrays` reads of a normaliser, doing nothing."""
  return types.SimpleNamespace(
    mean32=np.zeros(size, np.float32),
    inv_std32=np.ones(size, np.float32),
    clip=clip,
  )


def slots(
  compiled: CompiledTask,
  num_slots: int,
  hidden=(),
  activation='tanh',
  action_range='raw',
  clip_actions=True,
  threads=0,
) -> NativeSlots:
  """Native slots whose network fits the task."""
  network = MLP(
    compiled.observation_size, hidden, compiled.action_size, activation
  )
  _, controls = compiled.actions(action_range, clip_actions)
  return NativeSlots(
    compiled, num_slots, GaussianPolicy(network), controls, threads
  )


def actor(
  compiled: CompiledTask, hidden=(16,), log_std=-1.0, seed=0, activation='tanh'
) -> FrozenPolicy:
  """A random policy; its normaliser has seen nothing."""
  policy = GaussianPolicy(
    MLP(compiled.observation_size, hidden, compiled.action_size, activation),
    initial_log_std=log_std,
    output_scale=0.5,
  )
  theta = policy.initial_parameters(np.random.default_rng(seed))
  normalizer = initial_normalizer(compiled.observation_size)
  return FrozenPolicy(policy, theta, normalizer)


class Trunk(NamedTuple):
  """Two batches of a policy, and all states of the second one.

  Attributes:
    compiled: the task.
    actor: the policy of the second batch.
    earlier, batch: the batches; episodes carry over.
    states: float64 [S, T, D], before the actions of `batch`.
    noise: float64 [S, T, A], that `batch` was drawn with.
    limits: int [S], of the slots' first episodes.
  """

  compiled: CompiledTask
  actor: FrozenPolicy
  earlier: Batch
  batch: Batch
  states: np.ndarray
  noise: np.ndarray
  limits: np.ndarray


def trunk(
  compiled: CompiledTask, num_slots: int, steps: int, seed=0, **policy
) -> Trunk:
  """Samples a trunk of `steps` per slot."""
  config = SamplerConfig(batch_steps=num_slots * steps, num_slots=num_slots)
  acting = actor(compiled, seed=seed, **policy)
  sampler = NativePathSampler(
    compiled, acting.policy, experiment(config, seed=seed)
  )
  limits = sampler.state()['slot_limit']
  earlier = sampler.sample(acting.theta, acting.normalizer, 0)
  normalizer = acting.normalizer.update(earlier.flat(earlier.observations))
  acting = acting._replace(normalizer=normalizer)
  places = np.argwhere(np.ones((num_slots, steps)))
  batch, states = sampler.sample_with_states(
    acting.theta, normalizer, 1, places
  )
  noise = np.stack(
    [
      seeding.generator(
        seed, seeding.Stream.ACTION_NOISE, 1, slot
      ).standard_normal((steps, compiled.action_size))
      for slot in range(num_slots)
    ]
  )
  return Trunk(
    compiled,
    acting,
    earlier,
    batch,
    states.reshape(num_slots, steps, -1),
    noise,
    limits,
  )


def branch(
  compiled: CompiledTask,
  snapshots,
  actions,
  horizon,
  policy=None,
  *args,
  **kwargs,
):
  """Branches by simulations of their own."""
  brancher = Brancher(compiled, policy.policy if policy else None)
  return brancher.branch(snapshots, actions, horizon, policy, *args, **kwargs)
