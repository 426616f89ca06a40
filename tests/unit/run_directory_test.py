"""Run directories repeat, resume and protect runs."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from trpo_tf import config, errors
from trpo_tf.experiment import provenance, run_directory, saved_runs
from trpo_tf.methods.record import COLUMNS


def _config(path, **changes):
  return config.from_settings({'run_dir': str(path)} | changes)


def _open(path, **changes):
  run = run_directory.RunDirectory.open(_config(path, **changes))
  run.begin()
  return run


def _worked(path, **changes):
  """A run that has finished an iteration, and is closed."""
  with _open(path, **changes) as run:
    run.progress_csv.write_text(f'{",".join(COLUMNS)}\n1,')


def _files(path):
  return {
    p.relative_to(path): p.read_bytes() for p in path.rglob('*') if p.is_file()
  }


def test_new_run(tmp_path):
  path = tmp_path / 'deep' / 'run'
  with _open(path, seed=3) as run:
    assert (run.resumed, run.messages) == (False, ())
    assert run.path == path
  record = json.loads((path / 'run.json').read_text())
  assert record['settings']['seed'] == 3
  assert record['settings']['hidden_sizes'] == [64, 64]
  assert record['resumes'] == []
  assert {'command', 'argv', 'time', 'versions', 'git', 'host'} <= set(record)
  assert record['versions']['numpy']
  assert record['host']['cores'] >= 1
  assert '--seed=3\n' in (path / 'flags.txt').read_text()
  assert saved_runs.read_config(path) == _config(path, seed=3)


def test_missing_run_dir():
  with pytest.raises(errors.UserError, match='--run_dir is missing'):
    _open('')


@pytest.mark.parametrize(
  'files',
  [
    {'notes.txt': 'x'},
    {'run.json': '{}'},
    {'run.json': '[]', 'flags.txt': '--seed=1'},
    {'flags.txt': ''},
  ],
)
def test_foreign_directory_is_refused_untouched(tmp_path, files):
  for name, text in files.items():
    (tmp_path / name).write_text(text)
  before = _files(tmp_path)
  with pytest.raises(errors.UserError, match='holds other files'):
    _open(tmp_path)
  with pytest.raises(errors.UserError, match='not the directory of a run'):
    saved_runs.read_config(tmp_path)
  assert _files(tmp_path) == before


def test_file_instead_of_directory(tmp_path):
  path = tmp_path / 'file'
  path.write_text('x')
  with pytest.raises(errors.UserError, match='is a file'):
    _open(path)
  with pytest.raises(errors.UserError, match='cannot be created: Not a dir'):
    _open(path / 'run')
  assert path.read_text() == 'x'


def test_killed_while_it_was_created(tmp_path):
  (tmp_path / 'run.lock').write_text('123')
  (tmp_path / 'run.json.tmp').write_text('{"for')
  with _open(tmp_path) as run:
    assert not run.resumed


def test_resume_with_other_free_settings(tmp_path):
  _open(tmp_path, seed=1).close()
  changes = dict(
    seed=1,
    total_env_steps=7,
    sampler_threads=1,
    tf_threads=2,
    tensorboard=False,
    checkpoint_seconds=0.0,
    keep_checkpoints=9,
  )
  with _open(tmp_path, **changes) as run:
    assert (run.resumed, run.messages) == (True, ())
  assert saved_runs.read_config(tmp_path) == _config(tmp_path, **changes)
  assert '--total_env_steps=7\n' in (tmp_path / 'flags.txt').read_text()
  _open(tmp_path, **changes).close()
  record = json.loads((tmp_path / 'run.json').read_text())
  assert len(record['resumes']) == 2


def test_a_run_keeps_its_id(tmp_path):
  """One of an older version, which had none, gets one."""
  _worked(tmp_path)
  path = tmp_path / 'run.json'
  record = json.loads(path.read_text())
  with _open(tmp_path) as run:
    assert run.id == record.pop('id')
  path.write_text(json.dumps(record))
  with _open(tmp_path) as run:
    run.begin()
    assert run.id == json.loads(path.read_text())['id']
  with _open(tmp_path) as again:
    assert again.id == run.id


def test_resume_with_other_settings_is_refused(tmp_path):
  _worked(tmp_path)
  before = _files(tmp_path)
  with pytest.raises(errors.UserError) as error:
    _open(tmp_path, seed=4, hidden_sizes=())
  message = str(error.value)
  assert '--seed=0 there, --seed=4 here' in message
  assert '--hidden_sizes=64,64 there, --hidden_sizes= here' in message
  assert 'total_env_steps' not in message
  assert '\n' not in message
  assert _files(tmp_path) == before


def test_resume_never(tmp_path):
  _worked(tmp_path, resume='never')
  with pytest.raises(errors.UserError, match='holds a run already'):
    _open(tmp_path, resume='never')


@pytest.mark.parametrize('changes', [{'seed': 2}, {'resume': 'never'}])
def test_a_run_without_an_iteration_is_replaced(tmp_path, changes):
  """As after a failure in its first iteration."""
  _open(tmp_path, seed=1).close()
  (tmp_path / 'progress.csv').write_text(f'{",".join(COLUMNS)}\n')
  with _open(tmp_path, **changes) as run:
    assert not run.resumed
  assert run.messages == (
    f'{tmp_path} held a run without any iteration: it is replaced',
  )
  assert saved_runs.read_config(tmp_path) == _config(tmp_path, **changes)


def test_a_checkpoint_is_something_to_lose(tmp_path):
  _open(tmp_path, seed=1).close()
  (tmp_path / 'checkpoints' / 'iteration_00000001.npz').write_bytes(b'')
  with pytest.raises(errors.UserError, match='other settings'):
    _open(tmp_path, seed=2)


def test_nothing_is_written_before_the_run_begins(tmp_path):
  _worked(tmp_path)
  before = _files(tmp_path)
  with run_directory.RunDirectory.open(_config(tmp_path)) as run:
    assert run.resumed
  del before[pathlib.Path('run.lock')]
  after = _files(tmp_path)
  del after[pathlib.Path('run.lock')]
  assert after == before


# what is not the run.json of a run, by the words of the error
_DAMAGED = {
  'is not JSON (Expecting value': b'[',
  'is not JSON (it is no text)': b'"\xe9"',
  'is not JSON (values are nested too deeply)': b'[' * 100_000,
  'settings is missing': {'settings': None},
  'settings is not an object': {'settings': []},
  'resumes[0].versions is missing': {'resumes': [{}]},
  'id is not a text': {'id': 5},
  'id is not 32 hexadecimal digits': {'id': "' or 1 --"},
  'host.cores is not an integer': {'host': {'cores': 1.5}},
  'settings.seed is "1", not a value like 0': {'settings': {'seed': '1'}},
  'settings.seed is true, not a value like 0': {'settings': {'seed': True}},
  'settings.gamma is [0.5], not a value': {'settings': {'gamma': [0.5]}},
  'settings.gamma is "0.5", not a value': {'settings': {'gamma': '0.5'}},
  'settings.clip_actions is 1, not a': {'settings': {'clip_actions': 1}},
  'settings.hidden_sizes is 64, not a': {'settings': {'hidden_sizes': 64}},
  'settings.hidden_sizes is ["a"], not': {'settings': {'hidden_sizes': ['a']}},
  'settings.task is null, not a': {'settings': {'task': None}},
  'settings.task is "\\u001b[31m", not': {'settings': {'task': '\x1b[31m'}},
  '--gamma=2 is outside [0, 1]': {'settings': {'gamma': 2}},
}


@pytest.mark.parametrize('words', _DAMAGED)
def test_damaged_run_json(tmp_path, words):
  _worked(tmp_path)
  path, change = tmp_path / 'run.json', _DAMAGED[words]
  if isinstance(change, bytes):
    path.write_bytes(change)
  else:
    record = json.loads(path.read_text())
    for name, value in change.items():
      if isinstance(value, dict):
        record[name] |= value
      else:
        record[name] = value
    if change == {'settings': None}:
      del record['settings']
    if change == {'resumes': [{}]}:
      record['resumes'] = [{**record['host']} | dict(command='', argv=[])]
      record['resumes'][0] |= dict(time='', git=None, host=record['host'])
    path.write_text(json.dumps(record))
  before = _files(tmp_path)
  for call in (saved_runs.read_config, _open):
    with pytest.raises(errors.UserError) as error:
      call(tmp_path)
    assert words in str(error.value)
    assert f'{tmp_path}/run.json' in str(error.value)
    assert '\n' not in str(error.value)
  assert _files(tmp_path) == before


def test_published_runs_can_be_read():
  root = pathlib.Path(__file__).parents[2] / 'docs' / 'results'
  found = list(root.rglob('run.json'))
  assert len(found) >= 25
  for path in found:
    assert saved_runs.read_config(path.parent).task.task


def test_home_directories():
  with pytest.raises(
    errors.UserError, match='--run_dir=~nosuchuser/x: .*whole'
  ):
    saved_runs.read_config('~nosuchuser/x')
  with pytest.raises(errors.UserError, match='--run_dir=~nosuchuser/x'):
    _open('~nosuchuser/x')


def test_settings_of_another_version(tmp_path):
  _open(tmp_path).close()
  path = tmp_path / 'run.json'
  record = json.loads(path.read_text())
  del record['settings']['gamma']  # added since: has its default
  path.write_text(json.dumps(record))
  assert saved_runs.read_config(tmp_path) == _config(tmp_path)
  record['settings']['removed'] = 1
  path.write_text(json.dumps(record))
  with pytest.raises(errors.UserError, match='another version of .* removed'):
    saved_runs.read_config(tmp_path)


def test_warns_of_other_versions_and_processor(tmp_path):
  _open(tmp_path).close()
  path = tmp_path / 'run.json'
  record = json.loads(path.read_text())
  record['versions']['mujoco'] = '3.9.0'
  record['host']['cpu'] = 'Z80'
  path.write_text(json.dumps(record))
  with _open(tmp_path) as run:
    (message,) = run.messages
  assert 'mujoco 3.9.0 -> ' in message
  assert 'cpu Z80 -> ' in message
  assert 'numpy' not in message
  with _open(tmp_path) as run:
    assert run.messages == ()  # against the resume before


_HOLD = """
import sys
from trpo_tf import config
from trpo_tf.experiment import run_directory
run = run_directory.RunDirectory.open(
    config.from_settings({'run_dir': sys.argv[1]}))
run.begin()
print('open', flush=True)
sys.stdin.read()
"""


def test_two_processes_in_one_directory(tmp_path):
  root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
  holder = subprocess.Popen(
    [sys.executable, '-c', _HOLD, tmp_path],
    text=True,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    env=os.environ | {'PYTHONPATH': root},
  )
  with holder:
    assert holder.stdout.readline() == 'open\n'
    before = _files(tmp_path)
    with pytest.raises(errors.UserError, match=f'id {holder.pid}'):
      _open(tmp_path)
    assert _files(tmp_path) == before
    holder.kill()  # the lock goes with its process
    holder.wait()
  _open(tmp_path).close()


def test_one_process_twice_in_a_directory(tmp_path):
  with (
    _open(tmp_path),
    pytest.raises(errors.UserError, match=r'of this process: .* close\(\) it'),
  ):
    _open(tmp_path)


def test_an_error_lets_the_lock_go(tmp_path):
  _worked(tmp_path)
  for _ in range(2):
    with pytest.raises(errors.UserError, match='other settings'):
      _open(tmp_path, seed=4)
  _open(tmp_path).close()


def test_a_directory_of_runs_gives_a_hint(tmp_path):
  _open(tmp_path / 'seed_1').close()
  with pytest.raises(errors.UserError, match='has runs in it: .*seed_1'):
    saved_runs.read_config(tmp_path)
  with pytest.raises(errors.UserError, match='not a directory'):
    saved_runs.read_config(tmp_path / 'missing')


def test_commit_is_that_of_this_checkout():
  git = provenance.session()['git']
  assert git is None or set(git) == {'commit', 'dirty'}


def test_other_threads_of_tensorflow_are_reported(tmp_path):
  cores = provenance.session()['host']['cores']
  _worked(tmp_path, tf_threads=cores)
  with _open(tmp_path) as run:  # one per core, as before
    assert run.messages == ()
  with _open(tmp_path, tf_threads=cores + 1) as run:
    [line] = run.messages
  changed = f'TensorFlow threads {cores} -> {cores + 1}. The run continues'
  assert changed in line and 'may not be bit for bit' in line
