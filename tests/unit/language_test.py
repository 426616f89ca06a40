"""Malformed tasks fail when they are built, with the line and the fix."""

import dataclasses
import os

import mujoco
import numpy as np
import pytest
import worlds

from trpo_tf.errors import UserError
from trpo_tf.tasks import language as lang
from trpo_tf.tasks import simulation
from trpo_tf.tasks.program import OPS
from trpo_tf.tasks.task import Definition, Task, compile_task, uniform_reset


def _define(make):
  """A `define` whose observation is what `make` builds of the simulation."""
  return lambda sim: Definition(make(sim), 0.0)


def _error(tmp_path, define, **options):
  with pytest.raises(UserError) as caught:
    worlds.make(tmp_path, define=define, **options)
  message = str(caught.value)
  assert '\n' not in message
  return message


# what the user wrote, and what the message must say
_MISTAKES = {
  'unknown field': (lambda sim: sim.qposs, 'qposs', 'did you mean qpos?'),
  'far unknown field': (lambda sim: sim.zzz, 'fields: [', 'qvel'),
  'field without elements': (lambda sim: sim.ten_length, 'ten_length is empty'),
  'index out of range': (lambda sim: sim.qpos[9], '[9]', '(9,)'),
  'negative out of range': (lambda sim: sim.qpos[-10], '[-10]', '(9,)'),
  'too many indices': (lambda sim: sim.qpos[0, 1], '[0, 1]', '(9,)'),
  'index not whole': (lambda sim: sim.qpos[0.5], '[0.5] does not fit'),
  'list out of range': (lambda sim: sim.qpos[[0, 99]], '[[0, 99]]'),
  'empty slice': (lambda sim: sim.qpos[3:3], '[3:3]', 'empty'),
  'empty strided slice': (lambda sim: sim.xpos[9::2], '[9::2]', 'empty'),
  'shapes': (
    lambda sim: sim.qpos + sim.qvel,
    'add: shapes (8,) and (9,) differ',
  ),
  'shape of a constant': (lambda sim: sim.qpos * [1, 2], '(2,) and (9,)'),
  'clip': (lambda sim: lang.clip(sim.qpos, [0, 1], 2), 'clip: shapes'),
  'not a number': (lambda sim: sim.qpos + 'fast', "'fast' is neither"),
  'NaN': (lambda sim: sim.qpos * float('nan'), 'nan is not finite', 'leave'),
  'infinity': (
    lambda sim: lang.clip(sim.qpos, -np.inf, 1),
    '-inf is not finite',
    'leave the bound out',
  ),
  'empty constant': (lambda sim: sim.qpos + [], '[] is empty'),
  'nothing to concatenate': (lambda sim: lang.concatenate(), 'one part'),
  'weights': (
    lambda sim: lang.weighted_sum([1, 2], sim.xpos),
    'weights (2,) do not fit rows (4, 3)',
  ),
  'chained comparison': (
    lambda sim: 0 < sim.qpos[0] < 1,
    '(a < x) & (x < b) for a < x < b',
  ),
  'and': (lambda sim: sim.qpos[0] > 0 and sim.qpos[1] > 0, '& | ~'),
  'if': (lambda sim: 1.0 if sim.qpos[0] > 0 else 0.0, 'no truth value'),
  'equality': (lambda sim: 1.0 * (sim.qpos[0] == 0), '== or !=', '<='),
  'inequality': (lambda sim: 1.0 * (sim.qpos[0] != 0), '== or !='),
  'unpacking a number': (lambda sim: [*sim.qpos[0]], 'cannot be unpacked'),
  'unknown body': (lambda sim: sim.xpos['cat'], 'no such body', 'cart'),
  'unknown site': (lambda sim: sim.site_xpos['tipp'], 'no such site', 'tip'),
  'unknown joint': (lambda sim: sim.qvel['slid'], 'no such joint', 'slide'),
  'unknown sensor': (lambda sim: sim.sensordata['x'], 'no such sensor'),
  'field without names': (
    lambda sim: sim.ctrl[...]['push'],
    "['push'] does not fit",
  ),
  'remainder': (lambda sim: sim.qpos % 2, 'unsupported operand', 'docs/tasks'),
  'power': (lambda sim: sim.qpos**sim.qvel, 'power: shapes (8,) and (9,)'),
  'power with a modulus': (lambda sim: pow(sim.qpos, 2, 3), 'docs/tasks.md'),
  'angle': (lambda sim: lang.atan2(sim.qpos, [1, 2]), 'atan2: shapes'),
  'a NumPy function': (lambda sim: np.sin(sim.qpos), 'docs/tasks.md'),
  'inside NumPy': (lambda sim: np.linalg.norm(sim.qpos), 'docs/tasks.md'),
  'a name of the model': (lambda sim: sim.model.body('cat').id, 'cat'),
}


@pytest.mark.parametrize('name', _MISTAKES)
def test_mistake_is_told_with_its_line(tmp_path, name):
  make, *texts = _MISTAKES[name]
  message = _error(tmp_path, _define(make))
  first = make.__code__.co_firstlineno
  path, line = message.split(':')[:2]
  assert path == __file__
  assert first <= int(line) <= first + 3
  for text in texts:
    assert text in message


@pytest.mark.parametrize(
  ('arguments', 'text'),
  [
    (lambda sim: (sim.qpos, sim.qpos), 'reward has shape (9,); it must be one'),
    (lambda sim: (sim.qpos, 0.0, sim.qpos > 0), 'terminated has shape (9,)'),
    (lambda sim: (sim.qpos, 0.0, 0.0, {'near': sim.qvel}), 'near has shape'),
    (lambda sim: (sim.qpos, float('inf')), 'inf is not finite'),
    (lambda sim: ([], 0.0), 'is empty'),
  ],
)
def test_definition_is_checked_where_it_is_written(tmp_path, arguments, text):
  def define(sim):
    return Definition(*arguments(sim))  # this line

  message = _error(tmp_path, define)
  line = define.__code__.co_firstlineno + 1
  assert message.startswith(f'{__file__}:{line}: ')
  assert text in message


def test_define_must_return_a_definition(tmp_path):
  assert 'returned None; return a Def' in _error(tmp_path, lambda sim: None)
  assert 'is a str, not a function' in _error(tmp_path, 'hopper')


@pytest.mark.parametrize('name', ['frame_skip', 'time_limit'])
def test_counts_below_one(tmp_path, name):
  message = _error(tmp_path, worlds.observe, **{name: 0})
  assert f'test: {name}=0 is outside [1, ' in message


def test_missing_model():
  task = Task('lost', 'no/such.xml', 1, 1, worlds.observe, uniform_reset(0, 0))
  with pytest.raises(UserError, match=r'no/such\.xml: no such MJCF file'):
    compile_task(task)


@pytest.mark.parametrize(
  ('xml', 'text'),
  [
    ('<mujoco><worldbody><body></mujoco>', 'XML'),
    ('<mujoco><worldboddy/></mujoco>', 'worldboddy'),
    ('<mujoco><worldbody/></mujoco>', 'no actuators'),
  ],
)
def test_unreadable_model(tmp_path, xml, text):
  message = _error(tmp_path, worlds.observe, xml=xml)
  assert message.startswith(os.path.join(tmp_path, 'model.xml'))
  assert text in message


def _outputs(tmp_path, make):
  """The native value of an observation after one env step, and the slots."""
  compiled = worlds.make(tmp_path, define=_define(make))
  slots = worlds.slots(compiled, 1, threads=1)
  arrays = slots.new_arrays(1, details=True)
  slots.rollout(arrays, worlds.Resets(compiled))
  return arrays['task_outputs'][0, 0, : compiled.observation_size]


_NAMES = {  # by name; the same by number
  'body': (lambda sim: sim.xpos['pole'], lambda sim: sim.xpos[2]),
  'geom': (lambda sim: sim.geom_xpos['ball'], lambda sim: sim.geom_xpos[3]),
  'site': (lambda sim: sim.site_xpos['tip'], lambda sim: sim.site_xpos[0]),
  'slide': (lambda sim: sim.qpos['slide'], lambda sim: sim.qpos[:1]),
  'free position': (lambda sim: sim.qpos['ball'], lambda sim: sim.qpos[2:]),
  'free velocity': (lambda sim: sim.qvel['ball'], lambda sim: sim.qvel[2:]),
  'hinge velocity': (lambda sim: sim.qvel['hinge'], lambda sim: sim.qvel[1:2]),
  'joint anchor': (
    lambda sim: sim.xanchor['hinge'],
    lambda sim: sim.xanchor[1],
  ),
  'actuator': (lambda sim: sim.ctrl['twist'], lambda sim: sim.ctrl[1]),
  'sensor': (
    lambda sim: lang.concatenate(
      sim.sensordata['tip'], sim.sensordata['slide']
    ),
    lambda sim: sim.sensordata,
  ),
}


@pytest.mark.parametrize('kind', _NAMES)
def test_rows_by_name(tmp_path, kind):
  by_name, by_number = _NAMES[kind]
  got, want = _outputs(tmp_path, by_name), _outputs(tmp_path, by_number)
  np.testing.assert_array_equal(got, want)
  assert got.any() or kind == 'actuator'


_ACTUATORS = """
<mujoco><worldbody>
  <body>
    <joint name="ball" type="ball"/><geom size=".1" pos="0 0 -1"/>
  </body>
  <body pos="1 0 0">
    <joint name="hinge"/><geom size=".1" pos="0 0 -1"/>
  </body>
</worldbody><actuator>
  <dcmotor name="brake" joint="hinge" motorconst=".05" resistance="2"
    input="none"/>
  <pid name="servo" joint="hinge" kp="10" kv="1"/>
  <orientation name="wrist" joint="ball" kp="1"/>
  <motor name="motor" joint="hinge"/>
</actuator></mujoco>
"""


@pytest.mark.parametrize('name', ['brake', 'servo', 'wrist', 'motor'])
def test_rows_of_actuators_with_several_controls_and_outputs(name):
  model = mujoco.MjModel.from_xml_string(_ACTUATORS)
  data = mujoco.MjData(model)
  for field in ('ctrl', 'actuator_force', 'actuator_length'):
    getattr(data, field)[:] = np.arange(getattr(data, field).size)
    want = getattr(data.actuator(name), field.removeprefix('actuator_'))
    symbol = getattr(simulation.Simulation(model, 1), field)
    if not np.size(want):
      with pytest.raises(UserError, match="'brake'.: .* has no control"):
        symbol[name]
      continue
    got = symbol[name]
    assert got.shape == (np.shape(want) if np.size(want) > 1 else ())
    _, start, stride = got.data
    rows = start + stride * np.arange(np.size(want))
    np.testing.assert_array_equal(rows, want)


def test_a_constant_is_a_copy(tmp_path):
  def make(sim):
    weights, parts = np.zeros(9), []
    for i in range(2):
      weights[:] = np.arange(9) == i
      parts.append(lang.total(weights * sim.qpos))
    return lang.concatenate(*parts)

  got = _outputs(tmp_path, make)
  np.testing.assert_array_equal(got, _outputs(tmp_path, lambda s: s.qpos[:2]))


@pytest.mark.parametrize(
  'make',
  [
    lambda bad, x: lang.minimum(bad, x),
    lambda bad, x: lang.minimum(x, bad),
    lambda bad, x: lang.maximum(bad, x),
    lambda bad, x: lang.maximum(x, bad),
    lambda bad, x: lang.clip(bad, x, x + 1),
    lambda bad, x: lang.clip(x, bad, x + 1),
    lambda bad, x: lang.clip(x, x - 1, bad),
  ],
)
def test_nan_passes_through_bounds(tmp_path, make):
  def define(sim):
    x = sim.qpos[0]
    bad = lang.sqrt(-1.0 - x * x)
    return Definition(sim.qpos, lang.where(sim.time > 0, make(bad, x), 0.0))

  compiled = worlds.make(tmp_path, define=define)
  slots = worlds.slots(compiled, 1, threads=1)
  with pytest.raises(UserError, match='square root of the negative number'):
    slots.rollout(slots.new_arrays(1), worlds.Resets(compiled))


def test_expressions_unpack(tmp_path):
  def make(sim):
    x, y, z = sim.xpos['ball']
    return lang.concatenate(z, y, x, sum(sim.qpos[:2]))

  got = _outputs(tmp_path, make)
  want = _outputs(
    tmp_path,
    lambda sim: lang.concatenate(
      sim.xpos['ball'][::-1], sim.qpos[0] + sim.qpos[1]
    ),
  )
  np.testing.assert_array_equal(got, want)


def test_expressions_know_where_they_are_written(tmp_path):
  made = []

  def make(sim):
    made.append(sim.qpos)
    made.append(sim.qpos[2])
    made.append(lang.norm(sim.qpos) / 2)
    made.append(lang.constant(2.0) ** sim.time)
    return made[-1]

  _outputs(tmp_path, make)
  first = make.__code__.co_firstlineno + 1
  assert [x.place for x in made] == [(__file__, first + i) for i in range(4)]


def test_an_expression_used_twice_is_computed_once(tmp_path):
  def define(sim):
    x = lang.sin(sim.qpos)
    return Definition(x + x, lang.total(x))

  code = worlds.make(tmp_path, define=define).program.code
  assert len({tuple(row) for row in code}) == len(code)
  assert (code[:, 0] == OPS.index('sin')).sum() == 1


def test_expressions_are_values():
  fields = {f.name for f in dataclasses.fields(lang.Expression)}
  assert fields == {'op', 'shape', 'inputs', 'data', 'place'}
  x = lang.constant(1.0)
  with pytest.raises(dataclasses.FrozenInstanceError):
    x.shape = (2,)
  assert len({x, x, lang.constant(1.0)}) == 2
  for _ in range(100):  # what is written once has a short text
    x = x + x
  assert len(repr(x)) < 100


def test_automatic_reset_is_off(tmp_path):
  flags = worlds.make(tmp_path).model.opt.disableflags
  assert flags & mujoco.mjtDisableBit.mjDSBL_AUTORESET
