"""What the learning curves show, and what they refuse to mix."""

import io
import pathlib

import numpy as np
import pytest
from absl import flags as absl_flags

from trpo_tf import config, errors
from trpo_tf.bin import plot
from trpo_tf.experiment import (
  evaluations,
  plots,
  run_directory,
  run_logs,
  sinks,
)
from trpo_tf.methods.record import IterationRecord


def _run(path, returns, every=100, evaluated=(), **settings):
  returns = np.asarray(returns, float)
  progress = {name: np.zeros(returns.size) for name in sinks.COLUMNS}
  progress['iteration'] = np.arange(1.0, returns.size + 1)
  progress['env_steps'] = every * np.arange(1.0, returns.size + 1)
  progress['elapsed_seconds'] = 3600.0 * np.arange(1, returns.size + 1)
  progress['return_mean'] = returns
  flat = config.settings(config.from_settings(settings))
  rows = [
    evaluations.Evaluated(i, int(every * i), mean, 0.0, 10, 1.0, 0)
    for i, mean in evaluated
  ]
  return run_logs.Run(pathlib.Path(path), flat, progress, rows)


def _labels(runs, by='settings'):
  return [
    (group.task, group.label, len(group.runs))
    for group in run_logs.group_runs(runs, by)
  ]


def test_groups_by_settings():
  runs = [
    _run('a', [1], seed=0),
    _run('b', [1], seed=1, total_env_steps=5, run_dir='b', sampler_threads=2),
    _run('c', [1], seed=0, max_kl=0.05, hidden_sizes=(8, 8)),
    _run('d', [1], seed=0, task='Ant-v5', gamma=0.9),
  ]
  assert _labels(runs) == [
    ('Hopper-v5', 'hidden_sizes=64,64, max_kl=0.01', 2),
    ('Hopper-v5', 'hidden_sizes=8,8, max_kl=0.05', 1),
    ('Ant-v5', 'Ant-v5', 1),
  ]


def test_groups_by_task_and_by_directory():
  runs = [
    _run('old/1', [1], seed=1),
    _run('new/1', [1], seed=1, gamma=0.9),
    _run('new/2', [1], seed=2, gamma=0.9),
  ]
  assert _labels(runs, 'task') == [('Hopper-v5', 'Hopper-v5', 3)]
  assert _labels(runs, 'dir') == [
    ('Hopper-v5', 'old', 1),
    ('Hopper-v5', 'new', 2),
  ]


def test_the_same_run_twice_is_refused():
  runs = [_run('a', [1], seed=1), _run('b', [2], seed=1)]
  with pytest.raises(errors.UserError, match='a and b have .* seed 1'):
    run_logs.group_runs(runs)
  assert len(_labels([_run('x/a', [1]), _run('y/a', [1])], 'dir')) == 2


def _panel(runs, **options):
  figure = plots.learning_curves(run_logs.group_runs(runs), **options)
  figure.canvas.draw()
  return figure.axes[0]


@pytest.mark.parametrize('x, unit', [('env_steps', 100), ('hours', 1)])
def test_evaluations_in_training(x, unit):
  """They have their iteration's env steps and time; one has no return."""
  runs = [
    _run('a', [0] * 5, evaluated=[(2, 7.0), (3, np.nan), (4, 9.0)], seed=0),
    _run('b', [0] * 5, evaluated=[(2, 1.0), (4, 5.0)], seed=1),
  ]
  axis = _panel(runs, x=x, y=run_logs.EVALUATED, smooth=0)
  first, _, mean = axis.lines
  np.testing.assert_array_equal(
    first.get_xydata(), [[2 * unit, 7], [4 * unit, 9]]
  )
  np.testing.assert_allclose(
    mean.get_xydata()[[0, -1]], [[2 * unit, 4], [4 * unit, 7]]
  )
  assert axis.get_ylabel() == 'return of the mean policy'
  with pytest.raises(errors.UserError, match='with --eval_every_env_steps'):
    _panel([_run('c', [1, 2])], y=run_logs.EVALUATED)


def test_evaluations_of_a_running_training_may_be_ahead(tmp_path):
  """progress.csv was read before the run's last iteration."""
  settings = config.from_settings(dict(run_dir=str(tmp_path)))
  with run_directory.RunDirectory.open(settings) as run:
    run.begin()
    file = sinks.CsvSink(run.progress_csv, None)
    file.write(sinks.Entry(IterationRecord(1, env_steps=9)))
    file.close()
    later = evaluations.EvaluationsFile(run.evaluations_csv, [])
    for iteration in (1, 2):
      later.write(evaluations.Evaluated(iteration, 9, 1.0, 0.0, 1, 1.0, 0))
    later.close()
  found = run_logs.load_run(tmp_path)
  assert [row.iteration for row in found.evaluated] == [1]


def test_mean_and_band_over_the_common_range():
  # Lines of slope 1, 2, 6 per 100 steps; the second ends at 300, the third
  # starts at 200 (no episode had ended before).
  runs = [
    _run('a', [1, 2, 3, 4], seed=0),
    _run('b', [2, 4, 6], seed=1),
    _run('c', [np.nan, 12, 18, 24], seed=2),
  ]
  axis = _panel(runs, smooth=0.0)
  *single, mean = axis.get_lines()
  assert [list(line.get_xdata()) for line in single] == [
    [100, 200, 300, 400],
    [100, 200, 300],
    [200, 300, 400],
  ]
  x = mean.get_xdata()
  assert (x[0], x[-1]) == (200, 300)
  np.testing.assert_allclose(mean.get_ydata(), 3 * x / 100, rtol=1e-12)
  (band,) = axis.collections
  vertices = band.get_paths()[0].vertices
  at_300 = vertices[vertices[:, 0] == 300][:, 1]
  # All 27 resamples of (3, 6, 18): the lowest mean, 3, and the highest, 18,
  # have probability 1/27 > 0.025 each.
  assert (at_300.min(), at_300.max()) == (3, 18)
  # a legend would only repeat the title
  assert axis.get_legend() is None
  assert axis.get_title(loc='left') == 'Hopper-v5 (n=3)'
  assert axis.get_xlabel() == 'env steps'


def test_lines_differ_without_colours_and_the_legend_is_below_them():
  runs = [
    _run('a', [5, 1], seed=0),
    _run('b', [1, 5], seed=0, max_kl=0.05),
    _run('c', [3, 3], seed=0, max_kl=0.07),
  ]
  axis = _panel(runs)
  axis.figure.savefig(io.BytesIO())  # places everything
  assert len({line.get_linestyle() for line in axis.get_lines()}) == 3
  legend = axis.get_legend()
  assert [text.get_text() for text in legend.get_texts()] == [
    f'max_kl={value} (n=1)' for value in ('0.01', '0.05', '0.07')
  ]
  box = legend.get_window_extent()
  assert box.y1 < axis.xaxis.get_label().get_window_extent().y0
  assert box.y0 > 0  # within the figure
  assert axis.get_title(loc='left') == 'Hopper-v5'


def test_a_long_legend_leaves_room_for_the_panel():
  runs = [
    _run(f'{i}', [i, i + 1], seed=0, max_kl=0.01 + i / 64, gamma=1 - i / 64)
    for i in range(20)
  ]
  axis = _panel(runs)
  axis.figure.savefig(io.BytesIO())
  box = axis.get_window_extent()
  few = _panel(runs[:1]).get_window_extent()
  assert box.height > 0.9 * few.height and box.width > 0.9 * few.width
  legend = axis.get_legend().get_window_extent()
  assert legend.y0 > 0
  assert legend.x1 < axis.figure.bbox.width


def test_a_single_run_keeps_its_points():
  returns = np.zeros(2000)
  returns[777] = 5.0
  (line,) = _panel([_run('a', returns)], smooth=0).get_lines()
  np.testing.assert_array_equal(line.get_ydata(), returns)


@pytest.mark.parametrize('seeds', [1, 2])
def test_a_single_iteration_is_a_point(seeds):
  axis = _panel([_run(f'{s}', [3.0], seed=s) for s in range(seeds)])
  line = axis.get_lines()[-1]
  assert (line.get_xydata() == [[100, 3]]).all() and line.get_marker() == 'o'


def test_moving_average():
  axis = _panel([_run('a', [0, 6, 0, 0, 12])], smooth=0.4)  # 200 of 500 steps
  (line,) = axis.get_lines()
  x = np.array([100, 200, 300, 400, 500])
  found = np.interp(x, line.get_xdata(), line.get_ydata())
  # The grid of 300 points lies up to 0.67 steps beside these corners, where
  # the slope is at most 4 / 100.
  np.testing.assert_allclose(found, [3, 2, 2, 4, 6], atol=0.67 * 0.04)
  assert axis.get_xlabel() == 'env steps (moving average over 200)'


def test_hours_and_another_column():
  axis = _panel([_run('a', [1, 2])], x='hours', y='entropy', smooth=0.5)
  assert list(axis.get_lines()[0].get_xdata()[[0, -1]]) == [1, 2]
  assert axis.get_xlabel() == 'hours (moving average over 1)'
  assert axis.get_ylabel() == 'entropy'


def test_runs_without_a_common_range_have_no_mean():
  runs = [
    _run('a', [1, 2, np.nan, np.nan], seed=0),
    _run('b', [np.nan, np.nan, 3, 4], seed=1),
  ]
  axis = _panel(runs, smooth=0.0)
  assert [len(line.get_xdata()) for line in axis.get_lines()] == [2, 2, 0]


def test_a_panel_for_each_task():
  runs = [_run('a', [1, 2], task=f'{name}-v5') for name in 'ABCD']
  figure = plots.learning_curves(run_logs.group_runs(runs))
  titles = [axis.get_title(loc='left') for axis in figure.axes]
  assert titles == ['A-v5', 'B-v5', 'C-v5', 'D-v5']


def test_nothing_to_draw():
  groups = run_logs.group_runs([_run('a', [np.nan])])
  with pytest.raises(errors.UserError, match='a has no finite return_mean'):
    plots.learning_curves(groups)
  for column in ('reward', 'step_status'):
    with pytest.raises(errors.UserError, match=f'--y={column}: choose'):
      plots.learning_curves(groups, y=column)


def _write_run(path, rows, **settings):
  settings = config.from_settings({'run_dir': str(path)} | settings)
  with run_directory.RunDirectory.open(settings) as run:
    run.begin()
    sink = sinks.CsvSink(run.progress_csv, None)
    for i in range(1, rows + 1):
      record = {name: float(i) for name in sinks.COLUMNS}
      record |= dict(iteration=i, env_steps=i, step_status='accepted')
      sink.write(sinks.Entry(IterationRecord(**record)))
    sink.close()


@pytest.fixture
def flags():
  values = absl_flags.FLAGS
  values.mark_as_parsed()
  saved = {name: values[name].value for name in ('out', 'group', 'y')}
  yield values
  for name, value in saved.items():
    setattr(values, name, value)


def test_program(tmp_path, capsys, flags):
  for seed in (1, 2):
    _write_run(tmp_path / f'runs/{seed}', 4, seed=seed)
  flags.out = str(tmp_path / 'figures/curve.png')
  plot.main([str(tmp_path / 'runs/*'), str(tmp_path / 'runs/1')])
  assert (tmp_path / 'figures/curve.png').read_bytes()[:4] == b'\x89PNG'
  assert capsys.readouterr().out.endswith('curve.png: 2 runs in 1 group\n')


def test_program_refuses(tmp_path, flags):
  _write_run(tmp_path / 'empty', 0)
  (tmp_path / 'foreign').mkdir()
  for patterns, says in (
    ([], 'name the directories'),
    (['empty'], 'no finished iteration yet'),
    (['foreign'], 'not the directory of a run'),
    (['missing*'], 'missing. is not a directory'),
  ):
    flags.out = str(tmp_path / 'curve.png')
    with pytest.raises(errors.UserError, match=says):
      plot.main([str(tmp_path / pattern) for pattern in patterns])
  for out, says in ((None, '--out is missing'), ('a.xyz', 'end it in .png')):
    flags.out = out
    with pytest.raises(errors.UserError, match=says):
      plot.main([str(tmp_path / 'empty')])
  assert not (tmp_path / 'curve.png').exists()


@pytest.mark.parametrize('smooth', [np.nan, np.inf, -0.1, 1.5])
def test_a_window_out_of_range(smooth):
  with pytest.raises(errors.UserError, match=f'--smooth={smooth} is outside'):
    _panel([_run('a', [1, 2])], smooth=smooth)


@pytest.mark.parametrize('name', ['x/$\\frac$-v0', '$x$-v0', '[/b]', '{', '\\'])
def test_a_task_is_no_formula(name):
  axis = _panel([_run('a', [1, 2], task=name)])
  assert axis.get_title('left') == name


def test_hours_that_are_missing_or_damaged():
  run = _run('a', [1, 2, 3])
  run.progress['elapsed_seconds'][1] = 0
  with pytest.raises(errors.UserError, match='the hours decrease'):
    _panel([run], x='hours')
  run.progress['elapsed_seconds'][:] = np.nan
  with pytest.raises(errors.UserError, match='no finite'):
    _panel([run], x='hours')
