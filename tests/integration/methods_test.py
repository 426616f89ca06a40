"""Every method, with the real sampler: it steps, and a resume is exact."""

import dataclasses

import numpy as np
import pytest

from trpo_tf import config
from trpo_tf.experiment.training import Training
from trpo_tf.methods import kl_penalty
from trpo_tf.optim.step import StepStatus

_PATHS = dict(
  task='paper/cartpole',
  time_limit=50,
  hidden_sizes=(),
  num_slots=20,
  batch_steps=20,
  whole_episodes=True,
  baseline='time',
  fisher_fraction=1.0,
  total_env_steps=10**9,
  fit_evaluations=5,
)
_STEPS = [m for m in config.METHODS if m in config.STEP_METHODS]


def _training(method, state=None, **settings) -> Training:
  values = _PATHS | dict(method=method) | settings
  return Training(config.from_settings(values), state)


def _records(training, count):
  """Records without times, one an iteration."""
  records = []
  for iteration in training.iterations():
    numbers = dataclasses.asdict(iteration.record)
    records.append({k: v for k, v in numbers.items() if 'second' not in k})
    if len(records) == count:
      break
  return records


@pytest.mark.slow
@pytest.mark.parametrize('method', config.METHODS)
def test_moves_and_resumes_exactly(method):
  training = _training(method)
  start = training.state.theta.copy()
  (first,) = _records(training, 1)
  tree = training.state.tree()
  moved = training.state.theta.copy()
  assert np.abs(moved - start).max() > 0 and np.isfinite(moved).all()
  assert first['episodes'] == 20 and np.isfinite(first['return_mean'])
  again = _training(method, tree)
  np.testing.assert_array_equal(again.state.theta, moved)
  np.testing.assert_equal(_records(again, 1), _records(training, 1))
  np.testing.assert_array_equal(again.state.theta, training.state.theta)


def test_candidates_act_in_any_continuous_environment():
  settings = dict(task='Pendulum-v1', time_limit=0, elite_fraction=0.5)
  (record,) = _records(
    _training('cem', num_slots=4, batch_steps=4, **settings), 1
  )
  assert record['episodes'] == 4 and np.isfinite(record['return_mean'])


@pytest.mark.slow
@pytest.mark.parametrize('method', _STEPS)
def test_a_step_raises_the_surrogate(method):
  (record,) = _records(_training(method), 1)
  assert record['step_status'] == StepStatus.ACCEPTED.name.lower()
  assert record['surrogate_after'] > record['surrogate_before']
  assert record['mean_kl'] > 0


def test_kl_coefficient_adapts_and_is_kept():
  settings = dict(adapt_kl_coefficient=True, kl_coefficient=4.0)
  training = _training('kl_penalty', **settings)
  coefficient, seen = 4.0, [4.0]
  for _ in range(4):
    (record,) = _records(training, 1)
    if record['step_status'] == 'accepted':
      coefficient = kl_penalty.adapted(coefficient, record['mean_kl'], 0.01)
    assert training.state.learner['kl_coefficient'] == coefficient
    seen.append(coefficient)
  assert len(set(seen)) > 2
  fixed = _training('kl_penalty', kl_coefficient=4.0)
  _records(fixed, 2)
  assert fixed.state.learner['kl_coefficient'] == 4.0
