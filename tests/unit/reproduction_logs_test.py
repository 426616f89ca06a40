"""What counts as finished, the metric, the choice of a sweep, the estimate."""

import dataclasses
import math

import numpy as np
import pytest
import reproductions

from trpo_tf.experiment import checkpoint, evaluations
from trpo_tf.reproduction import estimate, locomotion, logs

_N = reproductions.ITERATIONS


@pytest.fixture
def table(tmp_path):
  return reproductions.table(tmp_path / 'flagfiles')


@pytest.fixture
def entries(table, tmp_path):
  return reproductions.entries(table, tmp_path / 'out')


@pytest.fixture
def run(entries):
  return entries[0].variants[''][0]


def _configured(run, **settings):
  return dataclasses.replace(
    run.config, run=dataclasses.replace(run.config.run, **settings)
  )


def test_metric_is_the_return_over_the_horizon(run):
  progress = {'return_mean': np.array([math.nan, 500, math.nan, math.nan, 2e3])}
  values = locomotion.reward_per_step(progress, run.config)
  np.testing.assert_array_equal(values, [math.nan, 0.5, 0.5, 0.5, 2.0])
  task = dataclasses.replace(run.config.task, time_limit=100)
  limited = dataclasses.replace(run.config, task=task)
  values = locomotion.reward_per_step(progress, limited)
  np.testing.assert_array_equal(values, [math.nan, 5.0, 5.0, 5.0, 20.0])
  swimmer = dataclasses.replace(run.config.task, task='paper/swimmer')
  config = dataclasses.replace(run.config, task=swimmer)
  assert locomotion.reward_per_step(progress, config)[-1] == 4.0


def test_nothing_there(table, run):
  assert logs.read(table, run) is None
  run.directory.mkdir(parents=True)
  assert logs.read(table, run) is None
  reproductions.write(run, [])
  assert logs.read(table, run) is None
  assert not logs.Logs(table).finished(run)


def test_a_run_that_a_return_ends(table, run):
  config = _configured(run, stop_at_return=50.0, eval_every_env_steps=1000)
  run = dataclasses.replace(run, config=config)
  reproductions.write(run, [1.0, 2.0, 3.0])
  file = evaluations.EvaluationsFile(run.directory / 'evaluations.csv', [])
  file.write(evaluations.Evaluated(2, 2000, 49.0, 0.0, 1, 1.0, 0))
  assert not logs.read(table, run).finished
  file.write(evaluations.Evaluated(3, 3000, 50.0, 0.0, 1, 1.0, 0))
  file.close()
  log = logs.read(table, run)
  assert log.finished and log.values.size == 3


def test_interrupted_and_finished(table, run):
  read = logs.Logs(table)
  reproductions.write(run, np.arange(_N - 1) * 1000)
  log = read(run)
  assert not log.finished
  np.testing.assert_array_equal(log.values, np.arange(_N - 1))
  reproductions.write(run, np.arange(_N) * 1000)
  assert read.finished(run)


def test_finished_by_env_steps(table, run):
  """Iterations of the helper have 1000 of them."""
  by_steps = _configured(run, total_iterations=0, total_env_steps=4500)
  run = dataclasses.replace(run, config=by_steps)
  reproductions.write(run, [1.0] * 4)
  assert not logs.read(table, run).finished
  reproductions.write(run, [1.0] * 5)
  assert logs.read(table, run).finished


def test_a_longer_run_counts_up_to_the_plan(table, run):
  reproductions.write(run, np.arange(_N + 7.0), total_iterations=_N + 7)
  log = logs.read(table, run)
  assert log.finished
  assert log.values.size == log.progress['env_steps'].size == _N


def test_a_run_whose_last_state_was_not_saved_goes_on(table, run):
  reproductions.write(run, np.arange(_N) * 1000)
  folder = run.directory / 'checkpoints'
  for saved in folder.iterdir():
    saved.unlink()
  assert not logs.read(table, run).finished
  checkpoint.save(folder, _N - 1, {'x': 1}, keep=3)
  assert not logs.read(table, run).finished
  checkpoint.save(folder, _N, {'x': 1}, keep=3)
  assert logs.read(table, run).finished


def test_a_run_of_other_settings_does_not_count(table, run):
  reproductions.write(run, [1.0] * _N, max_kl=0.02)
  assert logs.read(table, run) is None


def test_tail_mean():
  assert logs.tail_mean(np.arange(30.0)) == 28.0  # of 27, 28, 29
  assert logs.tail_mean(np.array([1.0, 5.0])) == 5.0


def test_choice_of_a_sweep(table, entries):
  entry, read = entries[1], logs.Logs(table)
  high, low = entry.sweep
  assert logs.choose(entry, read) is None
  reproductions.write(high, [9.0] * (_N - 1))  # unfinished
  assert logs.choose(entry, read) is None
  reproductions.write(low, [0.0] * (_N - 2) + [4.0, 4.0])
  assert logs.choose(entry, read) == '0.1'
  reproductions.write(high, [9.0] * (_N - 2) + [3.0, 4.0])
  assert logs.choose(entry, read) == '0.1'
  assert logs.choose(entries[0], read) == ''


def test_max_env_steps_of_each_sampler(table, run):
  read = logs.Logs(table)

  def most(**settings):
    sampler = dataclasses.replace(run.config.sampler, **settings)
    config = dataclasses.replace(run.config, sampler=sampler)
    other = dataclasses.replace(run, config=config)
    return estimate.max_env_steps([other], read)

  assert most(batch_steps=2000) == _N * 2000
  # 10 slots of at most 199 + 1000 steps
  assert most(batch_steps=2000, num_slots=10, whole_episodes=True) == (
    _N * 10 * (199 + 1000)
  )
  vine = dict(
    sampler='vine',
    batch_steps=800,
    rollout_set_size=5,
    branch_actions=3,
    branch_trials=2,
    branch_length=7,
  )
  assert most(**vine) == _N * (800 + 5 * 3 * 2 * 7)
  reproductions.write(run, [1.0] * 8)
  assert estimate.max_env_steps([run], read) == (_N - 8) * 2000


@pytest.mark.parametrize('iterations', [0, 1000])
def test_env_steps_that_end_a_run_bound_it(table, entries, run, iterations):
  """Of a vine: its iterations are many times its trunks."""
  sampler = dataclasses.replace(
    run.config.sampler,
    sampler='vine',
    batch_steps=1000,
    rollout_set_size=100,
    branch_actions=4,
    branch_trials=1,
    branch_length=100,
  )
  ends = dataclasses.replace(
    run.config.run, total_iterations=iterations, total_env_steps=100_000
  )
  config = dataclasses.replace(run.config, sampler=sampler, run=ends)
  vine = dataclasses.replace(run, config=config)
  entry = dataclasses.replace(entries[0], variants={'': (vine,)})
  read = logs.Logs(table)
  each = 1000 + 100 * 4 * 100
  assert estimate.max_env_steps([vine], read) == 100_000 + each - 1
  speed = table.speeds['cartpole']
  assert estimate.seconds_left(table, [(entry, [vine])], read, 1) == (
    pytest.approx(3 * each / speed + 8)
  )
  # branches that fall: 1000 env steps an iteration
  reproductions.write(vine, [1.0] * 8)
  assert estimate.max_env_steps([vine], read) == 92_000 + each - 1
  assert estimate.seconds_left(table, [(entry, [vine])], read, 1) == (
    pytest.approx(92 * 2 + 8)
  )


def test_seconds_left(table, entries, run):
  read = logs.Logs(table)
  other = entries[0].variants[''][1]
  work = [(entries[0], [run, other])]

  def left(jobs):
    return estimate.seconds_left(table, work, read, jobs)

  one = _N * 2000 / table.speeds['cartpole'] + 8
  assert left(1) == pytest.approx(2 * one)
  assert left(2) == left(100) == pytest.approx(one)
  reproductions.write(run, [1.0] * 8)  # 2 seconds each
  assert left(1) == pytest.approx(12 * 2 + 8 + _N * 2 + 8)
  reproductions.write(run, [1.0] * _N)
  assert left(5) == pytest.approx(_N * 2 + 8)
