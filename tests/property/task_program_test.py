"""Random expressions: the native program computes what NumPy computes.

Every comparison is exact: the oracle calls libm for sin, exp and the like, as
the program does. Their distance from NumPy's own is tested apart.
"""

import hypothesis
import numpy as np
import pytest
import worlds
from hypothesis import strategies as st
from oracle import Slots

from trpo_tf.tasks import language as lang
from trpo_tf.tasks.task import Definition

_FIELDS = (
  'qpos',
  'qvel',
  'ctrl',
  'xpos',
  'xquat',
  'xmat',
  'cvel',
  'cfrc_ext',
  'subtree_linvel',
  'site_xpos',
  'sensordata',
  'qfrc_bias',
)
_UNARY = (
  abs,
  lang.sin,
  lang.cos,
  lang.exp,
  lang.log,
  lang.tanh,
  lang.square,
  lang.sqrt,
  lambda x: -x,
  lambda x: ~x,
)
_BINARY = (
  lambda x, y: x + y,
  lambda x, y: x - y,
  lambda x, y: x * y,
  lambda x, y: x / y,
  lambda x, y: x < y,
  lambda x, y: x <= y,
  lambda x, y: x > y,
  lambda x, y: x >= y,
  lambda x, y: x & y,
  lambda x, y: x | y,
  lang.minimum,
  lang.maximum,
  lang.atan2,
  lang.power,
  lambda x, y: x**y,
)
_REDUCTIONS = (lang.total, lang.norm, lang.every, lang.all_finite)
_NUMBERS = st.one_of(
  st.sampled_from([0.0, 1.0, -1.0, 0.5]),
  st.floats(-100, 100, allow_nan=False, width=32),
)


def _indices(draw, size):
  """An index into an axis: a number, a slice of any stride, or a list."""
  kind = draw(st.sampled_from(['number', 'slice', 'list']))
  if kind == 'number':
    return draw(st.integers(-size, size - 1))
  if kind == 'list':
    return draw(st.lists(st.integers(-size, size - 1), min_size=1, max_size=6))
  key = draw(st.slices(size))
  return key if len(range(size)[key]) else slice(None, None, -1)


def _like(draw, values, shape):
  """A value that fits `shape`: one of that shape, a scalar or a constant."""
  fitting = [v for v in values if v.shape == shape or v.size == 1]
  if fitting and draw(st.booleans()):
    return draw(st.sampled_from(fitting))
  if draw(st.booleans()):
    return draw(_NUMBERS)
  size = int(np.prod(shape, dtype=int))
  numbers = st.lists(_NUMBERS, min_size=size, max_size=size)
  return np.array(draw(numbers)).reshape(shape)


def _grow(draw, values):
  """One more expression, most often over the newest ones."""
  x = draw(st.one_of(st.sampled_from(values[-3:]), st.sampled_from(values)))
  kind = draw(
    st.sampled_from(
      [
        'unary',
        'binary',
        'binary',
        'ternary',
        'index',
        'index',
        'reduce',
        'concatenate',
        'prev',
        'prev',
        'weighted_sum',
      ]
    )
  )
  if kind == 'unary':
    return draw(st.sampled_from(_UNARY))(x)
  if kind == 'binary':
    pair = [x, _like(draw, values, x.shape)]
    if draw(st.booleans()):
      pair.reverse()
    return draw(st.sampled_from(_BINARY))(*pair)
  if kind == 'ternary':
    op = draw(st.sampled_from([lang.clip, lang.where]))
    return op(x, *(_like(draw, values, x.shape) for _ in range(2)))
  if kind == 'index' and x.shape:
    axes = draw(st.integers(1, len(x.shape)))
    keys = [_indices(draw, n) for n in x.shape[:axes]]
    lists = [i for i, key in enumerate(keys) if isinstance(key, list)]
    for i in lists[1:]:  # two lists would have to be equally long
      keys[i] = slice(None)
    return x[tuple(keys)]
  if kind == 'reduce':
    return draw(st.sampled_from(_REDUCTIONS))(x)
  if kind == 'concatenate':
    return lang.concatenate(
      *draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    )
  if kind == 'weighted_sum':
    tables = [v for v in values if len(v.shape) == 2]
    if tables:
      rows = draw(st.sampled_from(tables[-3:]))
      numbers = st.lists(
        _NUMBERS, min_size=rows.shape[0], max_size=rows.shape[0]
      )
      return lang.weighted_sum(np.array(draw(numbers)), rows)
  return lang.prev(x)


def _define(draw):
  """A task's `define` with a random graph; its elements are the terms."""

  def define(sim):
    values = [getattr(sim, name) for name in _FIELDS]
    values += [sim.action, sim.time]
    fields = len(values)
    for _ in range(draw(st.integers(4, 14))):
      value = _grow(draw, values)
      if value.size <= 200:
        values.append(value)
    elements = [
      v[np.unravel_index(i, v.shape)] if v.shape else v
      for v in values[fields:]
      for i in range(min(v.size, 12))
    ]
    state = lang.concatenate(sim.qpos, sim.qvel, lang.prev(sim.action))
    return Definition(
      state,
      lang.prev(sim.qpos[0]),
      sim.qpos[1] > 0.2,
      {f'element {i}': x for i, x in enumerate(elements)},
    )

  return define


def _actions(compiled, slots, steps):
  shape = (slots, steps, compiled.action_size)
  return np.random.default_rng(0).uniform(-2, 2, shape)


def _run_both(compiled, slots=1, steps=7):
  native = worlds.slots(compiled, slots, threads=1)
  arrays = native.new_arrays(steps, details=True)
  arrays['actions'][:] = _actions(compiled, slots, steps)
  resets = worlds.Resets(compiled)
  assert not native.rollout(arrays, resets)
  return arrays, Slots(compiled, slots).rollout(arrays['actions'], resets)


@pytest.mark.slow
@hypothesis.settings(
  max_examples=100,
  deadline=None,
  derandomize=True,
  database=None,
  suppress_health_check=list(hypothesis.HealthCheck),
  phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
)
@hypothesis.given(st.data())
def test_random_graph(tmp_path_factory, data):
  directory = tmp_path_factory.getbasetemp()
  compiled = worlds.make(directory, define=_define(data.draw), time_limit=4)
  native, expected = _run_both(compiled)
  for name in ('task_outputs', 'observations', 'rewards', 'ends'):
    np.testing.assert_array_equal(native[name], expected[name], name)


def test_prev_of_prev(tmp_path):
  """prev(prev(x)) is x two steps before, whatever lies between."""

  def define(sim):
    x = sim.qpos[:2]
    return Definition(
      lang.concatenate(
        x,
        lang.prev(x),
        lang.prev(lang.prev(x)),
        lang.prev(lang.prev(lang.prev(x))[::-1]),
      ),
      lang.prev(x[0] - lang.prev(x[0])),
    )

  compiled = worlds.make(tmp_path, define=define, time_limit=100)
  arrays, expected = _run_both(compiled, 1, 8)
  outputs = arrays['task_outputs'][0, :, :8]
  start = arrays['observations'][0, 0]
  np.testing.assert_array_equal(
    start, np.r_[[start[:2]] * 3, [start[1::-1]]].ravel()
  )
  np.testing.assert_array_equal(outputs[2:, 4:6], outputs[:-2, :2])
  np.testing.assert_array_equal(outputs[3:, 6:8], outputs[:-3, 1::-1])
  np.testing.assert_array_equal(
    arrays['rewards'][0, 2:], outputs[1:-1, 0] - outputs[:-2, 0]
  )
  np.testing.assert_array_equal(
    arrays['task_outputs'], expected['task_outputs']
  )


def test_weighted_sum_of_strided_rows(tmp_path):
  def define(sim):
    rows = 2.0 * sim.xpos
    column = lang.weighted_sum(sim.model.body_mass, rows[:, 1:2])
    flipped = lang.weighted_sum(sim.model.body_mass, rows[::-1, ::-1])
    return Definition(lang.concatenate(column, flipped), 0.0)

  compiled = worlds.make(tmp_path, define=define)
  arrays, expected = _run_both(compiled)
  np.testing.assert_array_equal(
    arrays['task_outputs'], expected['task_outputs']
  )


@pytest.mark.parametrize('size', [1, 7, 8, 9, 31, 128, 129, 300, 1025])
def test_total_adds_in_numpys_order(tmp_path, size):
  values = np.random.default_rng(size).standard_normal(size) * 1e3

  def define(sim):
    x = sim.qpos[0] * values
    return Definition(lang.concatenate(lang.total(x), x), 0.0)

  compiled = worlds.make(tmp_path, define=define)
  arrays, _ = _run_both(compiled, 1, 3)
  out = arrays['task_outputs'][0]
  for step in out:
    assert step[0] == np.sum(np.ascontiguousarray(step[1 : size + 1]))


def test_functions_are_near_numpys(tmp_path):
  def define(sim):
    x = 100.0 * lang.concatenate(sim.qpos, sim.qvel, sim.xmat)
    y = 0.01 * x
    return Definition(
      lang.concatenate(
        x,
        lang.sin(x),
        lang.cos(x),
        lang.exp(y),
        lang.tanh(y),
        lang.log(1 + abs(x)),
        lang.atan2(x, y[::-1]),
        (1 + abs(x)) ** y,
        lang.sqrt(abs(x)),
        lang.norm(x),
      ),
      0.0,
    )

  compiled = worlds.make(tmp_path, define=define)
  arrays, _ = _run_both(compiled, 1, 6)
  for step in arrays['task_outputs'][0]:
    size = (len(step) - 3) // 9
    x, sin, cos, exp, tanh, log, angle, power, root = step[: 9 * size].reshape(
      9, size
    )
    y = 0.01 * x
    for got, want, ulp in (
      (sin, np.sin(x), 1),
      (cos, np.cos(x), 1),
      (exp, np.exp(y), 1),
      (tanh, np.tanh(y), 3),
      (log, np.log(1 + np.abs(x)), 1),
      (angle, np.arctan2(x, y[::-1]), 1),
      (power, (1 + np.abs(x)) ** y, 1),
    ):
      np.testing.assert_array_max_ulp(got, want, ulp)
    np.testing.assert_array_equal(root, np.sqrt(np.abs(x)))
    # n products and n sums, each rounded once, under a square root
    np.testing.assert_allclose(
      step[9 * size], np.linalg.norm(x), rtol=size * np.finfo(float).eps
    )


_INF, _NAN = np.inf, np.nan


def _values(tmp_path, make):
  """What expressions are in one step, as NumPy has them; they may be NaN."""
  compiled = worlds.make(
    tmp_path,
    define=lambda sim: Definition(
      sim.qpos, 0.0, terms={str(i): x for i, x in enumerate(make(sim))}
    ),
  )
  arrays, expected = _run_both(compiled, 1, 1)
  outputs = arrays['task_outputs'][0, 0]
  np.testing.assert_array_equal(outputs, expected['task_outputs'][0, 0])
  return outputs[compiled.observation_size + 2 :]


def test_functions_at_the_ends_of_their_ranges(tmp_path):
  """Not what Python's math does, which raises errors."""
  cases = [
    (lang.log, (0.0,), -_INF),
    (lang.log, (-1.0,), _NAN),
    (lang.tanh, (1e300,), 1.0),
    (lang.atan2, (0.0, -1.0), np.pi),
    (lang.atan2, (-0.0, -1.0), -np.pi),
    (lang.atan2, (0.0, 0.0), 0.0),
    (lang.power, (0.0, 0.0), 1.0),
    (lang.power, (0.0, -1.0), _INF),
    (lang.power, (-0.0, -1.0), -_INF),
    (lang.power, (-8.0, 1 / 3), _NAN),
    (lang.power, (-10.0, 401.0), -_INF),
    (lang.exp, (1e3,), _INF),
  ]
  got = _values(tmp_path, lambda sim: [f(*x) for f, x, _ in cases])
  np.testing.assert_array_equal(got, [want for *_, want in cases])


def test_power_is_an_operator(tmp_path):
  def make(sim):
    x = 1 + abs(sim.qpos[0])
    return [x, x**3, 3**x, x ** (2 * x), x**0.5]

  x, *powers = _values(tmp_path, make)
  expected = [x**3, 3**x, x ** (2 * x), np.sqrt(x)]
  np.testing.assert_array_max_ulp(powers, np.array(expected), 1)


def test_time_is_that_of_the_simulator(tmp_path):
  """It begins anew in each episode, and goes on where a state is restored."""

  def define(sim):
    passed = lang.prev(sim.time)
    return Definition(lang.concatenate(sim.time, passed), sim.time)

  compiled = worlds.make(tmp_path, define=define, time_limit=5)
  arrays, expected = _run_both(compiled, 2, 12)
  assert arrays['ends'].any()
  np.testing.assert_array_equal(
    arrays['task_outputs'], expected['task_outputs']
  )
  step = 0.02 * (1 + arrays['timesteps'])
  np.testing.assert_allclose(arrays['rewards'], step, rtol=1e-14)
  slots = worlds.slots(compiled, 2)
  slots.rollout(slots.new_arrays(3), worlds.Resets(compiled))
  other = worlds.slots(compiled, 2)
  other.restore(slots.state())
  found = other.new_arrays(2)
  other.rollout(found, worlds.Resets(compiled))
  np.testing.assert_array_equal(found['rewards'], arrays['rewards'][:, 3:5])
