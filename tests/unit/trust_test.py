"""Code that run.json names runs only if this user made the run, or agrees."""

import json
import os
import pathlib
import shutil
import sys

import pytest

from trpo_tf import config
from trpo_tf.errors import UserError
from trpo_tf.experiment import run_directory, saved_runs, sinks, trust
from trpo_tf.methods.record import IterationRecord
from trpo_tf.tasks import registry

_CODE = 'import pathlib\npathlib.Path("it_ran").touch()\n'


@pytest.fixture
def world(tmp_path, monkeypatch):
  """A working directory with a task of code and a home of its own."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('XDG_STATE_HOME', str(tmp_path / 'state'))
  (tmp_path / 'task.py').write_text(_CODE)
  return tmp_path


def _make(run_dir='run', task='task.py:T', policy=''):
  settings = config.from_settings(
    dict(run_dir=str(run_dir), task=task, policy=policy)
  )
  with run_directory.RunDirectory.open(settings) as run:
    run.begin()


def _read(run_dir='run', trust_task=False):
  return saved_runs.read_trusted(run_dir, trust_task)


def _assert_asks(run_dir='run', words='add --trust_task'):
  with pytest.raises(UserError) as error:
    _read(run_dir)
  text = str(error.value)
  assert words in text and 'add --trust_task' in text and '\n' not in text
  assert not pathlib.Path('it_ran').exists()


@pytest.mark.parametrize('task', ['task.py:T', 'some.module:Id-v0', 'a:b:c'])
def test_my_own_runs_are_trusted(world, task):
  _make(task=task)
  assert _read().task.task == task
  key = world / 'state' / 'trpo_tf' / 'key'
  assert key.stat().st_mode & 0o777 == 0o600 and key.stat().st_size == 32
  assert os.listdir(key.parent) == ['key']


@pytest.mark.parametrize('task', ['task.py:T', 'some.module:Id-v0'])
def test_a_stranger_asks(world, monkeypatch, task):
  _make(task=task)
  monkeypatch.setenv('XDG_STATE_HOME', str(world / 'another'))
  _assert_asks(words=f'run/run.json names a task, {task}, that may run Python')
  assert _read(trust_task=True).task.task == task


@pytest.mark.parametrize('policy', ['task.py:net', 'some.module:net'])
def test_a_policy_of_a_stranger_asks(world, monkeypatch, policy):
  _make(task='CartPole-v1', policy=policy)
  assert _read().policy.policy == policy
  monkeypatch.setenv('XDG_STATE_HOME', str(world / 'another'))
  _assert_asks(words=f'a policy, {policy}, that may run Python code, and')
  assert _read(trust_task=True).policy.policy == policy


@pytest.mark.parametrize('task', ['task.py:T', 'CartPole-v1'])
def test_a_changed_file_of_a_policy_asks(world, task):
  folder = world / 'atari'  # the name of a task would be a game's
  folder.mkdir()
  (folder / 'net.py').write_text('# a network\n')
  _make(task=task, policy='atari/net.py:net')
  _read()
  (folder / 'net.py').write_text(_CODE)
  _assert_asks(words='not of this user and this state of the file')


def test_a_missing_file_is_named(world):
  (world / 'net.py').write_text(_CODE)
  _make(policy='net.py:net')
  (world / 'net.py').rename(world / 'moved.py')
  with pytest.raises(UserError, match='net.py:net, and there is no such file'):
    _read()


def test_a_resume_after_an_edit_is_reported(world):
  settings = config.from_settings(dict(run_dir='run', task='task.py:T'))

  def opened(**resolved):
    with run_directory.RunDirectory.open(settings, resolved) as run:
      run.begin()
      sink = sinks.CsvSink(run.progress_csv, None)
      if not run.resumed:
        sink.write(sinks.Entry(IterationRecord(1, env_steps=9)))
      sink.close()
      return ' '.join(run.messages)

  assert opened(fingerprint='a') == opened(fingerprint='a') == ''
  (world / 'task.py').write_text(_CODE + '\n')
  message = opened(fingerprint='a')
  assert 'changed since this run was last started: the content of' in message
  assert 'content of task.py:T. The run continues' in message
  assert opened(fingerprint='a') == ''
  assert 'content of task.py:T with its model. ' in opened(fingerprint='b')


def test_a_run_of_an_older_version_asks(world):
  _make()
  path = world / 'run' / 'run.json'
  record = json.loads(path.read_text())
  del record['signature']
  path.write_text(json.dumps(record))
  _assert_asks(words='no signature that shows that you made it here')


def test_a_changed_file_or_setting_asks(world):
  _make()
  (world / 'task.py').write_text(_CODE + '# and more\n')
  _assert_asks(words='not of this user and this state of the file')
  (world / 'task.py').write_text(_CODE)
  _read()
  (world / 'other.py').write_text(_CODE)
  path = world / 'run' / 'run.json'
  path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
  _assert_asks()


def test_a_run_that_moves_with_its_file_is_trusted(world, monkeypatch):
  _make()
  other = world / 'other'
  other.mkdir()
  shutil.move(world / 'run', other / 'run')
  shutil.move(world / 'task.py', other / 'task.py')
  monkeypatch.chdir(other)
  _read()


def test_without_a_private_key_it_asks(world, monkeypatch):
  key = world / 'state' / 'trpo_tf' / 'key'
  _make()
  key.chmod(0o644)  # anybody could have signed
  _assert_asks()
  key.chmod(0o600)
  key.write_bytes(b'short')
  _assert_asks()
  monkeypatch.setenv('XDG_STATE_HOME', '/proc/nowhere')
  _make('run2')
  _assert_asks('run2', 'no signature')


def test_a_relative_state_home_is_ignored(world, monkeypatch):
  monkeypatch.setenv('XDG_STATE_HOME', 'relative')
  monkeypatch.setenv('HOME', str(world / 'home'))
  _make()
  assert (world / 'home/.local/state/trpo_tf/key').exists()
  assert not (world / 'relative').exists()
  _read()


@pytest.mark.parametrize(
  'task', ['Hopper-v5', 'CartPole-v1', 'atari/pong', 'paper/hopper']
)
def test_other_tasks_need_no_key(world, task):
  _make(task=task)
  _read()
  assert not (world / 'state').exists()
  assert trust.signature({'task': task}) is None


def test_what_is_code():
  for name in ('a.py:T', 'm:Id-v0', 'm:n:Id', ':Id', 'x/atari:y', 'a.py:'):
    assert registry.is_code(name)
  for name in (*registry.NATIVE_TASKS, 'atari/x:y', 'a.py', 'Id-v0', ''):
    assert not registry.is_code(name)


@pytest.mark.parametrize('name', ['antigravity', 'antigravity.py', 'this/x-v0'])
def test_a_plain_id_imports_nothing(name):
  with pytest.raises(UserError, match='no such task'):
    registry.find_task(name)
  assert not {'antigravity', 'this'} & set(sys.modules)
