"""Without the packages of the extras, what needs them says which to install."""

import os
import pathlib
import subprocess
import sys
import tomllib

import pytest

from trpo_tf import extras
from trpo_tf.errors import UserError

_ROOT = pathlib.Path(__file__).parents[2]

# None in sys.modules is a package that is not there
_LEAN = """
import sys
sys.modules['ale_py'] = sys.modules['imageio_ffmpeg'] = None

import gymnasium
import trpo_tf
from trpo_tf.bin import evaluate, flags

tiny = dict(batch_steps=200, value_hidden_sizes=(), total_iterations=1)
for task in ('CartPole-v1', 'InvertedPendulum-v5'):
  list(trpo_tf.train(task=task, **tiny, run_dir=task))
trpo_tf.cloner(gymnasium.make('CartPole-v1'), 'CartPole-v1')
for task in ('atari/pong', 'ALE/Pong-v5', 'Pong-v5'):
  try:
    trpo_tf.train(task=task)
  except trpo_tf.UserError as error:
    print(error)
for more in ([], ['--video=x.mp4']):
  try:
    flags.run(evaluate.main, ['', '--run_dir=CartPole-v1', *more])
  except SystemExit as end:
    print('evaluate:', end.code or 0)
"""


@pytest.mark.slow
def test_the_lean_core(tmp_path):
  done = subprocess.run(
    [sys.executable, '-c', _LEAN],
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': str(_ROOT), 'COLUMNS': '200'},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  needs = "needs the package ale_py: pip install 'trpo_tf[atari]'"
  assert lines[0] == f'--task=atari/pong {needs}'
  assert lines[1] == f'--task=ALE/Pong-v5 {needs}'
  assert lines[2].startswith('--task=Pong-v5: no such task')
  video = "needs the package imageio_ffmpeg: pip install 'trpo_tf[video]'"
  assert done.stderr.endswith(f'--video=x.mp4 {video}\n')
  assert [x for x in lines if x.startswith('evaluate:')] == [
    'evaluate: 0',
    'evaluate: 2',
  ]


def test_a_stand_in():
  missing = extras.optional('no_such_package.part', 'some')
  assert not missing and not hasattr(missing, '__wrapped__')
  with pytest.raises(
    UserError, match=r"no_such_package.part.name needs .*trpo_tf\[some\]'"
  ):
    missing.name  # noqa: B018
  assert extras.optional('json', 'some').loads('1') == 1


def test_all_extras_and_programs_are_listed():
  with open(_ROOT / 'pyproject.toml', 'rb') as file:
    project = tomllib.load(file)['project']
  found = project['optional-dependencies']
  (everything,) = found['all']
  of_users = sorted(set(found) - {'all', 'dev', 'docs'})
  assert everything == f'trpo_tf[{",".join(of_users)}]'
  programs = {
    path.stem
    for path in (_ROOT / 'trpo_tf/bin').glob('*.py')
    if "__name__ == '__main__'" in path.read_text() and path.stem != 'flags'
  }
  assert len(programs) == 14
  assert project['scripts'] == {
    f'trpo-{name.replace("_", "-")}': f'trpo_tf.bin.scripts:{name}'
    for name in programs
  }
