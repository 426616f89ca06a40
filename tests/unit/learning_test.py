"""Tables of learning and of trials, against numbers worked out by hand."""

import json
import pathlib

import numpy as np
import pytest

from trpo_tf.experiment import sinks
from trpo_tf.reproduction import ablations, learning, rivals, times, trials


def _run(folder, task, seed, mean, **columns):
  """Writes a run's evaluation and the given columns of its progress."""
  path = folder / str(seed)
  path.mkdir(parents=True)
  kind = {'return': {'mean': mean}}
  found = dict(task=task, seed=seed, env_steps=1_000_000)
  found |= dict(deterministic=kind, sampled=kind)
  (path / 'evaluation.json').write_text(json.dumps(found))
  rows = len(next(iter(columns.values()), ()))
  table = dict.fromkeys(sinks.COLUMNS, np.zeros(rows, int))
  count = np.arange(1, rows + 1)
  table |= {'iteration': count, 'env_steps': 1000 * count, **columns}
  table['step_status'] = ['accepted'] * rows
  lines = [','.join(map(str, row)) for row in zip(*table.values(), strict=True)]
  text = '\n'.join([','.join(table), *lines]) + '\n'
  (path / 'progress.csv').write_text(text)


def _rows(text):
  return [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in text.splitlines()[2:]
  ]


def test_bars_and_published_means(tmp_path):
  """Bold: the whole interval is above 4471, 3372, or -4.8; Pusher has none."""
  for task, means in {
    'HalfCheetah': [5000.0, 6000.0],
    'Hopper': [3000.0, 4200.0],
    'Pusher': [-20.0],
    'Reacher': [-3.5, -3.5],
  }.items():
    for seed, mean in enumerate(means):
      _run(tmp_path / task, f'{task}-v5', seed, mean)
  rows = learning.read(tmp_path)
  assert [row[1:3] for row in _rows(learning.bars(rows))] == [
    ['5800', '**5500** (5000 to 6000) **missed**'],
    ['3500', '3600 (3000 to 4200) met'],
    ['-27.0', '-20.0 met'],
    ['-3.30', '**-3.50** (-3.50 to -3.50) **missed**'],
  ]
  published = _rows(learning.against_published(rows))
  assert [row[2:] for row in published] == [
    ['2', '4471 (Tianshou, v3, 10 seeds)'],
    ['2', '3372 (sb3-contrib, v3, 3 seeds)'],
    ['1', '-'],
    ['2', '-4.80 (OpenAI Baselines, v1, 6 seeds)'],
  ]


def test_times(tmp_path):
  for seed, last in enumerate((100, 400, 50)):
    _run(tmp_path / 'ant', 'Ant-v5', seed, 1.0, elapsed_seconds=[9, last])
  seconds = times.median_seconds(tmp_path)
  assert seconds == {'Ant-v5': 100}
  assert _rows(times.of_runs(seconds, 1_000_000)) == [
    ['Ant-v5', '100', '10,000']
  ]


def test_time_to_reach(tmp_path):
  """Five iterations count, so a single high one does not; a tie does."""
  returns = {
    0: [0, 0, 10, 0, 0, 5, 5, 5, 5, 5],
    1: [5] * 10,
    2: [0] * 5 + [5] * 5,
    3: [4.9] * 10,
  }
  for seed, means in returns.items():
    seconds = 7.0 * np.arange(1, 11)
    columns = dict(return_mean=means, elapsed_seconds=seconds)
    _run(tmp_path, 'Hopper-v5', seed, 1.0, **columns)
  assert _rows(times.to_reach(tmp_path, 5)) == [
    ['0', '10,000', '70.0'],
    ['1', '5,000', '35.0'],
    ['2', '10,000', '70.0'],
    ['3', 'never', '-'],
    ['median of 4', '10,000', '70.0'],
  ]


def test_rival(tmp_path):
  """A task that the rival has not run is left out."""
  for task in ('Ant', 'Hopper'):
    _run(tmp_path / 'ours' / task, f'{task}-v5', 0, 3000.0)
  for seed, returns in {1: [10, 20], 0: [30, 50]}.items():
    run = dict(seed=seed, deterministic=returns, seconds=100.0, threads=1)
    path = tmp_path / 'rival/Ant-v5' / f'{seed}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run))
  rows = learning.read(tmp_path / 'ours')
  text = rivals.table(rows, {'Ant-v5': 9.4}, tmp_path / 'rival')
  assert _rows(text) == [
    ['Ant-v5', '3000', '9', '27.5 (15.0 to 40.0)', '0: 40.0, 1: 15.0']
    + ['100', '1']
  ]


def test_damping(tmp_path):
  """Iterations up to 200,000 env steps, or without an episode, do not count."""
  for name in ('base', 'damp1', 'damp10'):
    _run(
      tmp_path / f'inverted_double_pendulum_{name}',
      'InvertedDoublePendulum-v5',
      7,
      9000.0,
      env_steps=[200_000, 300_000, 400_000, 500_000],
      max_state_kl=[99, 1, 2, 6],
      episode_length_mean=[10, 1000, np.nan, 900],
    )
  rows = _rows(ablations.damping(tmp_path))
  assert [row[0] for row in rows] == ['0.1', '1', '10']
  assert rows[0][1:] == ['7', '2.00, 6.0', '50 %', '9000']


@pytest.mark.parametrize(
  'trial, text', [('base', 'none'), ('kl02', '`--max_kl=0.02`')]
)
def test_trials(tmp_path, trial, text):
  for seed, mean in ((1001, None), (1000, -3.6)):
    _run(tmp_path / f'reacher_{trial}', 'Reacher-v5', seed, mean)
  assert _rows(trials.v5(tmp_path)) == [
    ['Reacher-v5', text, '1.0M', '1000: -3.60, 1001: -']
  ]


def test_every_trial_is_described():
  """A folder with another name would be left out of the table."""
  folder = pathlib.Path(__file__).parents[2] / 'docs/results/v5_trials'
  runs = len(list(folder.glob('*/*/evaluation.json')))
  shown = [row[3].split(', ') for row in _rows(trials.v5(folder))]
  assert sum(map(len, shown)) == runs > 50
