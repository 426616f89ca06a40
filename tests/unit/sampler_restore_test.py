"""Samplers refuse states that do not fit, and are then as they were."""

import numpy as np
import pytest

from trpo_tf import config
from trpo_tf.experiment import backend

_TASKS = {'native': 'InvertedPendulum-v5', 'gym': 'CartPole-v1'}


@pytest.fixture(params=_TASKS)
def sampler(request):
  """A sampler in the middle of its episodes, and a function that samples."""
  settings = dict(
    task=_TASKS[request.param], batch_steps=40, num_slots=4, hidden_sizes=(4,)
  )
  made = backend.resolve(config.from_settings(settings))
  policy, normalizer = made.policy(), made.normalizer()
  theta = policy.initial_parameters(np.random.default_rng(0))
  found = made.paths()
  found.sample(theta, normalizer, 0)
  return found, lambda: found.sample(theta, normalizer, 1).observations


def _changes(state):
  name = next(iter(state))
  yield {k: v for k, v in state.items() if k != name}
  yield state | {'more': np.zeros(1)}
  yield state | {name: state[name][:1]}
  yield state | {name: state[name].astype(complex)}
  yield state | {name: state[name].tolist()}
  for key in ('episode', 'steps', 'slot_elapsed', 'slot_episode', 'slot_limit'):
    if key in state:
      yield state | {key: -state[key] - 1}
      yield state | {key: state[key] + 2**62}


def test_wrong_states(sampler):
  made, sample = sampler
  state = made.state()
  expected = sample()
  made.restore(state)
  for wrong in _changes(state):
    with pytest.raises(ValueError):
      made.restore(wrong)
    now = made.state()
    assert all(np.array_equal(now[name], state[name]) for name in state)
  np.testing.assert_array_equal(sample(), expected)


def test_a_replay_that_fails_leaves_nothing_half_done():
  settings = dict(
    task='CartPole-v1', batch_steps=40, num_slots=4, hidden_sizes=(4,)
  )
  made = backend.resolve(config.from_settings(settings))
  policy, normalizer = made.policy(), made.normalizer()
  theta = policy.initial_parameters(np.random.default_rng(0))
  sampler = made.paths()
  fresh = sampler.sample(theta, normalizer, 0).observations
  state = sampler.state()
  observations = state['slot_observations'].copy()
  observations[-1] += 1  # the last slot is replayed last
  sampler = made.paths()
  with pytest.raises(ValueError, match='cannot resume'):
    sampler.restore(state | {'slot_observations': observations})
  again = sampler.sample(theta, normalizer, 0).observations
  np.testing.assert_array_equal(again, fresh)
