"""Tables of Atari scores: gains, and the paper at the same env steps."""

import dataclasses
import json

import numpy as np
import reproductions

from trpo_tf import config as config_lib
from trpo_tf.experiment import provenance, run_record, sinks
from trpo_tf.reproduction import atari, atari_scores, atari_trials
from trpo_tf.reproduction.table import Curve


def _result(method, values, errors, env_steps):
  return reproductions.result(
    'pong',
    method,
    values,
    env_steps,
    errors=np.full(np.shape(values), errors),
    finished=env_steps[-1] >= 4_000_000,
    planned_env_steps=4_000_000,
    by_env_steps=True,
  )


def _cells(line):
  return [cell.strip() for cell in line.strip('|').split('|')]


def test_scores():
  """Half intervals of 3 and 4 make one of 5 for the difference."""
  curve = Curve(np.array([0.0, 2e6]), np.array([-20.0, 0.0]), np.zeros((0, 3)))
  table = dataclasses.replace(
    atari.TABLE, reference={'pong': {'single_path': curve}}
  )
  results = [
    _result('random', [[-20.0]], 3 / 1.96, [1e5]),
    _result('gae', [[-19.0, 4.0]], 4 / 1.96, [1e6, 2e6]),
    _result('single_path', [[-19.0, -9.0], [-19.0, -11.0]], 1, [1e6, 2e6]),
  ]
  *_, gae = atari_scores.table(table, results, 'gae').splitlines()
  assert _cells(gae) == [
    'Pong',
    '1',
    '2.0M of 4.0M',
    '4.000 (0.000 to 8.000)',
    '-20',
    '+24 (+19 to +29)',
    '-10',  # before the second iteration, which 1M env steps have trained
    '15.6',
  ]
  head, _, path = atari_scores.table(table, results, 'single_path').splitlines()
  assert _cells(path)[1] == '2' and _cells(path)[6] == '-10'
  assert len(_cells(path)) == len(_cells(head))
  assert len(atari_scores.table(table, results, 'vine').splitlines()) == 2


def test_trials(tmp_path):
  """100 episodes with a deviation of 2: the interval is 1.96 * 2 / 99**.5."""
  runs = {
    'pong/base': {},
    'pong/a_first': {'max_kl': 0.02, 'value_hidden_sizes': [8, 8]},
    'breakout/wide': {'value_hidden_sizes': [8, 8]},  # has no base of its own
  }
  columns = dict.fromkeys(sinks.COLUMNS, '0')
  columns |= {'env_steps': '1000000', 'episodes': '100', 'return_mean': '5'}
  columns |= {'iteration': '1', 'return_std': '2', 'step_status': 'accepted'}
  for name, changes in runs.items():
    path = tmp_path / name / '1000'
    path.mkdir(parents=True)
    lines = ','.join(columns), ','.join(columns.values())
    (path / 'progress.csv').write_text('\n'.join(lines) + '\n')
    settings = {**config_lib.settings(config_lib.ExperimentConfig()), **changes}
    settings |= {'task': f'atari/{path.parts[-3]}', 'seed': 1000}
    settings['run_dir'] = name
    record = run_record.new(settings, provenance.session())
    (path / 'run.json').write_text(json.dumps(record))
  rows = atari_trials.table(tmp_path).splitlines()[2:]
  end = ['1.0M', '1000', '5.0 (4.6 to 5.4)']
  assert [_cells(row) for row in rows] == [
    ['Breakout', '`--value_hidden_sizes=8,8`', *end],
    ['Pong', 'none', *end],
    ['Pong', '`--value_hidden_sizes=8,8 --max_kl=0.02`', *end],
  ]


def test_when_a_score_passes_a_value(tmp_path):
  lines = ['env_steps,score', '10000,nan', '20000,-3', '30000,16', '40000,14']
  (tmp_path / 'pong_gae_1.csv').write_text('\n'.join(lines) + '\n')
  *_, row = atari_scores.passed(atari.TABLE, tmp_path, 'gae').splitlines()
  assert _cells(row) == [
    'Pong',
    '1',
    '0: 0.03M, 15: 0.03M, 19: -',
    '0.04M: 14.00',
  ]


def test_after_equal_iterations(tmp_path):
  """The vine's two iterations beside the second of three of single path."""
  for folder in ('csv', 'vine'):
    (tmp_path / folder).mkdir()
  for method, steps, number in ('vine', 70000, 2), ('single_path', 20000, 3):
    rows = [f'{steps * i},{-20 + i},0.5' for i in range(1, number + 1)]
    text = '\n'.join(['env_steps,score,score_error', *rows]) + '\n'
    (tmp_path / 'csv' / f'pong_{method}_0.csv').write_text(text)
    (tmp_path / 'csv' / f'qbert_{method}_0.csv').write_text(text)
  found = {
    'sampled': {'return': {'mean': -16.25, 'ci95': [-17, -15.5]}},
    'deterministic': {'return': {'mean': -21.0, 'ci95': [-21, -21]}},
  }
  (tmp_path / 'vine/pong.json').write_text(json.dumps(found))
  table = atari_scores.after_equal_iterations(atari.TABLE, tmp_path)
  assert [_cells(row) for row in table.splitlines()[2:]] == [
    [
      'Pong',
      '2',
      '-18',
      '-16.25 (-17 to -15.5)',
      '-21 (-21 to -21)',
      '-18 (-18.98 to -17.02)',
      '0.04M',
    ]
  ]
