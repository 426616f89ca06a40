"""The table against numbers worked out by hand, the figure and the files."""

import csv
import dataclasses
import io

import numpy as np
import pytest
import reproductions

from trpo_tf.reproduction import figure, logs, markdown, report, results

_N = reproductions.ITERATIONS


@pytest.fixture
def table(tmp_path):
  return reproductions.table(tmp_path / 'flagfiles')


@pytest.fixture
def entries(table, tmp_path):
  return reproductions.entries(table, tmp_path / 'out')


def _gather(table, entries):
  return results.gather(table, entries, logs.Logs(table))


def _rows(text):
  lines = [line for line in text.splitlines() if line.startswith('| ')]
  return [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in lines
    if not line.startswith('| method')
  ]


def _fill(entries):
  """Finishes all but the walker's; seed s has the returns s + 0, 1, ...."""
  for entry in entries:
    if entry.task == 'cartpole':
      for variant, runs in entry.variants.items():
        level = 1 + 1000 * (variant == '3')
        for run in runs:
          returns = 1000 * (level + run.seed + np.arange(_N))
          reproductions.write(run, returns)


def test_numbers_by_hand(table, entries):
  _fill(entries)
  vine, gradient, cma = _gather(table, entries)
  assert vine.values.shape == (2, _N)
  assert vine.window == 1  # 5 % of 20
  # seeds 0 and 1 end with 1 + 19 and 2 + 19
  np.testing.assert_array_equal(vine.final, [20, 21])
  assert vine.final_interval == (20, 21)
  # iteration 20 is the paper's 19, between (10, 1) and (30, 3)
  assert vine.reference_there == pytest.approx(1.9)
  assert vine.reference_end == cma.reference_end == 3
  assert gradient.setting == 'lagrange_multiplier=3'
  # the last tenth: iterations 19 and 20
  assert gradient.sweep == {'3': 1001 + 18.5, '0.1': 1 + 18.5}
  assert np.isnan([gradient.reference_there, gradient.reference_end]).all()


def _result(values, task='cartpole', method='vine', **fields):
  """One seed whose iterations have 1000 env steps."""
  steps = 1000.0 * np.arange(1, len(values) + 1)
  given = dict(planned_iterations=40, window=2)
  return reproductions.result(task, method, [values], steps, **given | fields)


def test_a_longer_window():
  result = _result(np.arange(40) ** 2, reference=reproductions.REFERENCE)
  assert result.final == (38**2 + 39**2) / 2
  assert np.isnan(result.reference_there)  # the paper's end at 30
  shorter = _result(np.zeros(31), reference=reproductions.REFERENCE)
  assert shorter.reference_there == pytest.approx((2.9 + 3.0) / 2)
  assert np.isnan(shorter.final_interval).all()  # one seed


def test_one_seed_with_errors_and_env_steps():
  curve = results.Curve(
    np.array([0.0, 4000.0]), np.array([0.0, 8.0]), np.zeros((0, 3))
  )
  result = _result(
    [1, 2, 5],
    errors=np.array([[9.0, 9.0, 0.5]]),
    reference=curve,
    by_env_steps=True,
    window=1,
    planned_iterations=0,
    planned_env_steps=3000,
  )
  assert result.final_interval == pytest.approx((5 - 0.98, 5 + 0.98))
  np.testing.assert_allclose(result.interval[1], [1 + 17.64, 2 + 17.64, 5.98])
  # the third batch is of a policy that has learned from 2000 env steps
  np.testing.assert_array_equal(result.x, [0, 1000, 2000])
  assert result.reference_there == pytest.approx(4)
  assert not result.unfinished
  assert dataclasses.replace(result, finished=False).unfinished


def test_table(table, entries):
  _fill(entries)
  text = markdown.render(table, 'short', _gather(table, entries))
  assert _rows(text) == [
    [
      'vine',
      '2',
      '20',
      '20.0k',
      '**20.500** (20.000 to 21.000)',
      '1.900',
      '3.000',
    ],
    [
      'natural gradient (lagrange_multiplier=3)',
      '2',
      '20',
      '20.0k',
      '1020.5 (1020.0 to 1021.0)',
      '-',
      '-',
    ],
    [
      'CMA',
      '2',
      '20',
      '20.0k',
      '**20.500** (20.000 to 21.000)',
      '1.900',
      '3.000',
    ],
  ]
  assert '## cart-pole\n' in text and '## walker' not in text
  assert 'n of m' not in text
  assert 'tenth of the iterations: 3: 1019.5, 0.1: 19.500.' in text
  for words in (
    'Budget `short`',
    'reward per env step',
    'percentile',
    'arXiv 1502.05477v5',
    'last 5 %',
  ):
    assert words in text


def test_unfinished_runs_count_up_to_the_common_iteration(table, tmp_path):
  entries = reproductions.entries(table, tmp_path / 'out', seeds=3)
  first, second, _ = entries[0].variants['']
  reproductions.write(first, 1000 * np.arange(1.0, 21))
  reproductions.write(second, 1000 * np.arange(3.0, 14))  # 11 iterations
  text = markdown.render(table, 'short', _gather(table, entries))
  assert _rows(text) == [
    [
      'vine',
      '2 of 3',
      '11 of 20',
      '11.0k',
      '**12.000** (11.000 to 13.000)',
      '1.000',
      '3.000',
    ],
  ]
  assert '"n of m" and "so far" mark runs that are not finished' in text


def _log(env_steps, values, finished=True):
  values = np.array(values, float)
  progress = {'env_steps': np.array(env_steps)}
  return logs.Log(progress, values, np.full_like(values, np.nan), finished)


@pytest.mark.parametrize('total_iterations', [0, 40])
def test_runs_that_env_steps_end(table, tmp_path, total_iterations):
  """Iterations of different sizes; each run counts up to its own end."""
  table = dataclasses.replace(table, window=0.5)
  entry = reproductions.entries(table, tmp_path / 'out')[0]
  run = dict(total_iterations=total_iterations, total_env_steps=4000)
  runs = [
    dataclasses.replace(
      planned,
      config=dataclasses.replace(
        planned.config, run=dataclasses.replace(planned.config.run, **run)
      ),
    )
    for planned in entry.variants['']
  ]
  entry = dataclasses.replace(entry, variants={'': tuple(runs)})
  few, many = _log([2000, 4000], [1, 3]), _log([1000, 2500, 4001], [5, 6, 9])
  found = dict(zip((str(r.directory) for r in runs), (few, many), strict=True))

  def gathered():
    (result,) = results.gather(
      table, [entry], lambda planned: found[str(planned.directory)]
    )
    return result

  result = gathered()
  assert not result.unfinished
  np.testing.assert_array_equal(result.env_steps, [[1000, 2500, 4000]] * 2)
  at_4000 = 9 - 3 * 1 / 1501  # between its last two iterations
  np.testing.assert_allclose(result.values, [[1, 1.5, 3], [5, 6, at_4000]])
  np.testing.assert_allclose(result.final, [(1.5 + 3) / 2, (6 + at_4000) / 2])
  assert markdown.counts(result) == ('2', '2 to 3', '4.0k')
  found[str(runs[1].directory)] = _log([1000, 2500], [5, 6], finished=False)
  if total_iterations == 0:
    result = gathered()
    assert markdown.counts(result) == ('2', '2', '2.5k of 4.0k')
    np.testing.assert_allclose(result.values, [[1, 1.5], [5 + 2 / 3, 6]])


def test_a_seed_that_has_just_begun_does_not_make_a_level(table, tmp_path):
  entries = reproductions.entries(table, tmp_path / 'out')
  first, second = entries[0].variants['']
  reproductions.write(first, [1000.0] * _N)
  reproductions.write(second, [3000.0])
  (axis,) = figure.draw(table, _gather(table, entries)).axes
  ours = [line for line in axis.lines if list(line.get_ydata()) == [2.0]]
  assert [list(line.get_xdata()) for line in ours] == [[0.0]]


def test_a_sweep_that_is_not_finished(table, entries):
  high, low = entries[1].sweep
  reproductions.write(high, [9000.0] * (_N - 1))
  assert not _gather(table, entries)
  reproductions.write(low, [500.0] * _N)
  text = markdown.render(table, 'short', _gather(table, entries))
  assert 'last tenth of the iterations: 3: -, 0.1: 0.500.' in text
  assert _rows(text)[0][:2] == [
    'natural gradient (lagrange_multiplier=0.1)',
    '1 of 2',
  ]


def test_a_single_seed_has_no_interval(table, tmp_path):
  entries = reproductions.entries(table, tmp_path / 'out', seeds=1)
  reproductions.write(entries[0].variants[''][0], [500.0] * _N)
  (row,) = _rows(markdown.render(table, 'short', _gather(table, entries)))
  assert row[4] == '0.500'


def test_figure(table, entries):
  _fill(entries)
  for run in entries[3].variants['']:  # the walker's vine
    reproductions.write(run, [100.0] * 5)
  drawn = figure.draw(table, _gather(table, entries))
  drawn.canvas.draw()
  panels = {axis.get_title(loc='left'): axis for axis in drawn.axes}
  assert list(panels) == [
    'cart-pole: TRPO',
    'cart-pole: other gradient steps',
    'cart-pole: gradient-free',
    'walker: TRPO',
  ]
  first, gradient, free, walker = panels.values()
  # ours and the paper's; natural gradient is not in this paper
  assert [len(axis.lines) for axis in drawn.axes] == [2, 1, 2, 1]
  np.testing.assert_array_equal(walker.lines[0].get_xdata(), range(5))
  np.testing.assert_array_equal(walker.lines[0].get_ydata(), [0.1] * 5)
  ours, paper = first.lines
  np.testing.assert_allclose(ours.get_ydata(), np.arange(1.5, 21))
  # the paper's 30 iterations are cut at our last, which is its 19
  np.testing.assert_allclose(paper.get_xdata(), [0, 10, 19])
  np.testing.assert_allclose(paper.get_ydata(), [0, 1, 1.9])
  assert ours.get_color() == paper.get_color() == walker.lines[0].get_color()
  assert ours.get_linestyle() != paper.get_linestyle()
  # a task has one scale, and iterations are whole
  assert first.get_ylim() == gradient.get_ylim() == free.get_ylim()
  for axis in drawn.axes:
    assert all(tick == round(tick) for tick in axis.get_xticks())
  (legend,) = drawn.legends
  assert [text.get_text() for text in legend.get_texts()] == [
    'vine',
    'natural gradient',
    'CMA',
    'ours (solid)',
    'paper (dashed)',
  ]


def test_every_method_has_its_own_colour_and_marker():
  table = reproductions.locomotion.TABLE
  result = [
    _result(np.zeros(3), task, method)
    for task, methods in table.tasks.items()
    for method in methods
  ]
  axes = figure.draw(table, result).axes
  assert len(axes) == 12
  for look in ('get_color', 'get_marker'):
    cartpole, walker = (
      [getattr(line, look)() for axis in row for line in axis.lines]
      for row in (axes[:3], axes[9:])
    )
    assert len(set(cartpole)) == len(cartpole) == 9
    assert set(walker) < set(cartpole)


def test_each_method_is_in_one_family():
  table = reproductions.locomotion.TABLE
  methods = [m for family in table.families.values() for m in family]
  assert sorted(methods) == sorted(table.methods)


def test_files(table, entries, tmp_path):
  out, docs = tmp_path / 'out', tmp_path / 'docs'
  assert not report.write(table, 'short', entries, [out])
  _fill(entries)
  (docs / 'csv').mkdir(parents=True)
  (docs / 'csv' / 'of_another_run.csv').write_text('kept')
  assert report.write(table, 'short', entries, [out, docs])
  for name in ('table.md', 'figure.png', 'csv/cartpole_vine_1.csv'):
    assert (out / name).read_bytes() == (docs / name).read_bytes()
  assert (docs / 'figure.png').read_bytes()[:4] == b'\x89PNG'
  assert sorted(p.name for p in (docs / 'csv').iterdir()) == [
    'cartpole_cma_0.csv',
    'cartpole_cma_1.csv',
    'cartpole_natural_gradient_0.1_0.csv',
    'cartpole_natural_gradient_0.1_1.csv',
    'cartpole_natural_gradient_3_0.csv',
    'cartpole_natural_gradient_3_1.csv',
    'cartpole_vine_0.csv',
    'cartpole_vine_1.csv',
    'of_another_run.csv',
  ]
  text = (docs / 'csv' / 'cartpole_vine_1.csv').read_text()
  rows = list(csv.DictReader(io.StringIO(text)))
  assert len(rows) == _N
  assert rows[1] == {
    'iteration': '2',
    'env_steps': '2000',
    'reward_per_step': '3',
    'return_mean': '3000',
    'mean_kl': '0.00333333',
    'max_state_kl': '0',
    'entropy': '0',
    'diverged': '0',
    'elapsed_seconds': '4',
  }
