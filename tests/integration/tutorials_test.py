"""The quick start and tutorials: their commands, shortened, and snippets.

pages_test.py parses all commands; here those run that no other test is like.
"""

import shutil

import pages
import programs
import pytest

import trpo_tf
from trpo_tf.bin import flags

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group('tutorials')]

_PAGES = (
  'docs/quickstart.md',
  'docs/tutorials/environment.md',
  'docs/tutorials/network.md',
)
_SHORT = (
  '--total_iterations=1',
  '--batch_steps=200',
  '--num_slots=4',
  '--value_hidden_sizes=',
  '--value_epochs=1',
  '--notensorboard',
)


def _command(program, argument):
  """The first command of the pages that has an argument."""
  for page in _PAGES:
    for name, arguments in pages.commands(page):
      if name == program and argument in arguments:
        return arguments
  raise AssertionError(f'no page has {program} {argument}')


@pytest.fixture(scope='module', autouse=True)
def folder(tmp_path_factory):
  """A folder with the examples and the runs of the pages."""
  folder = tmp_path_factory.mktemp('tutorials')
  shutil.copytree(pages.ROOT / 'docs/examples', folder / 'docs/examples')
  # which the page puts on PYTHONPATH
  shutil.copy(folder / 'docs/examples/point.py', folder)
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    patch.syspath_prepend(folder)
    for name in ('pendulum', 'point', 'residual'):
      command = _command('train', f'--run_dir=runs/{name}')
      list(trpo_tf.train(flags.parse([*command, *_SHORT])))
    yield folder


def test_quick_start():
  assert pages.run_python('docs/quickstart.md')['policy'].act([0.0] * 4).shape


def test_environment(folder):
  film = 'runs/point/film.gif'
  command = _command('evaluate', f'--video={film}')
  (done,) = programs.run('evaluate', [[*command, '--episodes=2']], folder)
  assert done.code == 0, done.stderr
  assert (folder / film).stat().st_size > 1000
  with pytest.warns(UserWarning, match='Overriding environment'):  # the page's
    found = pages.run_python('docs/tutorials/environment.md')
  assert found['env'].action_space.contains(found['action'])
  assert found['findings'] == []


def test_network():
  assert pages.run_python('docs/tutorials/network.md')['theta'].size == 2338


def test_planning(capsys):
  assert pages.run_python('docs/tutorials/planning.md')['earned'] == 60
  assert 'return 60' in capsys.readouterr().out
