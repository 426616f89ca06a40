"""The count of steps that exceed their KL bound, against counts by hand."""

import dataclasses
import json

import numpy as np
import pytest
import reproductions

from trpo_tf import config as config_lib
from trpo_tf.reproduction import logs, published, reliability, report


def _run(kl, status=None, **settings):
  """A run with a delta of 0.01."""
  config = config_lib.from_settings({'max_kl': 0.01, **settings})
  kl = np.array(kl)
  progress = {'mean_kl': kl, 'max_state_kl': 10 * kl}
  if status:
    progress['step_status'] = np.array(status)
  return progress, config


def test_a_step_above_the_bound_is_counted():
  runs = [
    _run([0.009, 0.01, 0.011, 0.0]),
    _run([0.05, 0.005], ['kl_exceeded', 'accepted']),
  ]
  (found,) = reliability.count('group', runs)
  assert found == reliability.KlCount(
    'group', 1, 2, 4, 1, 1, pytest.approx(1.1)
  )


def test_the_slack_has_its_own_row_and_moves_the_bound():
  runs = [_run([0.009]), _run([0.015, 0.021, 0.005], kl_slack=2.0)]
  exact, slack = reliability.count('group', runs)
  assert (exact.kl_slack, exact.accepted, exact.violations) == (1, 1, 0)
  assert (slack.kl_slack, slack.accepted) == (2, 3)
  assert (slack.above_delta, slack.violations) == (2, 1)


def test_max_kl_bounds_the_worst_state_and_others_nothing():
  bounded = _run([0.002], method='max_kl', fisher_fraction=1.0)
  free = _run([5.0], method='natural_gradient')
  (found,) = reliability.count('group', [bounded, free])
  assert (found.runs, found.violations) == (1, 1)  # 0.02 of a state
  assert not reliability.count('group', [free])


def test_totals():
  counts = [
    reliability.KlCount('a', 1, 2, 30, 0, 0, 0.9),
    reliability.KlCount('b', 1, 1, 1000, 2, 2, 1.5),
    reliability.KlCount('c', 2, 1, 10, 5, 0, 1.8),
  ]
  *_, first, second = reliability.markdown(counts).splitlines()
  assert first == '| all of these | 1 | 3 | 1,030 | 2 (0.2%) | 2 | 1.500 |'
  assert second == '| all of these | 2 | 1 | 10 | 5 (50.0%) | 0 | 1.800 |'


@pytest.mark.parametrize('error', [None, lambda columns, _: columns['mean_kl']])
def test_the_csv_files_of_a_report_are_its_logs(tmp_path, error):
  table = reproductions.table(tmp_path / 'flagfiles')
  table = dataclasses.replace(table, error=error)
  entries = reproductions.entries(table, tmp_path / 'out')
  for run in entries[0].variants['']:
    reproductions.write(run, 1000 * (run.seed + np.arange(20.0)))
  report.write(table, 'short', entries, [tmp_path / 'docs'])
  read = published.CsvLogs(table, tmp_path / 'docs')
  for run in entries[0].variants['']:
    want, got = logs.read(table, run), read(run)
    np.testing.assert_allclose(got.values, want.values, rtol=1e-5)
    np.testing.assert_allclose(got.errors, want.errors, rtol=1e-5)
    assert np.isfinite(got.errors).all() == (error is not None)
    for name, column in got.progress.items():
      if name not in (table.metric_name, table.error_name):
        np.testing.assert_allclose(column, want.progress[name], rtol=1e-5)
    assert got.finished and want.finished
  assert read(entries[1].variants['3'][0]) is None
  assert len(reliability.planned_runs(entries, read)) == 2


def test_drawn_calls_are_added_up(tmp_path):
  calls = dict(
    one={'1': dict(calls=900, refused=800, findings=0)}
    | {'2': dict(calls=600, refused=500, findings=1)},
    two={'1': dict(calls=5, refused=5, findings=0)},
  )
  path = tmp_path / 'fuzz.json'
  path.write_text(json.dumps(calls))
  assert reliability.fuzz(path).splitlines()[2:] == [
    '| one | 1,500 | 1,300 | 1 |',
    '| two | 5 | 5 | 0 |',
    '| all calls | 1,505 | 1,305 | 1 |',
  ]
