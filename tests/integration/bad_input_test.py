"""Mistakes end in one line that says what to do; nothing is lost by them."""

import contextlib
import errno
import os
import pathlib
import resource
import shutil
import subprocess
import sys

import programs
import pytest

from trpo_tf.experiment import checkpoint

pytestmark = pytest.mark.slow

_MODULE = """
import gymnasium
import numpy as np

class Broken(gymnasium.Env):
  observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
  action_space = gymnasium.spaces.Discrete(2)

  def __init__(self, what):
    self.what, self.steps = what, 0

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return np.zeros(2, np.float32), {}

  def step(self, action):
    self.steps += 1
    broken = self.what if self.steps == 120 else ''
    if broken == 'raises':
      raise RuntimeError('lost\\nthe robot')
    seen = np.nan if broken == 'observation' else self.steps / 120
    reward = np.nan if broken == 'reward' else float(action)
    return np.array([seen, action]), reward, self.steps % 20 == 0, False, {}

for what in ('observation', 'reward', 'raises'):
  gymnasium.register(f'Broken-{what}-v0', Broken, kwargs=dict(what=what))
"""
_MODEL = """<mujoco><worldbody><body>
  <joint name="hinge" type="hinge"/><geom type="sphere" size=".1"/>
</body></worldbody><actuator><motor joint="hinge"/></actuator></mujoco>"""
_TASK = """
from trpo_tf.tasks.language import concatenate
from trpo_tf.tasks.task import Definition, Task, uniform_reset

def define(sim):
  return Definition(concatenate(sim.qpos, sim.qvel), 0.0)

TASK = Task('spin', 'spin.xml', 2, 20, define, uniform_reset(0.1, 0.1))
"""
_FILES = {
  'broken_module.py': _MODULE,
  'failing_module.py': 'raise RuntimeError("no\\nlicence")',
  'spin.xml': _MODEL,
  'spin.py': _TASK,
  'unreadable.xml': _MODEL.replace('joint name', 'jiont name'),
  'unreadable.py': _TASK.replace('spin.xml', 'unreadable.xml'),
  'no_model.py': _TASK.replace('spin.xml', 'none.xml'),
  'no_field.py': _TASK.replace('sim.qvel', 'sim.qvle'),
  'reset_raises.py': _TASK.replace('uniform_reset(0.1, 0.1)', 'define'),
  'reset_shape.py': _TASK.replace(
    'uniform_reset(0.1, 0.1)', 'lambda model, rng, n: rng.random((2, n, 3))'
  ),
  'exits.py': 'import sys\nsys.exit(0)\n',
  'exiting_module.py': 'raise SystemExit',
  'raises.py': 'numbers = {}\nnumbers["gravity"]\n',
  'syntax.py': 'TASK = = 1\n',
}
# Tasks that must be refused before a directory is made for them.
_BAD_TASKS = {
  'Hoper-v5': 'no such task; did you mean Hopper-v5?',
  'Hopper-v9': 'no such task; did you mean Hopper-v5?',
  'CartPole': 'no such task; did you mean CartPole-v1?',
  'broken_module:Broken-rewrd-v0': 'did you mean Broken-reward-v0?',
  'no_module:Id-v0': "No module named 'no_module'",
  'failing_module:Id-v0': 'cannot be imported: RuntimeError: no licence',
  'none.py:TASK': 'none.py: no such file',
  'spin.py:SPIN': "spin.py has no Task called 'SPIN'; it has TASK",
  'unreadable.py:TASK': 'unreadable.xml: XML Error',
  'no_model.py:TASK': 'none.xml: no such MJCF file',
  'no_field.py:TASK': "no_field.py:6: a task has no field 'qvle'; did you mean",
  'reset_raises.py:TASK': 'spin: its reset failed: TypeError',
  'reset_shape.py:TASK': 'returned shapes (32, 3) and (32, 3)',
  'raises.py:TASK': "raises.py:2: KeyError: 'gravity'",
  'syntax.py:TASK': 'syntax.py: SyntaxError',
  'exits.py:TASK': 'exits.py:2: SystemExit: 0',
  'exiting_module:Id-v0': 'cannot be imported: SystemExit',
  'ALE/Pong-v5': 'observes images, which need the convolutions of the tasks',
  'Hopper-v5 --tf_threads=100000': '--tf_threads=100000 is too many for',
  'Hopper-v5 --sampler_threads=100000': '--sampler_threads=100000 is too many',
  'Hopper-v5 --hidden_sizes=1000000,1000000': 'lower --hidden_sizes',
  'Pong': 'no such task; did you mean atari/pong?',
  'Atari/pong': 'no such task; did you mean atari/pong?',
  'atari/pnog': 'no such game; did you mean atari/pong?',
  'atari/pong --conv_filters=': '--conv_filters=: at least one',
  'atari/pong --conv_filters=8,8,8,8,8': 'of 52 x 40 pixels; take fewer',
  'Hopper-v5 --clip_rewards': '--clip_rewards is for --task=atari/..., not',
  'Blackjack-v1 --sampler=vines': 'should be one of <single_path|vine>',
  'spin.py:TASK --action_range=control': 'use --action_range=raw',
}
_BAD_RUNS = {
  'resume_never': (['--run_dir=run', '--resume=never'], 'holds a run already'),
  'other_settings': (
    ['--run_dir=run', '--seed=9'],
    '--seed=0 there, --seed=9 here',
  ),
  'foreign': (['--run_dir=foreign'], 'holds other files'),
  'file': (['--run_dir=spin.py'], 'is a file, not a directory'),
  'below_file': (['--run_dir=spin.py/run'], 'cannot be created'),
}
_BROKEN = {
  'observation': 'observation[0] is nan at step 20 of episode',
  'reward': 'the reward is nan at step 20 of episode',
  'raises': 'env.step failed (RuntimeError: lost the robot; --verbosity=1',
}
_RUN = [*programs.TINY, '--total_env_steps=400', '--run_dir=run']


def _contents(folder: pathlib.Path) -> dict:
  return {
    path.relative_to(folder): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file() and '__pycache__' not in path.parts
  }


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  """A folder with bad files, one run, and a directory of something else."""
  folder = tmp_path_factory.mktemp('bad_input')
  for name, text in _FILES.items():
    (folder / name).write_text(text)
  (folder / 'foreign').mkdir()
  (folder / 'foreign' / 'thesis.txt').write_text('all I have')
  (folder / 'work').mkdir()
  return folder


@pytest.fixture(scope='module')
def results(world):
  """All mistakes of train, made in one process; results by name."""
  commands = {'good': _RUN}
  for task in _BAD_TASKS:
    commands[task] = [
      *programs.TINY,
      *f'--task={task}'.split(),
      '--run_dir=never_made',
    ]
  for name, (flags, _) in _BAD_RUNS.items():
    commands[name] = [*_RUN, *flags]
  for name in _BROKEN:
    commands[name] = [
      *programs.TINY,
      f'--task=broken_module:Broken-{name}-v0',
      '--check_env=false',  # it counts steps over all episodes
      '--total_env_steps=2000',
      f'--run_dir=broken_{name}',
    ]
  given = list(commands.values())
  found = programs.run('train', given, world)
  return dict(zip(commands, found, strict=True))


def _assert_one_line(result, text):
  assert result.code == 2, result
  assert result.stdout == ''
  assert result.stderr.count('\n') == 1, result.stderr
  assert text in result.stderr


@pytest.mark.parametrize('task', _BAD_TASKS)
def test_bad_tasks(results, world, task):
  _assert_one_line(results[task], _BAD_TASKS[task])
  assert not (world / 'never_made').exists()


@pytest.mark.parametrize('name', _BAD_RUNS)
def test_bad_run_directories(results, world, name):
  _assert_one_line(results[name], _BAD_RUNS[name][1])
  assert results['good'].code == 0
  assert len(programs.progress(world / 'run')) == 2
  assert programs.final_state(world / 'run')['/iteration'] == 2
  assert _contents(world / 'foreign') == {
    pathlib.Path('thesis.txt'): b'all I have'
  }
  assert (world / 'spin.py').read_text() == _TASK


@pytest.mark.parametrize('name', _BROKEN)
def test_broken_environments(results, world, name):
  """Two iterations of 50 steps a slot were good, and are kept."""
  _assert_one_line(results[name], _BROKEN[name])
  assert 'to replay it: env.reset(seed=' in results[name].stderr
  run_dir = world / f'broken_{name}'
  assert len(programs.progress(run_dir)) == 2
  assert programs.final_state(run_dir)['/iteration'] == 2


@pytest.fixture(scope='module')
def without_tensorflow(tmp_path_factory):
  """A folder whose module lets no process import TensorFlow."""
  folder = tmp_path_factory.mktemp('modules')
  (folder / 'tensorflow.py').write_text('raise SystemExit("imported")')
  return folder


@pytest.mark.parametrize(
  ('program', 'arguments', 'text'),
  [
    ('train', ['--max_kll=1', '--run_dir=r'], 'Did you mean: max_kl'),
    ('train', ['--gamma=1.5', '--run_dir=r'], '--gamma=1.5 is outside [0, 1]'),
    ('train', ['--max_kl=nan', '--run_dir=r'], '--max_kl=nan is outside (0'),
    ('train', ['--baseline=none', '--run_dir=r'], 'add --whole_episodes'),
    ('train', ['--batch_steps=1001', '--run_dir=r'], 'is not a multiple of'),
    ('train', ['--hidden_sizes=64;64', '--run_dir=r'], 'as in 64,64'),
    ('train', ['--flagfile=none.flags'], "No such file or directory: 'none."),
    ('train', [], '--run_dir is missing'),
    ('train', ['--task=Walker-v5', '--run_dir=r'], 'did you mean Walker2d-v5?'),
    ('evaluate', [], '--run_dir is missing'),
    ('evaluate', ['--run_dir=none'], 'none is not a directory'),
    ('evaluate', ['--run_dir=foreign'], 'is not the directory of a run'),
    ('evaluate', ['--run_dir=begun'], 'begun has no checkpoint yet'),
    ('evaluate', ['--run_dir=begun', '--episodes=0'], '--episodes=0'),
    ('evaluate', ['--run_dir=begun', '--video=v.avi'], 'end it in .mp4 or'),
    ('export', ['--out=r'], '--run_dir is missing'),
    ('export', ['--run_dir=run'], '--out is missing'),
    ('export', ['--run_dir=run', '--out=run'], '--out=run exists already'),
    ('export', ['--run_dir=begun', '--out=r'], 'begun has no checkpoint yet'),
  ],
)
def test_mistakes_are_answered_before_tensorflow_is_imported(
  results, world, without_tensorflow, program, arguments, text
):
  begun = world / 'begun'
  if not begun.exists():
    shutil.copytree(world / 'run', begun)
    shutil.rmtree(begun / 'checkpoints')
  before = _contents(world)
  done = subprocess.run(
    [sys.executable, '-m', f'trpo_tf.bin.{program}', *arguments],
    env=programs.environment(without_tensorflow),
    cwd=world,
    capture_output=True,
    text=True,
  )
  result = programs.Result(done.returncode, done.stdout, done.stderr)
  _assert_one_line(result, text)
  assert _contents(world) == before
  assert not (world / 'r').exists()


def test_plot_of_nothing(results, world):
  commands = {
    'name the directories': ['--out=a.png'],
    '--out is missing': ['run'],
    'end it in .png': ['run', '--out=a.jpg'],
    'foreign is not the directory of a run': ['foreign', '--out=a.png'],
    'none is not a directory': ['none', '--out=a.png'],
    '--y=reward: choose one of': ['run', '--y=reward', '--out=a.png'],
  }
  found = programs.run('plot', list(commands.values()), world)
  for text, result in zip(commands, found, strict=True):
    _assert_one_line(result, text)
  assert not list(world.glob('a.*'))


def test_plot_leaves_out_what_has_nothing_yet(results, world):
  begun = world / 'begun_for_plot'
  shutil.copytree(world / 'run', begun)
  head = (begun / 'progress.csv').read_text().splitlines()[0]
  (begun / 'progress.csv').write_text(f'{head}\n')
  bare = world / 'bare_for_plot'
  shutil.copytree(begun, bare)
  (bare / 'progress.csv').unlink()
  commands = [['run', begun.name, '--out=b.png'], [begun.name, '--out=c.png']]
  commands.append(['run', bare.name, '--out=d.png'])
  both, alone, without = programs.run('plot', commands, world)
  assert without.code == 0 and 'progress.csv does not exist' in without.stderr
  left_out = f'{begun.name} has no finished iteration yet\n'
  assert both.code == 0 and both.stdout == 'b.png: 1 run in 1 group\n'
  assert both.stderr == f'plot: left out: {left_out}'
  assert (alone.code, alone.stderr) == (2, f'plot: {left_out}')
  shutil.rmtree(begun)
  shutil.rmtree(bare)


@contextlib.contextmanager
def _small_disk(folder: pathlib.Path):
  """A file system of 300 kB, for those who may mount one."""
  command = ['mount', '-t', 'tmpfs', '-o', 'size=300k', 'none', str(folder)]
  try:
    done = subprocess.run(command, capture_output=True, text=True)
  except FileNotFoundError as error:
    pytest.skip(str(error))
  if done.returncode:
    pytest.skip(done.stderr.strip())
  try:
    yield
  finally:
    subprocess.run(['umount', str(folder)], check=True)


def _fill(tmp_path, run_dir, **options):
  """Trains until there is no room; returns the result and what is saved."""
  result = programs.finish(
    programs.start(
      'train',
      *programs.TINY,
      '--checkpoint_seconds=0',
      '--total_env_steps=1000000',
      f'--run_dir={run_dir}',
      **options,
    )
  )
  shutil.copytree(run_dir, tmp_path / 'kept')
  saved = checkpoint.load_newest(tmp_path / 'kept' / 'checkpoints')
  assert saved.damaged == () and saved.iteration >= 5
  return result, saved


def test_full_disk(tmp_path):
  disk = tmp_path / 'disk'
  disk.mkdir()
  with _small_disk(disk):
    result, saved = _fill(tmp_path, disk / 'run')
  _assert_one_line(result, 'No space left on device. Free some space')
  rows = programs.progress(tmp_path / 'kept')
  assert len(rows) >= saved.iteration


def test_a_file_too_large(tmp_path):
  """As a full disk, for everyone; with more room, the run goes on."""
  limits = (60_000, 60_000)
  result, saved = _fill(
    tmp_path,
    tmp_path / 'run',
    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits),
  )
  # the file of TensorBoard's events is the first that grows beyond the limit
  assert f'{tmp_path}/run/tensorboard/events' in result.stderr
  _assert_one_line(result, f': {os.strerror(errno.EFBIG)}. Free some space')
  flags = [*programs.TINY, f'--total_env_steps={(saved.iteration + 2) * 200}']
  names = 'kept', 'whole'
  given = [[*flags, f'--run_dir={name}'] for name in names]
  assert [r.code for r in programs.run('train', given, tmp_path)] == [0, 0]
  kept, whole = (tmp_path / name for name in names)
  assert programs.progress(kept) == programs.progress(whole)
  assert programs.final_state(kept) == programs.final_state(whole)
