"""Runs that JSON lines, W&B and MLflow follow, with their real packages."""

import json
import logging
import sqlite3
import subprocess
import sys
import time

import programs
import pytest
import tiny

import trpo_tf
from trpo_tf.errors import UserError
from trpo_tf.experiment import progress

pytestmark = pytest.mark.slow

_STEPS = [200 * n for n in range(1, 9)]


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
  """A run that nothing follows."""
  path = tmp_path_factory.mktemp('plain') / 'run'
  tiny.train(path, **tiny.EVALUATED)
  return path


@pytest.fixture
def store(tmp_path, monkeypatch):
  """The file of MLflow."""
  path = tmp_path / 'mlflow.db'
  monkeypatch.setenv('MLFLOW_TRACKING_URI', f'sqlite:///{path}')
  return path


def _follow(run_dir, plain, **settings):
  """Trains in two sessions, the second of which repeats lost work."""
  settings |= tiny.EVALUATED | dict(checkpoint_seconds=0, keep_checkpoints=9)
  tiny.train(run_dir, 1000, **settings)
  for number in (4, 5):
    (run_dir / f'checkpoints/iteration_{number:08}.npz').unlink()
  found = tiny.train(run_dir, **settings)
  assert found[0].state.iteration == 4
  assert programs.progress(run_dir) == programs.progress(plain)
  assert programs.final_state(run_dir) == programs.final_state(plain)


def _id(run_dir):
  return json.loads((run_dir / 'run.json').read_text())['id']


def test_json_lines(plain, tmp_path):
  run = tmp_path / 'run'
  _follow(run, plain, json_lines=True)
  rows = progress.read(run / 'progress.csv').rows
  lines = (run / 'progress.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in lines] == [
    progress.values(row) for row in rows
  ]
  tiny.train(run, 1800)  # a file that is there goes on without the flag
  assert len((run / 'progress.jsonl').read_text().splitlines()) == 9


def test_wandb(plain, tmp_path):
  pytest.importorskip('wandb', reason='trpo_tf[wandb] is not installed')
  run = tmp_path / 'run'
  _follow(run, plain, wandb='project')
  name = f'run-{_id(run)}.wandb'
  sessions = sorted(run.glob(f'wandb/offline-run-*-{_id(run)}/{name}'))
  assert len(sessions) == 2
  for path in sessions:
    # a process of W&B's writes the file, once later than `finish` returned
    deadline = time.monotonic() + 30
    while b'evaluation/return_mean' not in path.read_bytes():
      assert time.monotonic() < deadline, path.read_bytes()
      time.sleep(0.1)
    content = path.read_bytes()
    assert b'step/mean_kl' in content and b'InvertedPendulum-v5' in content


def test_mlflow(plain, tmp_path, store):
  mlflow = pytest.importorskip(
    'mlflow', reason='trpo_tf[mlflow] is not installed'
  )
  run = tmp_path / 'run'
  _follow(run, plain, mlflow='experiment')
  client = mlflow.MlflowClient()
  place = client.get_experiment_by_name('experiment')
  (found,) = client.search_runs([place.experiment_id])
  assert found.info.status == 'FINISHED'
  assert found.data.tags['trpo_tf.run'] == _id(run)
  assert found.data.params['task'] == 'InvertedPendulum-v5'
  rows = progress.read_csv(run / 'progress.csv')
  for tag, values in {
    'progress/env_steps': _STEPS,
    'step/mean_kl': rows['mean_kl'].tolist(),
  }.items():
    history = client.get_metric_history(found.info.run_id, tag)
    assert [point.step for point in history] == _STEPS
    assert [point.value for point in history] == values
  history = client.get_metric_history(
    found.info.run_id, 'evaluation/return_std'
  )
  assert [point.step for point in history] == _STEPS[1::2]


def test_mlflow_that_breaks_in_training(plain, tmp_path, store, caplog):
  pytest.importorskip('mlflow', reason='trpo_tf[mlflow] is not installed')
  run = tmp_path / 'run'
  settings = tiny.SETTINGS | tiny.EVALUATED | dict(seed=5)
  training = trpo_tf.train(
    **settings, total_env_steps=1600, run_dir=run, mlflow='experiment'
  )
  next(training)
  with sqlite3.connect(store) as database:
    database.execute('DROP TABLE metrics')
  with caplog.at_level(logging.WARNING, 'trpo_tf'):
    assert len(list(training)) == 7
  assert programs.progress(run) == programs.progress(plain)
  assert programs.final_state(run) == programs.final_state(plain)
  said = [r.getMessage() for r in caplog.records if r.name == 'trpo_tf']
  warning, missing = (text for text in said if text.startswith('mlflow'))
  assert warning.startswith('mlflow failed (MlflowException')
  assert 'of the 8 iterations of this session' in missing
  assert all('\n' not in text for text in said)


# W&B's own process, the only child, dies while the sink writes.
_KILLED = """
import itertools, os, pathlib, signal, sys, time
from trpo_tf import config
from trpo_tf.experiment import sinks, trackers, tracking_services
from trpo_tf.methods.record import IterationRecord

said, folder = [], pathlib.Path(sys.argv[1])
service = tracking_services.WeightsAndBiases(
  'project', '0' * 32, folder, config.ExperimentConfig()
)
sink = trackers.TrackerSink('wandb', service, said.append)
for i in itertools.count(1):
  sink.write(sinks.Entry(IterationRecord(iteration=i, env_steps=i)))
  if i == 3:
    tasks = pathlib.Path('/proc/self/task').glob('*/children')
    children = ' '.join(task.read_text() for task in tasks).split()
    assert children
    for child in children:
      os.kill(int(child), signal.SIGKILL)
  if said:
    break
  time.sleep(0.01)
sink.close()
print(*said, sep='\\n')
"""


def test_wandb_that_dies_in_training(tmp_path, monkeypatch):
  pytest.importorskip('wandb', reason='trpo_tf[wandb] is not installed')
  # where W&B has put the address of this process's service, which stays
  monkeypatch.delenv('WANDB_SERVICE', raising=False)
  done = subprocess.run(
    [sys.executable, '-c', _KILLED, tmp_path],
    env=programs.environment(),
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 0, done.stderr
  warning, missing = done.stdout.splitlines()
  assert warning.startswith('wandb failed (Connection')
  assert missing.startswith('wandb lacks ')


@pytest.mark.parametrize(
  ('name', 'value', 'words'),
  [
    ('wandb', 'a/b', '--wandb=a/b: UsageError: Invalid project name'),
    ('mlflow', 'x', '--mlflow=x: UnsupportedModelRegistryStoreURI'),
  ],
)
def test_a_service_that_refuses_the_run(
  tmp_path, monkeypatch, name, value, words
):
  pytest.importorskip(name, reason=f'trpo_tf[{name}] is not installed')
  monkeypatch.setenv('MLFLOW_TRACKING_URI', 'nosuch://host')
  with pytest.raises(UserError) as error:
    tiny.train(tmp_path / 'run', **{name: value})
  assert str(error.value).startswith(words)
  assert '\n' not in str(error.value)
  # the directory stays free for a run without the service
  tiny.train(tmp_path / 'run', 200)
