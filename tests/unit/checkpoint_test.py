"""Checkpoints come back bit for bit, and never leave a run without one."""

import errno
import gc
import hashlib
import io
import os
import weakref

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trpo_tf import errors
from trpo_tf.experiment import checkpoint

_LEAVES = st.one_of(
  st.none(),
  st.booleans(),
  st.integers(),
  st.floats(allow_nan=False),
  st.text(),
  hnp.arrays(
    st.sampled_from(['f4', 'f8', 'i4', 'i8', 'u1', '?']),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
  ),
  hnp.arrays('f4', ()).map(lambda a: a[()]),
  hnp.arrays('u8', ()).map(lambda a: a[()]),
)
_STATES = st.dictionaries(
  st.text(max_size=5),
  st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
      st.lists(inner, max_size=3),
      st.dictionaries(st.text(max_size=5), inner, max_size=3),
    ),
    max_leaves=8,
  ),
  max_size=4,
)


def _assert_same(actual, expected):
  assert type(actual) is type(expected)
  if isinstance(expected, dict):
    assert list(actual) == list(expected)
    for key in expected:
      _assert_same(actual[key], expected[key])
  elif isinstance(expected, list):
    assert len(actual) == len(expected)
    for pair in zip(actual, expected, strict=True):
      _assert_same(*pair)
  elif isinstance(expected, np.ndarray | np.generic):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.tobytes() == expected.tobytes()
  else:
    assert repr(actual) == repr(expected)  # tells -0.0 from 0.0


def _state(number):
  return {'theta': np.full(7, number, np.float32), 'number': number}


@hypothesis.given(state=_STATES)
@hypothesis.settings(deadline=None, max_examples=60, derandomize=True)
def test_round_trip_is_bitwise(tmp_path_factory, state):
  directory = tmp_path_factory.mktemp('checkpoints')
  checkpoint.save(directory, 5, state, keep=1)
  loaded = checkpoint.load_newest(directory)
  assert loaded.iteration == 5
  assert loaded.damaged == ()
  _assert_same(loaded.state, state)


def test_non_finite_numbers_come_back(tmp_path):
  state = {
    'list': [float('inf'), -float('inf')],
    'array': np.array([np.nan, -np.inf, -0.0], np.float32),
    'nan': float('nan'),
  }
  checkpoint.save(tmp_path, 1, state, keep=1)
  _assert_same(checkpoint.load_newest(tmp_path).state, state)


def test_equal_states_are_equal_files(tmp_path):
  rows = np.arange(12.0).reshape(3, 4)
  first = checkpoint.save(tmp_path / 'a', 1, {'x': rows}, keep=1)
  columns = np.asfortranarray(rows)
  second = checkpoint.save(tmp_path / 'b', 1, {'x': columns}, keep=1)
  assert first.read_bytes() == second.read_bytes()


def test_keeps_the_newest(tmp_path):
  for number in (8, 9, 10, 11):
    checkpoint.save(tmp_path, number, _state(number), keep=2)
  assert sorted(os.listdir(tmp_path)) == [
    'iteration_00000010.npz',
    'iteration_00000011.npz',
  ]
  assert checkpoint.load_newest(tmp_path).state['number'] == 11


def test_no_checkpoint(tmp_path):
  assert checkpoint.load_newest(tmp_path) is None
  assert checkpoint.load_newest(tmp_path / 'missing') is None


def _flip_one_bit(content):
  return content[:300] + bytes([content[300] ^ 1]) + content[301:]


@pytest.mark.parametrize(
  'damage', [_flip_one_bit, lambda b: b[:-1], lambda b: b[:50], lambda b: b'']
)
def test_damaged_newest_falls_back(tmp_path, damage):
  checkpoint.save(tmp_path, 1, _state(1), keep=3)
  newest = checkpoint.save(tmp_path, 2, _state(2), keep=3)
  newest.write_bytes(damage(newest.read_bytes()))
  loaded = checkpoint.load_newest(tmp_path)
  assert loaded.iteration == 1
  assert [damage.path for damage in loaded.damaged] == [newest]
  assert loaded.damaged[0].reason == 'its checksum is wrong'
  _assert_same(loaded.state, _state(1))


def test_saving_behind_a_damaged_one_keeps_the_new_one(tmp_path):
  checkpoint.save(tmp_path, 1, _state(1), keep=1)
  (tmp_path / 'iteration_00000009.npz').write_bytes(b'damaged')
  checkpoint.save(tmp_path, 2, _state(2), keep=1)
  loaded = checkpoint.load_newest(tmp_path)
  assert (loaded.iteration, loaded.damaged) == (2, ())


def test_all_damaged_is_an_error_and_deletes_nothing(tmp_path):
  path = checkpoint.save(tmp_path, 1, _state(1), keep=1)
  path.write_bytes(b'')
  with pytest.raises(errors.UserError, match='none of the 1 checkpoints'):
    checkpoint.load_newest(tmp_path)
  assert path.exists()


@pytest.mark.parametrize('call', ['fsync', 'replace'])
def test_full_disk_leaves_the_earlier_ones(tmp_path, monkeypatch, call):
  checkpoint.save(tmp_path, 1, _state(1), keep=1)
  before = sorted(os.listdir(tmp_path))

  def full(*unused_args):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(os, call, full)
  with pytest.raises(OSError, match='No space left'):
    checkpoint.save(tmp_path, 2, _state(2), keep=1)
  assert sorted(os.listdir(tmp_path)) == before
  assert checkpoint.load_newest(tmp_path).state['number'] == 1


def test_partial_file_of_a_killed_process_is_ignored_and_deleted(tmp_path):
  checkpoint.save(tmp_path, 1, _state(1), keep=1)
  (tmp_path / 'iteration_00000002.npz.tmp').write_bytes(b'half')
  assert checkpoint.load_newest(tmp_path).iteration == 1
  checkpoint.save(tmp_path, 3, _state(3), keep=1)
  assert os.listdir(tmp_path) == ['iteration_00000003.npz']


def test_refuses_what_it_cannot_hold(tmp_path):
  with pytest.raises(ValueError, match=r'state\.a\[1\] is a tuple'):
    checkpoint.save(tmp_path, 1, {'a': [1, (2, 3)]}, keep=1)
  with pytest.raises(ValueError, match=r'state\.o is a ndarray'):
    checkpoint.save(tmp_path, 1, {'o': np.array([None])}, keep=1)
  with pytest.raises(ValueError, match='keep=0'):
    checkpoint.save(tmp_path, 1, {}, keep=0)
  assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
  'name',
  [
    'iteration_best.npz',
    'iteration_00000017 (copy).npz',
    'iteration_17.npz',
    'iteration_000000017.npz',
    'iteration_best.npz.tmp',
    'iteration_00000017.npz.bak',
  ],
)
def test_foreign_names_are_left_alone(tmp_path, name):
  foreign = tmp_path / name
  foreign.write_bytes(b'mine')
  assert checkpoint.load_newest(tmp_path) is None
  assert checkpoint.newest_iteration(tmp_path) == 0
  for number in (1, 2):
    checkpoint.save(tmp_path, number, _state(number), keep=1)
  assert checkpoint.load_newest(tmp_path).iteration == 2
  assert foreign.read_bytes() == b'mine'
  assert len(os.listdir(tmp_path)) == 2


def test_what_is_no_file_is_left_alone(tmp_path):
  (tmp_path / 'iteration_00000007.npz').mkdir()
  (tmp_path / 'iteration_00000008.npz').symlink_to(tmp_path / 'nowhere')
  (tmp_path / 'iteration_00000009.npz.tmp').mkdir()
  for number in (1, 2):
    checkpoint.save(tmp_path, number, _state(number), keep=1)
  assert checkpoint.load_newest(tmp_path).iteration == 2
  assert len(os.listdir(tmp_path)) == 4


def _sealed(body):
  return body + hashlib.sha256(body).digest()


def _archive(tree, compressed=False, **arrays):
  buffer = io.BytesIO()
  save = np.savez_compressed if compressed else np.savez
  save(buffer, tree=np.frombuffer(tree, np.uint8), **arrays)
  return buffer.getvalue()


@pytest.mark.parametrize(
  ('body', 'words'),
  [
    (b'', 'it holds no state: BadZipFile'),
    (b'PK\x05\x06' + bytes(18), 'KeyError'),
    (_archive(b'[1]'), 'not a dict'),
    (_archive(b'{"a": {"__array__": "gone"}}'), 'KeyError'),
    (_archive(b'{"a": {"__array__": [1]}}'), 'it holds no state'),
    (_archive(b'[' * 100_000), 'RecursionError'),
    (_archive(b'\xff'), 'it holds no state'),
    (_archive(b'{}', a=np.array([None])), ''),
    (
      _archive(b'{"a": {"__array__": "a"}}', a=np.array([None])),
      'allow_pickle',
    ),
    (_archive(b'{}', True, a=np.zeros(10**6)), 'compressed'),
    (_archive(b'{"iteration": 1}'), 'it holds iteration 1'),
  ],
)
def test_a_right_checksum_of_something_else(tmp_path, body, words):
  checkpoint.save(tmp_path, 1, _state(1), keep=3)
  (tmp_path / 'iteration_00000002.npz').write_bytes(_sealed(body))
  loaded = checkpoint.load_newest(tmp_path)
  if not words:  # an array that the tree does not name is never read
    assert (loaded.iteration, loaded.state) == (2, {})
    return
  assert loaded.iteration == 1
  assert words in loaded.damaged[0].reason
  assert '\n' not in loaded.damaged[0].reason


def test_a_state_that_is_not_accepted_is_skipped(tmp_path):
  for number in (1, 2, 3):
    checkpoint.save(tmp_path, number, _state(number), keep=3)
  tried = []

  def accept(saved, bad=(2, 3)):
    tried.append(saved.iteration)
    if saved.state['number'] in bad:
      raise ValueError(f'number is {saved.state["number"]}')

  loaded = checkpoint.load_newest(tmp_path, accept)
  assert (loaded.iteration, tried) == (1, [3, 2, 1])
  assert [str(d) for d in loaded.damaged] == [
    'iteration_00000003.npz cannot be used (number is 3)',
    'iteration_00000002.npz cannot be used (number is 2)',
  ]
  with pytest.raises(errors.UserError, match='none of the 3 .*number is 3'):
    checkpoint.load_newest(tmp_path, lambda saved: accept(saved, (1, 2, 3)))
  assert len(os.listdir(tmp_path)) == 3


def test_a_task_that_fails_is_no_fault_of_the_newest_checkpoint(tmp_path):
  for number in (1, 2):
    checkpoint.save(tmp_path, number, _state(number), keep=3)

  def accept(saved):
    raise errors.TaskError(f'no network at {saved.iteration}')

  with pytest.raises(errors.TaskError, match='^no network at 2$'):
    checkpoint.load_newest(tmp_path, accept)

  def misses(saved):
    raise FileNotFoundError('a file of the task')

  with pytest.raises(FileNotFoundError, match='a file of the task'):
    checkpoint.load_newest(tmp_path, misses)


def test_a_reader_finds_what_a_running_training_has_just_saved(
  tmp_path, monkeypatch
):
  checkpoint.save(tmp_path, 1, _state(1), keep=1)
  read, calls = checkpoint._read, []

  def late(path):
    if not calls:  # the run saves again after the reader listed its files
      checkpoint.save(tmp_path, 2, _state(2), keep=1)
    calls.append(path.name)
    return read(path)

  monkeypatch.setattr(checkpoint, '_read', late)
  assert checkpoint.load_newest(tmp_path).iteration == 2
  assert calls == ['iteration_00000001.npz', 'iteration_00000002.npz']


def test_a_saved_state_is_freed_at_once(tmp_path):
  """In a cycle of references it would wait for the garbage collector.

  One collection in many looks at old objects, so the memory of a run rose.
  """
  state = {'x': np.zeros(3)}
  freed = weakref.ref(state['x'])
  gc.disable()
  try:
    checkpoint.save(tmp_path, 1, state, keep=1)
    del state
    assert freed() is None
  finally:
    gc.enable()
