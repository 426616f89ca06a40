"""MuJoCo environments whose model changes, and models with delays."""

import dataclasses
import typing

import gymnasium
import mujoco
import numpy as np
import pytest
import worlds
from gymnasium.envs.mujoco import MujocoEnv

from trpo_tf.cloning import native, packing
from trpo_tf.cloning.cloner import cloner
from trpo_tf.errors import UserError
from trpo_tf.sampling.native.branching import Brancher, initial_snapshots
from trpo_tf.tasks.model_image import model_image
from trpo_tf.tasks.task import Definition


class Hills(MujocoEnv):
  """A ball on terrain that each reset makes anew, with a delayed motor."""

  metadata: typing.ClassVar = {
    'render_modes': ['human', 'rgb_array', 'depth_array', 'rgbd_tuple'],
    'render_fps': 100,
  }

  def __init__(self, path, hilly):
    self._hilly = hilly
    space = gymnasium.spaces.Box(-9, 9, (8,))
    super().__init__(str(path), 5, space)

  def step(self, action):
    self.do_simulation(action, 5)
    return self.data.qpos.copy(), 0.0, False, False, {}

  def reset_model(self):
    if self._hilly:
      self.model.hfield_data[:] = self.np_random.uniform(size=64)
    self.set_state(self.init_qpos, self.init_qvel)
    return self.data.qpos.copy()


_HILLS = f"""
<mujoco>
  <asset>
    <hfield name="hills" nrow="8" ncol="8" size="2 2 .5 .1"
      elevation="{' '.join('0' * 64)}"/>
  </asset>
  <worldbody>
    <geom type="hfield" hfield="hills"/>
    <body pos="0 0 .6"><freejoint/><geom size=".1"/></body>
    <body pos="1 0 1"><joint name="hinge"/><geom size=".05"/></body>
  </worldbody>
  <actuator><motor joint="hinge" delay=".03" nsample="100"/></actuator>
</mujoco>
"""


_MESH = """
<mujoco>
  <asset><mesh name="block" file="{}"/></asset>
  <worldbody>
    <body><freejoint/><geom type="mesh" mesh="block" density="{}"/></body>
  </worldbody>
</mujoco>
"""
_BLOCK = '\n'.join(
  f'v {x} {y} {z}' for x in (0, 1) for y in (0, 1) for z in (0, 2)
)


def test_an_equal_model_elsewhere_is_the_same(tmp_path, monkeypatch):
  """A binary model file holds the paths of its meshes as they were given."""
  images = []
  for name, density in (('a', 1000), ('b/c', 1000), ('d', 900)):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    (folder / 'block.obj').write_text(_BLOCK)
    path = folder / 'block.obj' if name == 'a' else 'block.obj'
    (folder / 'model.xml').write_text(_MESH.format(path, density))
    model = mujoco.MjModel.from_xml_path(str(folder / 'model.xml'))
    assert model.npaths > 1
    images.append(model_image(model))
  assert images[0] == images[1] != images[2]
  model.opt.timestep *= 2
  assert model_image(model) != images[2]


@pytest.mark.parametrize('hilly', [False, True])
def test_terrain_must_not_change(tmp_path, hilly):
  path = tmp_path / 'hills.xml'
  path.write_text(_HILLS)
  env = cloner(Hills(path, hilly), 'X')
  env.reset(seed=0)
  if hilly:
    with pytest.raises(UserError, match='changes its model'):
      env.snapshot()
  else:
    assert env.restore(env.snapshot()) is not None


@pytest.mark.parametrize('cursor', [-1.0, -40.0, 100.0, 0.5, np.nan])
def test_forged_cursors_of_delays_are_refused(tmp_path, cursor):
  """MuJoCo would use them as indices."""
  path = tmp_path / 'hills.xml'
  path.write_text(_HILLS)
  env = cloner(Hills(path, False), 'X')
  env.reset(seed=0)
  model, data = env.unwrapped.model, env.unwrapped.data
  assert data.history[model.actuator_historyadr[0] + 1] in range(100)
  # in a mjData: the time, two energies, qpos, qvel, act and the history
  at = 1 + 2 + model.nq + model.nv + model.na + model.actuator_historyadr[0] + 1

  env.step(np.zeros(1))
  snapshot = env.snapshot()
  *values, (fields, numbers) = packing.unpack(snapshot.data)
  numbers = bytearray(numbers)
  numbers[8 * at : 8 * at + 8] = np.float64(cursor).tobytes()
  data = packing.pack([*values, (fields, bytes(numbers))])
  with pytest.raises(UserError, match='wrong place in a history of delays'):
    env.restore(dataclasses.replace(snapshot, data=data))
  env.restore(snapshot)


_DELAYED = """
<mujoco>
  <worldbody>
    <body><joint name="hinge"/><geom size=".1" pos="0 0 .2"/></body>
  </worldbody>
  <actuator><motor joint="hinge" delay=".03" nsample="100"/></actuator>
</mujoco>
"""


@pytest.fixture
def delayed(tmp_path):
  """A native task with a delayed motor, and the column of its cursor."""
  compiled = worlds.make(
    tmp_path, _DELAYED, define=lambda sim: Definition(sim.qpos, 0.0)
  )
  model = compiled.model
  column = 1 + model.nq + model.nv + model.na + model.actuator_historyadr[0] + 1
  return compiled, column


@pytest.mark.parametrize('cursor', [-1.0, -40.0, 100.0, 0.5, np.nan])
def test_forged_cursors_in_native_states_are_refused(delayed, cursor):
  compiled, column = delayed
  brancher = Brancher(compiled, threads=1)
  actions = np.zeros((2, 1, 1))
  states = native.to_states(compiled, initial_snapshots(compiled, 0, 2))
  assert set(states[:, column]) <= set(range(100))
  ended = brancher.branch(states, actions, 150, final_states=True)
  assert set(ended.final_states[..., column].ravel()) <= set(range(100))
  states[1, column] = cursor
  match = 'snapshot 1 is damaged or forged .its place in a history'
  with pytest.raises(UserError, match=match):
    brancher.branch(states, actions, 50)
  with pytest.raises(UserError, match=match):
    brancher.branch(native.to_snapshots(compiled, states), actions, 50)


def test_forged_cursors_in_checkpoints_are_refused(delayed):
  compiled, column = delayed
  slots = worlds.slots(compiled, 2, threads=1)
  slots.rollout(slots.new_arrays(3), worlds.Resets(compiled))
  state = slots.state()
  slots.restore(state)
  state['rows'][1, column] = -40
  with pytest.raises(ValueError, match='history of delays'):
    slots.restore(state)
