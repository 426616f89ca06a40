"""The symbols of a task: MuJoCo's fields, the action and the time."""

import dataclasses
import difflib
from typing import Any

import mujoco
import numpy as np

from trpo_tf.tasks.expression import Expression, fail

# The fields that mj_step, mj_rnePostConstraint or mj_subtreeVel compute, and
# the kind of object whose names select their rows ('': there are no names).
FIELDS = {
  'qpos': 'joint',
  'qvel': 'joint',
  'qacc': 'joint',
  'act': '',
  'ctrl': 'actuator',
  'sensordata': 'sensor',
  'mocap_pos': '',
  'mocap_quat': '',
  'xpos': 'body',
  'xquat': 'body',
  'xmat': 'body',
  'xipos': 'body',
  'ximat': 'body',
  'xanchor': 'joint',
  'xaxis': 'joint',
  'geom_xpos': 'geom',
  'geom_xmat': 'geom',
  'site_xpos': 'site',
  'site_xmat': 'site',
  'subtree_com': 'body',
  'cinert': 'body',
  'cvel': 'body',
  'cacc': 'body',
  'cfrc_int': 'body',
  'cfrc_ext': 'body',
  'subtree_linvel': 'body',
  'subtree_angmom': 'body',
  'ten_length': 'tendon',
  'ten_velocity': 'tendon',
  'actuator_length': 'actuator',
  'actuator_velocity': 'actuator',
  'actuator_force': 'actuator',
  'qfrc_actuator': 'joint',
  'qfrc_constraint': 'joint',
  'qfrc_passive': 'joint',
  'qfrc_bias': 'joint',
  'qfrc_applied': 'joint',
  'xfrc_applied': 'body',
}


class Simulation:
  """The symbols of a task: MuJoCo's fields, the action and the time.

  Every field in FIELDS is an attribute (`sim.qpos`, `sim.xpos`, ...).

  Attributes:
    model: the mujoco.MjModel, for constants such as `sim.model.body_mass`.
    action: [num controls], what the simulator receives after any scaling and
      clipping of the policy's action; zero at a reset.
    time: seconds of simulation since the reset.
    dt: seconds of an env step.
  """

  def __init__(self, model: mujoco.MjModel, frame_skip: int):
    """Makes the symbols.

    Args:
      model: the MuJoCo model.
      frame_skip: simulator steps of an env step.
    """
    self.model = model
    self.dt = model.opt.timestep * frame_skip
    self.action = Expression('action', (model.nu,))
    self.time = Expression('time', ())
    self._data = mujoco.MjData(model)

  def __getattr__(self, name: str) -> 'Field':
    if name.startswith('_') or name not in FIELDS:
      near = difflib.get_close_matches(name, FIELDS, 1)
      hint = f'did you mean {near[0]}?' if near else f'fields: {list(FIELDS)}'
      fail(f'a task has no field {name!r}; {hint}')
    shape = getattr(self._data, name).shape
    if not np.prod(shape):
      fail(f'{name} is empty in this model: it has shape {shape}')
    return Field('load', shape, (), (name, 0, 1), model=self.model)


@dataclasses.dataclass(frozen=True, eq=False)
class Field(Expression):
  """A whole MuJoCo field, whose rows can be selected by name."""

  model: Any = None

  def __getitem__(self, key: Any) -> Expression:
    if not isinstance(key, str):
      return super().__getitem__(key)
    return super().__getitem__(self._rows(key))

  def _rows(self, name: str) -> int | slice:
    field, kind, m = self.data[0], FIELDS[self.data[0]], self.model
    if not kind:
      fail(f'{field} has no names: select its elements by number')
    names = [getattr(m, kind)(i).name for i in range(_count(m, kind))]
    if name not in names:
      near = difflib.get_close_matches(name, names, 1) or names
      fail(f'{field}[{name!r}]: no such {kind}; there is {", ".join(near)}')
    i = names.index(name)
    if kind == 'actuator':
      return self._actuator_rows(name, i)
    if kind == 'sensor':
      start = int(m.sensor_adr[i])
      return slice(start, start + int(m.sensor_dim[i]))
    if kind == 'joint' and field not in ('xanchor', 'xaxis'):
      address = m.jnt_qposadr if field == 'qpos' else m.jnt_dofadr
      end = address[i + 1] if i + 1 < m.njnt else self.shape[0]
      return slice(int(address[i]), int(end))
    return i

  def _actuator_rows(self, name: str, i: int) -> int | slice:
    """Returns the rows of actuator i: one for each control, or output."""
    field, m = self.data[0], self.model
    if field == 'ctrl':
      start, count = int(m.actuator_ctrladr[i]), int(m.actuator_ctrlnum[i])
    else:
      start, count = int(m.actuator_outadr[i]), int(m.actuator_outnum[i])
    if not count:
      fail(f'{field}[{name!r}]: this actuator has no control')
    return start if count == 1 else slice(start, start + count)


def _count(model: mujoco.MjModel, kind: str) -> int:
  counts = dict(
    body=model.nbody,
    geom=model.ngeom,
    site=model.nsite,
    joint=model.njnt,
    tendon=model.ntendon,
    actuator=model.nactuator,
    sensor=model.nsensor,
  )
  return counts[kind]
