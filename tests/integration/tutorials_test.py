"""The quick start and tutorials: their commands, shortened, and snippets.

pages_test.py parses all commands; here those run that no other test is like.
"""

import shutil

import gymnasium
import numpy as np
import pages
import pytest

import trpo_tf
from trpo_tf.bin import flags

pytestmark = pytest.mark.slow

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


def _train_command(run_dir):
  """The first command of the pages that trains in a directory."""
  for page in _PAGES:
    for program, arguments in pages.commands(page):
      if program == 'train' and f'--run_dir={run_dir}' in arguments:
        return arguments
  raise AssertionError(f'no page trains in {run_dir}')


@pytest.fixture(scope='module', autouse=True)
def _folder(tmp_path_factory):
  """A folder with the examples and the runs of the pages."""
  folder = tmp_path_factory.mktemp('tutorials')
  shutil.copytree(pages.ROOT / 'docs/examples', folder / 'docs/examples')
  # which the page puts on PYTHONPATH
  shutil.copy(folder / 'docs/examples/point.py', folder)
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    patch.syspath_prepend(folder)
    for name in ('pendulum', 'point', 'residual'):
      command = _train_command(f'runs/{name}')
      list(trpo_tf.train(flags.parse([*command, *_SHORT])))
    yield


def test_quick_start():
  assert pages.run_python('docs/quickstart.md')['policy'].act([0.0] * 4).shape


def test_environment():
  with pytest.warns(UserWarning, match='Overriding environment'):  # the page's
    found = pages.run_python('docs/tutorials/environment.md')
  assert found['env'].action_space.contains(found['action'])
  assert found['findings'] == []
  env = gymnasium.make('Point-v0', render_mode='rgb_array')
  env.reset(seed=0)
  assert len(np.unique(env.render().reshape(-1, 3), axis=0)) == 3  # colors


def test_network():
  assert pages.run_python('docs/tutorials/network.md')['theta'].size == 2338


def test_planning(capsys):
  assert pages.run_python('docs/tutorials/planning.md')['earned'] == 60
  assert 'return 60' in capsys.readouterr().out
