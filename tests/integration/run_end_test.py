"""What ends a run early, and where it begins: stops, refusals, --init_from."""

import dataclasses

import numpy as np
import programs
import pytest
import tiny

from trpo_tf import config
from trpo_tf.errors import UserError
from trpo_tf.experiment import evaluations
from trpo_tf.experiment.training import Training

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  """A run with evaluations."""
  path = tmp_path_factory.mktemp('source') / 'run'
  tiny.train(path, **tiny.EVALUATED)
  return path


def test_stops_at_a_return(source, tmp_path):
  """The rows up to there are those of the run that goes on."""
  rows = evaluations.read(source / 'evaluations.csv')
  returns = [row.return_mean for row in rows]
  bound = max(returns[:-1])  # there is something left to do
  expected = rows[next(i for i, r in enumerate(returns) if r >= bound)]
  run = tmp_path / 'run'
  found = tiny.train(run, stop_at_return=bound, **tiny.EVALUATED)
  assert found[-1].state.iteration == expected.iteration < 8
  assert programs.progress(run) == programs.progress(source)[: len(found)]
  # the same command has nothing to do, and a higher bound goes on
  assert tiny.train(run, stop_at_return=bound, **tiny.EVALUATED) == []
  more = tiny.train(run, stop_at_return=1e9, **tiny.EVALUATED)
  assert more[0].state.iteration == expected.iteration + 1
  assert programs.progress(run) == programs.progress(source)


def test_a_bound_without_evaluations():
  with pytest.raises(ValueError, match='--stop_at_return=3 needs evaluations'):
    config.from_settings(tiny.SETTINGS | dict(stop_at_return=3.0))


_REFUSES = dict(max_kl=1e-30, total_iterations=9)  # no step is so short


def test_refused_steps_end_the_run(tmp_path):
  run = tmp_path / 'run'
  text = '^3 steps in a row were refused: docs/troubleshooting.md says'
  with pytest.raises(UserError, match=text):
    tiny.train(run, max_refused_steps=3, **_REFUSES)
  rows = programs.progress(run)
  assert len(rows) == 3
  with pytest.raises(UserError, match=text):  # it is not forgotten
    tiny.train(run, max_refused_steps=3, **_REFUSES)
  assert len(programs.progress(run)) == 3
  assert len(
    tiny.train(run, max_refused_steps=0, total_env_steps=1000, **_REFUSES)
  )


def test_begins_where_another_run_ended(source, tmp_path):
  """With its policy, normaliser and value network, and nothing else."""
  settings = config.from_settings(
    tiny.SETTINGS | dict(init_from=str(source), gamma=0.9, seed=8)
  )
  begun = Training(settings)
  ended = programs.final_state(source)
  for name in ('theta', 'normalizer/mean', 'learner/baseline/theta'):
    value = begun.state.tree()
    for key in name.split('/'):
      value = value[key]
    assert value.tobytes() == ended[f'/{name}'][-1]
  assert (begun.state.iteration, begun.state.env_steps) == (0, 0)
  plain = Training(dataclasses.replace(settings))
  np.testing.assert_equal(begun.sampler.state(), plain.sampler.state())


def test_continues_without_the_other_run(source, tmp_path):
  first, second = tmp_path / 'first', tmp_path / 'second'
  tiny.train(first, 400)
  whole = tiny.train(second, 800, init_from=str(first))
  parts = tmp_path / 'parts'
  tiny.train(parts, 400, init_from=str(first))
  first.rename(tmp_path / 'gone')
  more = tiny.train(parts, 800, init_from=str(first))
  assert len(more) == 2
  assert more[-1].state.theta.tobytes() == whole[-1].state.theta.tobytes()


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(hidden_sizes=(9,)), 'not a run with the same networks: state.theta'),
    (dict(value_hidden_sizes=(5,)), 'state.learner.baseline.theta is'),
    (dict(activation='relu'), 'it has --activation=tanh, .*=relu: add --activ'),
    (dict(action_range='control'), 'add --action_range=raw'),
    (dict(init_from='nowhere'), 'nowhere is not a directory'),
  ],
)
def test_another_run_that_does_not_fit(source, changes, message):
  settings = tiny.SETTINGS | dict(init_from=str(source)) | changes
  with pytest.raises(UserError, match=message) as caught:
    Training(config.from_settings(settings))
  assert '\n' not in str(caught.value)
