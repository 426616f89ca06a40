"""The documented task of a user's own, and the mistakes in loading one."""

import dataclasses
import pathlib
import re

import numpy as np
import pytest
import worlds
from oracle import Slots

from trpo_tf.errors import UserError
from trpo_tf.tasks import gymnasium_v5
from trpo_tf.tasks.registry import find_compiled, find_task
from trpo_tf.tasks.simulation import FIELDS
from trpo_tf.tasks.task import compile_task

_DOCS = pathlib.Path(__file__).parents[2] / 'docs'
_EXAMPLE = _DOCS / 'examples' / 'ball_plate.py'


@pytest.fixture(scope='module')
def compiled():
  return compile_task(find_task(f'{_EXAMPLE}:BALANCE'))


def test_example_is_short_and_stands_in_the_page():
  source = _EXAMPLE.read_text()
  assert len(source.splitlines()) < 35
  assert source in (_DOCS / 'tasks.md').read_text()


def test_page_lists_every_field():
  page = (_DOCS / 'tasks.md').read_text()
  listed = re.search(r'The fields are (.*?)\.\n', page, re.DOTALL).group(1)
  assert set(re.findall(r'\w+', listed)) - {'and'} == set(FIELDS)


def test_second_example_runs_natively(compiled):
  """The definition in the page that reads the time, every bit."""
  page = (_DOCS / 'tasks.md').read_text()
  _, snippet, *_ = re.findall(r'^```python\n(.*?)^```', page, re.DOTALL | re.M)
  names = {}
  exec(snippet, names)
  task = dataclasses.replace(compiled.task, define=names['follow'])
  follow = compile_task(task)
  slots, oracle = worlds.slots(follow, 2), Slots(follow, 2)
  arrays = slots.new_arrays(100, details=True)
  rng = np.random.default_rng(0)
  arrays['actions'][:] = rng.uniform(-0.1, 0.1, arrays['actions'].shape)
  resets = worlds.Resets(follow)
  assert not slots.rollout(arrays, resets)
  want = oracle.rollout(arrays['actions'], resets)
  for name in ('observations', 'rewards', 'ends', 'task_outputs'):
    np.testing.assert_array_equal(arrays[name], want[name], name)
  assert len(np.unique(arrays['rewards'])) > 150


def test_example_runs_natively(compiled):
  """Every bit as the oracle; falls, time limits and both terms occur."""
  slots, oracle = worlds.slots(compiled, 3), Slots(compiled, 3)
  arrays = slots.new_arrays(400, details=True)
  rng = np.random.default_rng(0)
  arrays['actions'][:] = rng.uniform(-2, 2, arrays['actions'].shape)
  arrays['actions'][0, :260] *= 0.01
  resets = worlds.Resets(compiled)
  assert not slots.rollout(arrays, resets)
  want = oracle.rollout(arrays['actions'], resets)
  for name in ('observations', 'rewards', 'ends', 'task_outputs'):
    np.testing.assert_array_equal(arrays[name], want[name], name)
  assert 1 in arrays['ends']
  assert compiled.term_names == ('reward_near', 'reward_effort')
  near, effort = arrays['task_outputs'][..., -2:].reshape(-1, 2).T
  np.testing.assert_array_equal(arrays['rewards'].ravel(), near + effort)
  assert near.max() > 0.9 and near.min() < 0.5 and effort.min() < 0


def test_a_file_is_read_again_once_it_was_edited(tmp_path):
  file, source = tmp_path / 'plate.py', _EXAMPLE.read_text()
  model = _EXAMPLE.with_name('ball_plate.xml').read_text()
  (tmp_path / 'ball_plate.xml').write_text(model)
  found = []
  for skip in (2, 3):
    file.write_text(re.sub(r'frame_skip=\d+', f'frame_skip={skip}', source))
    found.append(find_compiled(f'{file}:BALANCE', 0))
  assert [compiled.task.frame_skip for compiled in found] == [2, 3]
  assert find_compiled('Hopper-v5', 7) is find_compiled('Hopper-v5', 7)
  assert find_compiled('Hopper-v5', 7).task.time_limit == 7
  with pytest.raises(UserError, match=f'did you mean {file}:NAME, the Task'):
    find_compiled(str(file), 0)


def test_example_can_be_solved(compiled):
  """A linear policy that tilts the plate against the ball's offset does."""
  # rows: roll, pitch, offset (x, y, z), plate's rates, ball's velocity
  feedback = np.zeros((10, 2))
  feedback[[0, 5, 3, 8], 0] = -4, -0.3, 5, 3  # y is moved by rolling
  feedback[[1, 6, 2, 7], 1] = -4, -0.3, -5, -3
  rewards, falls = {}, {}
  for name, gains in (('idle', 0 * feedback), ('feedback', feedback)):
    slots = worlds.slots(compiled, 8)
    theta = np.append(gains.ravel(), np.zeros(4)).astype(np.float32)
    arrays = slots.new_arrays(500) | slots.policy_arrays(
      theta[None],
      np.zeros(8, np.int32),
      worlds.identity_normalizer(10),
      np.zeros((8, 500, 2)),
    )
    slots.rollout(arrays, worlds.Resets(compiled))
    rewards[name] = arrays['rewards'].mean()
    falls[name] = (arrays['ends'] == 1).sum()
  assert rewards['idle'] < 0.75 and falls['idle'] > 20
  assert rewards['feedback'] > 0.95 and falls['feedback'] == 0


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('BALANCES', "has no Task called 'BALANCES'; it has BALANCE"),
    ('', 'BALANCE'),
  ],
)
def test_wrong_name_in_the_file(name, text):
  with pytest.raises(UserError) as caught:
    find_task(f'{_EXAMPLE}:{name}')
  assert text in str(caught.value)


def test_missing_file():
  with pytest.raises(UserError, match=r'no/such\.py: no such file'):
    find_task('no/such.py:TASK')


_FILE = """
import sys
import numpy as np
from trpo_tf.tasks.language import square, total
from trpo_tf.tasks.task import Definition, Task, uniform_reset

def define(sim):
  {define}
  return Definition(sim.qpos, 0.0)

def reset(model, rng, n):
  {reset}

TASK = Task({attributes})
"""
_GOOD = dict(
  define='pass',
  reset='return uniform_reset(0.1, 0.1)(model, rng, n)',
  attributes='"ball", MODEL, 2, 20, define, reset',
)
_NEST = 'x = sim.qpos[0]\n  for _ in range(5000): x = square(x)\n  '
# what is changed in the file, and what is said
_MISTAKES = {
  'exit at load': (dict(attributes='sys.exit(0)'), 'py:14: SystemExit: 0'),
  'exit in define': (dict(define='sys.exit()'), 'py:8: SystemExit'),
  'numpy': (
    dict(define='np.clip(sim.qpos[0], 0, 1)'),
    'ball.py:8: an expression has no truth value',
  ),
  'exit in reset': (dict(reset='sys.exit(0)'), 'reset failed: SystemExit: 0'),
  'frame_skip': (
    dict(attributes='"ball", MODEL, "5", 20, define, reset'),
    "py:14: the frame_skip of Task 'ball' is a str, not an integer",
  ),
  'time_limit': (
    dict(attributes='"ball", MODEL, 2, None, define, reset'),
    "the time_limit of Task 'ball' is a NoneType, not an integer",
  ),
  'long': (
    dict(attributes='"ball", MODEL, 2, 2**31, define, reset'),
    'time_limit=2147483648 is outside [1, 2147483647]',
  ),
  'model': (
    dict(attributes='"ball", None, 2, 20, define, reset'),
    "the model_path of Task 'ball' is a NoneType, not a path",
  ),
  'define': (
    dict(attributes='"ball", MODEL, 2, 20, 3, reset'),
    "the define of Task 'ball' is a int, not a function",
  ),
  'name': (
    dict(attributes='7, MODEL, 2, 20, define, reset'),
    'the name of Task 7 is a int, not a string',
  ),
  'objects': (
    dict(reset='return np.full((n, model.nq), None), np.zeros((n, model.nv))'),
    'reset returned numbers of types object and float64',
  ),
  'complex': (
    dict(reset='return np.zeros((n, model.nq), complex), np.zeros((n, 1))'),
    'reset returned numbers of types complex128 and float64',
  ),
  'nested': (
    dict(define=_NEST + 'return Definition(x, 0.0)'),
    'nested too deeply: a sum of many terms is total(concatenate(...))',
  ),
}


def _write(folder, **changes):
  path = folder / 'ball.py'
  model = str(_EXAMPLE.with_name('ball_plate.xml'))
  text = _FILE.format(**_GOOD | changes).replace('MODEL', repr(model))
  path.write_text(text)
  return f'{path}:TASK'


def _compile(task):
  compiled = compile_task(find_task(task))
  return compiled.draw_resets(np.random.default_rng(0), 3)


@pytest.mark.parametrize('name', _MISTAKES)
def test_mistakes_of_a_task_are_one_line(tmp_path, name):
  changes, text = _MISTAKES[name]
  with pytest.raises(UserError) as caught:
    _compile(_write(tmp_path, **changes))
  assert text in str(caught.value)
  assert '\n' not in str(caught.value)


def test_a_scalar_on_either_side_keeps_the_shape():
  """As in NumPy, whatever the number of elements."""
  shapes = []

  def define(sim):
    both = 2 * sim.action, sim.action * 2, sim.action + sim.qpos[0]
    shapes.extend(value.shape for value in both)
    return gymnasium_v5.TASKS['InvertedPendulum-v5'].define(sim)

  task = gymnasium_v5.TASKS['InvertedPendulum-v5']
  compile_task(dataclasses.replace(task, define=define))
  assert shapes == [(1,)] * 3


def test_a_reset_may_return_integers(tmp_path):
  whole = 'return [[0] * model.nq] * n, np.zeros((n, model.nv), int)'
  rows = _compile(_write(tmp_path, reset=whole))
  assert rows.dtype == np.float64 and not rows.any()
