"""Runs whose files are lost or wrong go on, or are refused untouched."""

import json
import pathlib
import shutil

import numpy as np
import programs
import pytest

from trpo_tf.experiment import checkpoint

pytestmark = pytest.mark.slow

_TRAIN = (*programs.TINY, '--notensorboard', '--checkpoint_seconds=0')
_TASK = """
import pathlib
from trpo_tf.tasks.language import concatenate
from trpo_tf.tasks.task import Definition, Task, uniform_reset

pathlib.Path('it_ran').touch()

def define(sim):
  return Definition(concatenate(sim.qpos, sim.qvel), 0.0)

TASK = Task('spin', 'spin.xml', 2, 20, define, uniform_reset(0.1, 0.1))
"""
_MODEL = """<mujoco><worldbody><body>
  <joint name="hinge" type="hinge"/><geom type="sphere" size=".1"/>
</body></worldbody><actuator><motor joint="hinge"/></actuator></mujoco>"""


def _files(run):
  return {
    path.relative_to(run): path.read_bytes()
    for path in run.rglob('*')
    if path.is_file() and path.name != 'run.lock'
  }


def _rewrite(run, change):
  """Changes the rows of progress.csv; those of iterations are 1, 2, ..."""
  path = run / 'progress.csv'
  rows = path.read_text().splitlines(keepends=True)
  change(rows)
  path.write_text(''.join(rows))


def _lose(run, number=None):
  _rewrite(run, lambda rows: rows.pop() if number is None else rows.pop(number))


def _double(run):
  _rewrite(run, lambda rows: rows.insert(2, rows[2]))


def _forge(run, iterations, change):
  """Checkpoints with a whole checksum and another state."""
  for iteration in iterations:
    path = run / 'checkpoints' / f'iteration_{iteration:08d}.npz'
    state = checkpoint._decode(checkpoint._verified(path.read_bytes()))
    change(state)
    path.write_bytes(checkpoint._encode(state))


def _wrong(run, *iterations):
  """A policy of another size."""

  def change(state):
    state['theta'] = np.append(state['theta'], np.float32(0))

  _forge(run, iterations, change)


def _steps(run, *iterations, env_steps=0):
  """Env steps that are not those of the rows of progress.csv."""
  _forge(run, iterations, lambda state: state.update(env_steps=env_steps))


def _foreign(run):
  folder = run / 'checkpoints'
  for name in ('iteration_best.npz', 'iteration_00000005 (copy).npz'):
    shutil.copy(folder / 'iteration_00000005.npz', folder / name)


# by name: how the run is damaged, and a line of the answer
_GOES_ON = {
  'last row': (_lose, 'ends at iteration 4 but the checkpoint is of'),
  'wrong tree': (
    lambda run: _wrong(run, 5),
    'iteration_00000005.npz cannot be used (state.theta is float32 [',
  ),
  'wrong env steps': (
    lambda run: _steps(run, 5),
    'has 1000 env steps at iteration 5 but the checkpoint has 0',
  ),
  'foreign names': (_foreign, 'continuing after 1,000 env steps'),
}
_REFUSED = {
  'middle row': (lambda run: _lose(run, 2), "row 2: its iteration is '3', not"),
  'doubled row': (_double, "row 3: its iteration is '2', not 3"),
  'wrong trees': (
    lambda run: _wrong(run, 3, 4, 5),
    'none of the 3 checkpoints',
  ),
  'no env steps': (
    lambda run: _steps(run, 3, 4, 5),
    'has 1000 env steps at iteration 5 but the checkpoint has 0',
  ),
  'env steps to come': (
    lambda run: _steps(run, 3, 4, 5, env_steps=2000),
    'has 1000 env steps at iteration 5 but the checkpoint has 2000',
  ),
  'fractional env steps': (
    lambda run: _steps(run, 3, 4, 5, env_steps=0.0),
    'none of the 3 checkpoints',
  ),
  'an array of env steps': (
    lambda run: _steps(run, 3, 4, 5, env_steps=np.zeros((), np.int64)),
    'none of the 3 checkpoints',
  ),
  'all rows': (
    lambda run: (run / 'progress.csv').unlink(),
    'without a progress.csv, as an exported policy does',
  ),
}


@pytest.fixture(scope='module')
def results(tmp_path_factory):
  """A folder, and by name how train answered and the files before."""
  folder = tmp_path_factory.mktemp('damaged')
  for name, text in {'task.py': _TASK, 'spin.xml': _MODEL}.items():
    (folder / name).write_text(text)
  end = '--total_env_steps=1000'
  mine = [*_TRAIN, '--task=task.py:TASK', end, '--run_dir=mine']
  first = [
    [*_TRAIN, end, '--run_dir=good'],
    [*_TRAIN, '--total_env_steps=1200', '--run_dir=whole'],
    mine,
  ]
  for done in programs.run('train', first, folder):
    assert done.code == 0, done.stderr
  damages = {n: d for n, (d, _) in (_GOES_ON | _REFUSED).items()}
  before = {}
  for name, damage in damages.items():
    shutil.copytree(folder / 'good', folder / name)
    damage(folder / name)
    before[name] = _files(folder / name)
  commands = [
    [*_TRAIN, '--total_env_steps=1200', f'--run_dir={name}'] for name in damages
  ]
  found = programs.run('train', commands, folder)
  return folder, dict(zip(damages, found, strict=True)), before


@pytest.mark.parametrize('name', _GOES_ON)
def test_goes_on_as_if_nothing_had_happened(results, name):
  folder, found, _ = results
  result = found[name]
  assert (result.code, result.stderr) == (0, '')
  assert _GOES_ON[name][1] in result.stdout
  assert programs.progress(folder / name) == programs.progress(folder / 'whole')
  state, whole = (programs.final_state(folder / n) for n in (name, 'whole'))
  assert state == whole


def test_foreign_checkpoints_are_kept(results):
  folder, _, before = results
  for path, content in before['foreign names'].items():
    if 'best' in path.name or 'copy' in path.name:
      assert (folder / 'foreign names' / path).read_bytes() == content


@pytest.mark.parametrize('name', _REFUSED)
def test_is_refused_untouched(results, name):
  folder, found, before = results
  result = found[name]
  assert (result.code, result.stdout) == (2, '')
  assert _REFUSED[name][1] in result.stderr and result.stderr.count('\n') == 1
  assert _files(folder / name) == before[name]


def test_the_code_of_a_stranger_asks(results):
  """evaluate and its consent, and wrong checkpoints and videos with it."""
  folder, _, _ = results
  shutil.copytree(folder / 'mine', folder / 'gift')
  path = folder / 'gift' / 'run.json'
  record = json.loads(path.read_text())
  record['signature'] = '0' * 64
  path.write_text(json.dumps(record))
  (folder / 'it_ran').unlink()
  shutil.copytree(folder / 'good', folder / 'wrong policy')
  _wrong(folder / 'wrong policy', 4, 5)
  commands = [
    ['--run_dir=gift'],
    ['--run_dir=gift', '--trust_task', '--episodes=1'],
    ['--run_dir=mine', '--episodes=1'],
    ['--run_dir=wrong policy', '--episodes=1'],
    ['--run_dir=wrong trees', '--episodes=1'],
    ['--run_dir=good', f'--video={"x" * 300}.gif'],
    ['--run_dir=~nosuchuser/x'],
  ]
  asked, trusted, mine, older, none, video, user = programs.run(
    'evaluate', commands, folder
  )
  for result, words in (
    (
      asked,
      'gift/run.json names a task, task.py:TASK, that may run Python code',
    ),
    (none, 'none of the 3 checkpoints in wrong trees'),
    (video, 'File name too long'),
    (user, '--run_dir=~nosuchuser/x: '),
  ):
    assert (result.code, result.stdout) == (2, '')
    assert words in result.stderr and result.stderr.count('\n') == 1
  assert 'look at that code, and add --trust_task' in asked.stderr
  for result in (trusted, mine, older):
    assert (result.code, result.stderr) == (0, '')
  assert (folder / 'it_ran').exists()
  text = ' '.join(older.stdout.split())
  assert 'iteration_00000003.npz is evaluated' in text
  evaluation = folder / 'wrong policy' / 'evaluation.json'
  assert json.loads(evaluation.read_text())['env_steps'] == 600


def test_a_failure_in_the_first_iteration_leaves_the_directory(tmp_path):
  module = """
import gymnasium
class Broken(gymnasium.Env):
  observation_space = gymnasium.spaces.Box(-9, 9, (2,))
  action_space = gymnasium.spaces.Discrete(2)
  def reset(self, *, seed=None, options=None):
    raise RuntimeError('lost the robot')
gymnasium.register('Broken-v0', Broken)
"""
  (tmp_path / 'broken.py').write_text(module)
  end = ['--total_env_steps=200', '--run_dir=run']
  commands = [
    [*_TRAIN, '--task=broken:Broken-v0', '--check_env=false', *end],
    [*_TRAIN, *end, '--seed=3'],
    [*_TRAIN, *end, '--seed=4'],
  ]
  failed, corrected, other = programs.run('train', commands, tmp_path)
  assert failed.code == 2 and 'lost the robot' in failed.stderr
  assert corrected.code == 0, corrected.stderr
  assert 'run held a run without any iteration: it is replaced' in (
    corrected.stdout
  )
  assert other.code == 2 and '--seed=3 there, --seed=4 here' in other.stderr
  assert len(programs.progress(pathlib.Path(tmp_path / 'run'))) == 1
