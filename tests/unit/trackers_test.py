"""A tracking service that is slow or fails ends no run, and is counted."""

import sys
import threading

import pytest
import tiny

from trpo_tf import config
from trpo_tf.errors import UserError
from trpo_tf.experiment import sinks, trackers
from trpo_tf.methods.record import IterationRecord


class _Service:
  """Keeps what it gets; fails at some steps, and hangs at others."""

  def __init__(self, fails=(), hangs=()):
    self.got, self.finished = [], False
    self._fails, self._hangs = fails, hangs
    self.released = threading.Event()

  def log(self, env_steps, scalars):
    if env_steps in self._hangs:
      self.released.wait()
    if env_steps in self._fails:
      raise ConnectionError('no route\nto host')
    self.got.append((env_steps, scalars['progress/iteration']))

  def finish(self):
    self.finished = True


def _write(service, count, **options):
  """Writes to a sink of a service; returns what it said."""
  said = []
  sink = trackers.TrackerSink('wandb', service, said.append, **options)
  for i in range(1, count + 1):
    sink.write(sinks.Entry(IterationRecord(iteration=i, env_steps=100 * i)))
  sink.close()
  return said


def test_everything_arrives_in_order():
  service = _Service()
  assert _write(service, 50) == []
  assert service.got == [(100 * i, i) for i in range(1, 51)]
  assert service.finished


def test_failures_are_said_once_and_counted():
  service = _Service(fails=(200, 300, 500))
  warning, missing = _write(service, 5)
  assert warning == (
    'wandb failed (ConnectionError: no route to host): the run goes on, and '
    'counts the iterations that it could not send'
  )
  assert missing == (
    'wandb lacks 3 of the 5 iterations of this session: progress.csv has all '
    'of them'
  )
  assert [step for step, _ in service.got] == [100, 400]
  assert service.finished


def test_a_service_that_hangs():
  service = _Service(hangs=(200,))
  warning, missing = _write(service, 3, patience=0.05)
  assert warning.startswith('wandb failed (no answer in 0.05 s): the run goes')
  assert missing.startswith('wandb lacks 2 of the 3 iterations')
  service.released.set()


def test_a_service_that_hangs_holds_the_run_up_once():
  service = _Service(hangs=(100,))
  warning, missing = _write(service, 30, patience=0.05, queue_size=2)
  assert warning.startswith('wandb failed (no answer in 0.05 s): the run goes')
  assert missing.startswith('wandb lacks 30 of the 30 iterations')
  service.released.set()


def test_a_failing_service_does_not_hold_the_run_up():
  """It fails, then hangs: what does not fit into the queue is left out."""
  service = _Service(fails=(100,), hangs=(200,))
  said = []
  options = dict(patience=0.05, queue_size=2)
  sink = trackers.TrackerSink('mlflow', service, said.append, **options)
  sink.write(sinks.Entry(IterationRecord(iteration=1, env_steps=100)))
  while not said:  # until the failure is known
    sink._warn()
  for i in range(2, 30):
    sink.write(sinks.Entry(IterationRecord(iteration=i, env_steps=100 * i)))
  sink.close()
  assert said[-1].startswith('mlflow lacks 29 of the 29 iterations')
  service.released.set()


@pytest.mark.parametrize('name', ['wandb', 'mlflow'])
def test_a_package_that_is_missing(tmp_path, monkeypatch, name):
  monkeypatch.setitem(sys.modules, name, None)
  run = config.RunConfig(**{name: 'x'})
  needs = f"--{name}=x needs the package {name}: pip install 'trpo_tf.{name}.'"
  with pytest.raises(UserError, match=needs):
    trackers.require(config.ExperimentConfig(run=run))
  trackers.require(config.ExperimentConfig())
  with pytest.raises(UserError, match=needs):
    tiny.train(tmp_path / 'run', **{name: 'x'})
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('name', ['json_lines', 'wandb', 'mlflow'])
def test_a_run_without_a_directory(name):
  value = True if name == 'json_lines' else 'x'
  with pytest.raises(UserError, match=f'--{name} is for a run with a dir'):
    tiny.train('', **{name: value})
