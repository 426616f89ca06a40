"""Comparisons of two sets of runs, against slow and against known numbers."""

import itertools
import json
import pathlib

import numpy as np
import programs
import pytest
import scipy.stats

from trpo_tf import config
from trpo_tf.errors import UserError
from trpo_tf.experiment import run_directory, run_sets, statistics

_PUBLISHED = pathlib.Path(__file__).parents[2] / 'docs/results'


def _run(folder, task, seed, mean, sampled=0.0, env_steps=1000):
  """Writes the evaluation of a run."""
  path = folder / f'{task}_{seed}'
  path.mkdir(parents=True, exist_ok=True)
  evaluation = dict(
    task=task,
    seed=seed,
    env_steps=env_steps,
    deterministic={'return': {'mean': mean}},
    sampled={'return': {'mean': sampled}},
  )
  (path / 'evaluation.json').write_text(json.dumps(evaluation))
  return path


def _set(folder, sampled=False, **returns):
  """Writes and loads a set of runs, whose returns are given by task."""
  for task, values in returns.items():
    for seed, value in enumerate(values):
      _run(folder, task, seed, value)
  return run_sets.load(folder.name, [str(folder)], sampled)


def test_probability_counts_pairs(tmp_path):
  a, b = [3.0, 1.0, 2.0, 2.0], [2.0, 0.0, 2.5]
  found = run_sets.compare(
    _set(tmp_path / 'a', x=a), _set(tmp_path / 'b', x=b)
  )['x']
  pairs = [(x > y) + (x == y) / 2 for x, y in itertools.product(a, b)]
  assert found.probability == pytest.approx(np.mean(pairs), abs=1e-12)
  u = scipy.stats.mannwhitneyu(a, b).statistic
  assert found.probability == pytest.approx(u / 12, abs=1e-12)
  assert found.mean.a == 2 and found.mean.b == 1.5
  assert found.mean.difference == 0.5
  iqm = [float(statistics.interquartile_mean(x)) for x in (a, b)]
  assert [found.iqm.a, found.iqm.b] == pytest.approx(iqm, abs=1e-12)
  assert found.iqm.difference == pytest.approx(iqm[0] - iqm[1], abs=1e-12)


def test_links_are_followed_and_each_run_counts_once(tmp_path):
  for seed in range(2):
    _run(tmp_path / 'elsewhere', 'x', seed, float(seed))
  folder = tmp_path / 'a'
  folder.mkdir()
  (folder / 'link').symlink_to(tmp_path / 'elsewhere')
  (folder / 'again').symlink_to(tmp_path / 'elsewhere')
  (tmp_path / 'elsewhere' / 'circle').symlink_to(folder)
  (folder / 'out').symlink_to(tmp_path)
  _run(tmp_path / 'other', 'x', 7, 1.0)
  found = run_sets.load('a', [str(folder)], sampled=False)
  assert found.seeds == {'x': (0, 1)}


def test_intervals_are_those_of_all_resamples(tmp_path):
  """27 x 27 pairs of resamples are few enough to list."""
  a, b = np.array([1.0, 2.0, 4.0]), np.array([0.5, 3.0, 3.5])
  found = run_sets.compare(
    _set(tmp_path / 'a', x=a), _set(tmp_path / 'b', x=b)
  )['x']
  every = [
    (
      np.mean(x) - np.mean(y),
      np.mean(np.greater.outer(np.array(x), np.array(y))),
    )
    for x in itertools.product(a, repeat=3)
    for y in itertools.product(b, repeat=3)
  ]
  exact = np.quantile(every, [0.025, 0.975], axis=0)
  # 10,000 draws move an end by a few of the 729 values at most
  np.testing.assert_allclose(found.mean.ci95, exact[:, 0], atol=0.17)
  np.testing.assert_allclose(found.probability_ci95, exact[:, 1], atol=0.12)


def test_a_set_against_itself_and_a_better_one(tmp_path):
  a = _set(tmp_path / 'a', x=[3.0, 1.0, 2.0])
  b = _set(tmp_path / 'b', x=[1.0, 2.0, 3.0])
  same = run_sets.compare(a, b)['x']
  assert same.probability == 0.5 and same.mean.difference == 0
  low, high = same.mean.ci95
  assert low == pytest.approx(-high, abs=0.35) and low < 0 < high
  best = run_sets.compare(_set(tmp_path / 'c', x=[8.0, 9.0]), b)['x']
  assert (best.probability, best.probability_ci95) == (1, (1, 1))
  assert best.mean.ci95[0] > 0


def test_the_order_of_the_runs_does_not_matter(tmp_path):
  values = [5.0, 1.0, 4.0, 2.5, 2.0, 9.0]
  b = _set(tmp_path / 'b', x=[1.0, 3.0, 2.0])
  one = run_sets.compare(_set(tmp_path / 'a', x=values), b)
  other = run_sets.compare(_set(tmp_path / 'c', x=values[::-1]), b)
  assert one == other


def test_tasks_count_the_same(tmp_path):
  """Whatever their unit and their number of runs."""
  a = _set(tmp_path / 'a', x=[1.0, 1.0], y=[0.0] * 6)
  b = _set(tmp_path / 'b', x=[0.0, 0.0], y=[1e3, 1e3])
  found = run_sets.compare(a, b)
  assert list(found) == ['x', 'y', '']
  assert [one.probability for one in found.values()] == [1, 0, 0.5]
  assert found['y'].mean.difference == -1e3
  assert found[''].mean.difference == 0
  assert [found[''].iqm.a, found[''].iqm.b] == pytest.approx([0.5, 0.5])
  assert found[''].mean.ci95 == (0, 0)


def test_equal_returns_have_no_width(tmp_path):
  a = _set(tmp_path / 'a', x=[7.0, 7.0], y=[1.0, 2.0])
  b = _set(tmp_path / 'b', x=[7.0, 7.0], y=[1.0, 2.0])
  found = run_sets.compare(a, b)
  assert found['x'].mean.ci95 == (0, 0)
  assert found[''].probability == 0.5


def test_weighted_interquartile_mean():
  rng = np.random.default_rng(0)
  values = rng.normal(size=(3, 10))
  np.testing.assert_allclose(
    statistics.interquartile_mean(values, weights=np.full(10, 0.1)),
    statistics.interquartile_mean(values),
    rtol=0,
    atol=1e-12,
  )
  # a value of weight 2/5 is two values
  assert statistics.interquartile_mean(
    [5.0, 1.0, 2.0, 9.0], weights=[0.4, 0.2, 0.2, 0.2]
  ) == pytest.approx(statistics.interquartile_mean([5, 1, 2, 9, 5]))


def _trained(folder, task, seed, gamma):
  """Writes the record and the evaluation of a run."""
  path = folder / f'{task}_{seed}'
  settings = dict(task=task, seed=seed, gamma=gamma, run_dir=str(path))
  with run_directory.RunDirectory.open(config.from_settings(settings)) as run:
    run.begin()
  _run(folder, task, seed, 1.0)


def test_a_set_has_one_setting_for_each_task(tmp_path):
  for task, seed, gamma in (('x', 0, 0.9), ('x', 1, 0.9), ('y', 0, 0.8)):
    _trained(tmp_path, task, seed, gamma)
  found = run_sets.load('a', [str(tmp_path)], False)
  assert found.seeds == {'x': (0, 1), 'y': (0,)}
  _trained(tmp_path, 'x', 2, gamma=0.7)
  with pytest.raises(UserError, match='several settings .*gamma=0.9.*=0.7'):
    run_sets.load('a', [str(tmp_path)], False)


def _documented_rates():
  """The columns (runs, share of wrong intervals) of docs/compare.md."""
  lines = (_PUBLISHED.parent / 'compare.md').read_text().splitlines()
  cells = [
    [cell.strip() for cell in line.strip('|').split('|')[1:]]
    for line in lines
    if line.startswith(('| runs in each set', '| the interval excludes'))
  ]
  pairs = zip(*cells, strict=True)
  return [(int(n), float(rate.removesuffix(' %')) / 100) for n, rate in pairs]


@pytest.mark.parametrize('n, rate', _documented_rates())
def test_how_often_few_seeds_mislead(n, rate):
  """Sets of one distribution; within four standard errors and a rounding."""
  rng, pairs, wrong = np.random.default_rng(0), 400, 0
  for _ in range(pairs):
    low, high = statistics.stratified_interval(
      rng.normal(size=(2, n)), run_sets._contrasts, resamples=1000
    )
    wrong += low[0] > 0 or high[0] < 0
  error = np.sqrt(rate * (1 - rate) / pairs)
  assert abs(wrong / pairs - rate) < 4 * error + 0.005


def test_published_runs(tmp_path):
  """Single path against the vine whose every step counts."""
  sets = [
    [
      str(_PUBLISHED / 'vine' / f'{task}_{name}')
      for task in ('hopper', 'half_cheetah')
    ]
    for name in ('single_path', 'every_step')
  ]
  a, b = (run_sets.load('set', paths, False) for paths in sets)
  found = run_sets.compare(a, b)
  assert list(found) == ['HalfCheetah-v5', 'Hopper-v5', '']
  assert found['Hopper-v5'].mean.a == pytest.approx(3443, abs=1)
  assert found['Hopper-v5'].mean.b == pytest.approx(3513, abs=1)
  for one in found.values():
    low, high = one.probability_ci95
    assert 0 <= low <= one.probability <= high <= 1
    for part in (one.mean, one.iqm):
      assert part.ci95[0] <= part.difference <= part.ci95[1]


def test_program(tmp_path):
  for name, offset in (('a', 10.0), ('b', 0.0)):
    for seed in range(3):
      _run(tmp_path / name, 'Ant-v5', seed, offset + seed, 5.0)
  for seed in range(2):
    _run(tmp_path / 'one', 'Ant-v5', 7 * seed, 1.0, env_steps=2000)
  _run(tmp_path / 'other', 'Walker2d-v5', 0, 1.0)
  _run(tmp_path / 'single', 'Ant-v5', 0, 1.0)
  _run(tmp_path / 'lost' / 'x', 'Ant-v5', 0, None)
  _run(tmp_path / 'twins' / 'x', 'Ant-v5', 0, 1.0)
  _run(tmp_path / 'twins' / 'y', 'Ant-v5', 0, 1.0)
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'raw' / 'run').mkdir(parents=True)
  (tmp_path / 'raw' / 'run' / 'run.json').write_text('{}')
  wrong = {
    ('a',): 'name two sets of runs, not 1: put patterns in quotes',
    ('a', 'b', 'one'): 'name two sets of runs, not 3: put patterns in quotes',
    ('a', 'none'): 'none is not a directory',
    ('a', 'empty'): 'empty holds no run: name directories of runs, or',
    ('a', 'raw'): 'raw/run has no evaluation.json: run python -m',
    ('a', 'lost'): 'lost/x/Ant-v5_0 has no return, as every episode',
    ('a', 'twins'): 'twins/x/Ant-v5_0 and twins/y/Ant-v5_0 are both Ant-v5',
    ('a', 'a/Ant-v5_1'): 'Ant-v5_1 is in both sets: name each run once',
    ('a', 'other'): 'a has runs of Ant-v5, and other has none',
    ('a', 'single'): 'single has one run of Ant-v5: an interval needs two',
    ('a', 'b', '--nope'): "Unknown command line flag 'nope'",
  }
  commands = [
    ['a', 'b/Ant*', '--json=new/found.json'],
    ['a', 'one', '--sampled'],
    *wrong,
  ]
  good, sampled, *bad = programs.run('compare', commands, tmp_path)
  assert (good.code, good.stderr, sampled.code) == (0, '', 0)
  assert max(map(len, good.stdout.splitlines())) <= 80
  words = ' '.join(good.stdout.split())
  assert '3 runs are few' in words
  assert 'trained for' not in words
  assert 'Ant-v5: trained for 1,000 to 2,000 env steps' in sampled.stdout
  assert 'A: a B: b/Ant* returns of the mean policy' in words
  rows = {
    line.strip('│ ').split('│')[0].strip(): line
    for line in good.stdout.splitlines()
    if '│' in line
  }
  cells = [cell.strip() for cell in rows['mean, A - B'].strip('│').split('│')]
  assert cells[1:4] == ['11.0', '1.0', '10.0']
  assert '1.00 to 1.00' in rows['P(A > B)']
  record = json.loads((tmp_path / 'new/found.json').read_text())
  assert record['tasks']['Ant-v5']['mean']['difference'] == 10
  assert record['tasks']['Ant-v5']['probability'] == 1
  assert record['a']['tasks']['Ant-v5']['returns'] == [10, 11, 12]
  assert record['b']['tasks']['Ant-v5']['seeds'] == [0, 1, 2]
  assert record['all_tasks_scaled'] is None
  assert 'returns of sampled actions' in sampled.stdout
  for (arguments, text), found in zip(wrong.items(), bad, strict=True):
    assert (found.code, found.stdout) == (2, ''), arguments
    assert text in found.stderr and found.stderr.count('\n') == 1, arguments
