"""The grid of a sweep, its runs, and the table of what they have learned."""

import dataclasses
import pathlib
import re

import hypothesis
import numpy as np
import pytest
import reproductions
from hypothesis import strategies

from trpo_tf import config as config_lib
from trpo_tf.bin import flags
from trpo_tf.errors import UserError
from trpo_tf.experiment import plots, run_logs
from trpo_tf.reproduction import estimate, logs, sweep, sweep_report
from trpo_tf.reproduction.campaign import Campaign
from trpo_tf.reproduction.local_pool import LocalPool

_OUT = pathlib.Path('out')
_BASE = flags.parse(['--task=CartPole-v1', '--total_iterations=20', '--seed=4'])


def _plan(*grid, base=_BASE, seeds=2, out=_OUT):
  axes = sweep.parse_grid(grid)
  return axes, sweep.make_entries(axes, base, seeds, out, flags.parse)


def test_runs_of_a_grid():
  _, entries = _plan('max_kl=1e-2,0.02', 'gae_lambda=0.95,0.98', seeds=3)
  assert [entry.method for entry in entries] == [
    'max_kl=0.01 gae_lambda=0.95',
    'max_kl=0.01 gae_lambda=0.98',
    'max_kl=0.02 gae_lambda=0.95',
    'max_kl=0.02 gae_lambda=0.98',
  ]
  runs = entries[2].runs('')
  assert [run.seed for run in runs] == [4, 5, 6]
  assert runs[1].directory == _OUT / 'gae_lambda=0.95/max_kl=0.02/5'
  assert runs[1].flags == (
    '--task=CartPole-v1',
    '--max_kl=0.02',
    '--total_iterations=20',
    '--seed=5',
    f'--run_dir={runs[1].directory}',
  )
  assert runs[1].parts == ('CartPole-v1', entries[2].method, '5')


def test_without_a_grid_there_is_one_cell():
  _, (entry,) = _plan()
  assert [run.directory for run in entry.runs('')] == [_OUT / '4', _OUT / '5']
  assert entry.runs('')[0].parts == ('CartPole-v1', '4')


def test_values_that_are_lists_and_names():
  _, entries = _plan('hidden_sizes=64,64;32;', 'task=paper/hopper,Hopper-v5')
  first, *_, last = [entry.runs('')[0] for entry in entries]
  assert first.config.policy.hidden_sizes == (64, 64)
  assert last.config.policy.hidden_sizes == ()
  assert first.directory == _OUT / 'hidden_sizes=64,64/task=paper%2Fhopper/4'
  assert last.directory == _OUT / 'hidden_sizes=/task=Hopper-v5/4'


@pytest.mark.parametrize(
  'grid, message',
  [
    (['max_kl'], '--grid=max_kl: write NAME=VALUE,VALUE'),
    ([''], '--grid=: write NAME=VALUE,VALUE'),
    (['maxkl=1'], "--grid=maxkl=1: there is no setting 'maxkl'"),
    (['seed=1,2'], '--grid=seed=1,2: give the number of seeds by --seeds'),
    (['run_dir=a,b'], 'run_dir does not change what a run learns'),
    (['tf_threads=1,2'], 'tf_threads does not change what a run learns'),
    (['max_kl=1', 'max_kl=2'], '--grid=max_kl=... is given twice'),
    (['max_kl=0.01,1e-2'], '--grid: --max_kl=1e-2 is given twice'),
    (['max_kl=0.01,'], '--grid=max_kl=0.01,: a value is missing'),
    (['max_kl='], '--grid=max_kl=: a value is missing'),
    (['max_kl=0.01,x'], 'max_kl'),
    (['max_kl=0.01,nan'], '--max_kl=nan is outside'),
    (['max_kl=-1'], '--max_kl=-1.0 is outside'),
    (['method=cem'], 'add --whole_episodes'),
    (['num_slots=7'], 'is not a multiple of --num_slots=7'),
    (['hidden_sizes=64,x'], 'write integers with commas'),
    (
      ['num_slots=' + ','.join(map(str, range(1, 1002)))],
      '1001 cells with 2 seeds are more than 2,000 runs',
    ),
  ],
)
def test_refusals(grid, message):
  with pytest.raises(UserError) as caught:
    _plan(*grid)
  assert message in str(caught.value)


def test_keyword_arguments_may_have_commas():
  axes, entries = _plan('env_kwargs={"a":1,"b":2};{"a":2}')
  assert len(entries) == 2 and len(axes[0].values) == 2
  (run, *_), _ = (entry.variants[''] for entry in entries)
  assert run.config.task.env_kwargs == '{"a": 1, "b": 2}'


def test_the_last_seed_has_to_be_one():
  last = flags.parse([f'--seed={2**31 - 2}'])
  _plan(base=last, seeds=2)
  with pytest.raises(UserError, match=f'--seed={2**31} is outside'):
    _plan(base=last, seeds=3)


@pytest.mark.parametrize(
  'task', ['NoSuch-v0', 'atari/no_such_game', 'no/file.py:TASK']
)
def test_tasks_are_looked_up_before_anything_runs(task):
  _, entries = _plan(f'task=CartPole-v1,{task}')
  with pytest.raises(UserError):
    sweep.make_table(entries)


# Values that all go together; the texts of two are never the same.
_VALUES = {
  'max_kl': ['0.01', '1e-3', '5'],
  'gamma': ['0.99', '1', '0'],
  'hidden_sizes': ['64,64', '', '3'],
  'activation': ['tanh', 'softplus'],
  'normalize_observations': ['true', 'false'],
  'initial_log_std': ['-0.5', '-2', '0'],
  'task': ['Hopper-v5', 'paper/hopper', '../a b%2F=c.py:X', 'ü'],
}


def _lists(values, **options):
  return strategies.lists(
    strategies.sampled_from([*values]), unique=True, **options
  )


@strategies.composite
def _grids(draw):
  names = draw(_lists(_VALUES, max_size=3))
  return {name: draw(_lists(_VALUES[name], min_size=1)) for name in names}


def _texts(grid):
  return [
    f'{name}={(";" if name == "hidden_sizes" else ",").join(values)}'
    for name, values in grid.items()
  ]


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(_grids(), strategies.randoms(use_true_random=False))
def test_every_cell_has_its_own_runs(grid, random):
  _, entries = _plan(*_texts(grid))
  assert len(entries) == np.prod([len(v) for v in grid.values()], initial=1)
  runs = [run for entry in entries for run in entry.runs('')]
  assert len({run.directory for run in runs}) == len(runs) == 2 * len(entries)
  # no directory is inside of another, and each is inside of OUT
  for run in runs:
    assert len(run.directory.parts) == len(grid) + 2 and '..' not in (
      run.directory.parts
    )
  # what train makes of a run's flags are the settings that were planned
  for run in random.sample(runs, min(3, len(runs))):
    assert flags.parse(run.flags) == run.config
  # cells differ in what the grid names, and in nothing else
  free = {*grid, 'seed', 'run_dir'}
  settings = [config_lib.settings(run.config) for run in runs]
  rest = [{n: v for n, v in s.items() if n not in free} for s in settings]
  assert all(others == rest[0] for others in rest)
  # the order of the grid and of its values does not move a run
  shuffled = {
    name: random.sample(grid[name], len(grid[name]))
    for name in random.sample([*grid], len(grid))
  }
  assert _places(_plan(*_texts(shuffled))[1]) == _places(entries)
  # nor does a further seed
  more = _places(_plan(*_texts(grid), seeds=3)[1])
  assert more.items() > _places(entries).items()


def _places(entries):
  runs = [run for entry in entries for run in entry.runs('')]
  return {run.directory: run.config for run in runs}


def _filled(tmp_path):
  """Three cells: both seeds, one seed so far, and nothing."""
  axes, entries = _plan('max_kl=0.01,0.02,0.03', out=tmp_path)
  first, second, _ = entries
  for seed, run in enumerate(first.runs('')):
    reproductions.write(run, np.arange(20) + 10 * seed)
  reproductions.write(second.runs('')[0], [5.0, np.nan, 7.0])
  return axes, entries


def test_table_and_curves(tmp_path):
  axes, entries = _filled(tmp_path)
  table = sweep.make_table(entries)
  written = sweep_report.write(table, axes, entries, tmp_path)
  assert written == ['table.md', 'curves.png']
  lines = (tmp_path / 'table.md').read_text().splitlines()
  rows = [re.split(r' *\| *', line)[1:-1] for line in lines if '|' in line]
  # the last tenth are two iterations: 18.5 and 28.5
  assert rows == [
    ['task', 'max_kl', 'seeds', 'iterations', 'env steps a run']
    + ['return (95 % interval)'],
    ['---'] * 6,
    ['CartPole-v1', '0.01', '2', '20', '20.0k', '23.500 (18.500 to 28.500)'],
    ['CartPole-v1', '0.02', '1 of 2', '3 of 20', '3.0k', '7.000'],
  ]
  assert '"n of m" marks what is not finished' in lines[1]
  assert (tmp_path / 'curves.png').read_bytes()[:4] == b'\x89PNG'


def test_many_cells_have_lines_of_their_own(tmp_path):
  values = ','.join(f'0.0{i}' for i in range(1, 10))
  _, entries = _plan(f'max_kl={values}', out=tmp_path, seeds=1)
  for entry in entries:
    reproductions.write(entry.runs('')[0], [1.0, 2.0])
  runs = [run_logs.load_run(entry.runs('')[0].directory) for entry in entries]
  (axis,) = plots.learning_curves(run_logs.group_runs(runs)).axes
  lines = {(line.get_color(), line.get_linestyle()) for line in axis.lines}
  assert len(lines) == 9
  labels = [text.get_text() for text in axis.get_legend().get_texts()]
  assert labels == [f'max_kl=0.0{i} (n=1)' for i in range(1, 10)]


def test_a_sweep_without_results_writes_nothing(tmp_path):
  axes, entries = _plan('max_kl=0.01,0.02', out=tmp_path)
  assert not sweep_report.write(
    sweep.make_table(entries), axes, entries, tmp_path
  )
  assert not list(tmp_path.iterdir())


def test_returns_that_are_never_known_make_no_curve(tmp_path):
  axes, entries = _plan(out=tmp_path, seeds=1)
  reproductions.write(entries[0].runs('')[0], [np.nan] * 3)
  table = sweep.make_table(entries)
  assert sweep_report.write(table, axes, entries, tmp_path) == ['table.md']
  assert '| - |' in (tmp_path / 'table.md').read_text()
  assert not (tmp_path / 'curves.png').exists()


def test_only_what_is_missing_is_run(tmp_path):
  _, entries = _filled(tmp_path)
  prepared, started, lines = tmp_path / 'prepared', [], []

  def arguments(run):
    """Puts a prepared directory in the place of that of the run."""
    started.append((run.method, run.seed))
    there = prepared / str(len(started))
    reproductions.write(run, [1.0] * 20, there)
    copy = (
      f'copytree({str(there)!r}, {str(run.directory)!r}, dirs_exist_ok=True)'
    )
    return ['-S', '-c', f'import shutil; shutil.{copy}']

  table = sweep.make_table(entries)
  campaign = Campaign(table, entries, LocalPool(1), lines.append)
  assert campaign.run(arguments) and not campaign.failures
  assert started == [
    ('max_kl=0.02', 4),
    ('max_kl=0.03', 4),
    ('max_kl=0.02', 5),
    ('max_kl=0.03', 5),
  ]
  assert lines[0].startswith('6 runs, 2 of them finished; at most ')
  assert lines[-1].endswith('6 of 6 runs done, about 0 s left')


@pytest.mark.parametrize(
  'task, speed', [('Hopper-v5', 5e3), ('CartPole-v1', 1e3), ('atari/pong', 700)]
)
def test_the_first_estimate(task, speed, tmp_path):
  """20 iterations of 2000 env steps in each of two runs, and their starts."""
  base = dataclasses.replace(
    _BASE, task=dataclasses.replace(_BASE.task, task=task)
  )
  _, entries = _plan(base=base, out=tmp_path)
  table = sweep.make_table(entries)
  work = [(entry, entry.runs('')) for entry in entries]
  seconds = estimate.seconds_left(table, work, logs.Logs(table), 1)
  steps = 20 * base.sampler.batch_steps
  assert seconds == pytest.approx(2 * (steps / speed + 8))
