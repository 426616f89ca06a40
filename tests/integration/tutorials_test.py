"""The quick start and tutorials: their commands, shortened, and snippets."""

import shutil

import pages
import programs
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group('tutorials')]

_PAGES = (
  'docs/quickstart.md',
  'docs/tutorials/environment.md',
  'docs/tutorials/network.md',
)
_SHORT = (
  '--batch_steps=200',
  '--num_slots=4',
  '--rollout_set_size=4',
  '--branch_length=2',
  '--value_hidden_sizes=',
  '--value_epochs=1',
  '--notensorboard',
  '--noprogress',
)


def _commands(program, *which):
  """The commands of the pages that have such an argument."""
  return [
    arguments
    for page in _PAGES
    for name, arguments in pages.commands(page)
    if name == program and set(which) & set(arguments)
  ]


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """A folder with the examples and the runs of the pages."""
  folder = tmp_path_factory.mktemp('tutorials')
  shutil.copytree(pages.ROOT / 'docs/examples', folder / 'docs/examples')
  # PYTHONPATH of the tutorial is this folder's
  shutil.copy(folder / 'docs/examples/point.py', folder)
  names = 'pendulum', 'point', 'point_vine', 'residual'
  commands = _commands('train', *(f'--run_dir=runs/{name}' for name in names))
  # the last command of the quick start makes its run longer
  steps = [
    [*c, *_SHORT, f'--total_iterations={i + 1}'] for i, c in enumerate(commands)
  ]
  assert len(steps) == len(names) + 1
  for result in programs.run('train', steps, folder):
    assert result.code == 0, result.stderr
  return folder


def test_evaluations(runs):
  found = _commands(
    'evaluate',
    '--video=runs/pendulum/episode.gif',
    '--video=runs/point/film.gif',
    '--run_dir=runs/residual',
  )
  commands = [[*command, '--episodes=2'] for command in found]
  assert len(commands) == 3
  for result in programs.run('evaluate', commands, runs):
    assert result.code == 0, result.stderr
  assert (runs / 'runs/point/film.gif').stat().st_size > 1000
  assert (runs / 'runs/pendulum/episode.gif').stat().st_size > 1000


def test_snippets(runs, monkeypatch, capsys):
  monkeypatch.chdir(runs)
  monkeypatch.syspath_prepend(runs)
  pages.run_python('docs/quickstart.md')
  with pytest.warns(UserWarning, match='Overriding environment'):  # the page's
    found = pages.run_python('docs/tutorials/environment.md')
  assert found['env'].action_space.contains(found['action'])
  assert found['findings'] == []
  assert pages.run_python('docs/tutorials/network.md')['theta'].size == 2338
  found = pages.run_python('docs/tutorials/planning.md')
  assert found['earned'] == 60
  assert 'return 60' in capsys.readouterr().out
