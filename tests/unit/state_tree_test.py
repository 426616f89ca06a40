"""States from files must have the structure that a run needs."""

import numpy as np
import pytest

from trpo_tf.experiment import state_tree

_THETA = np.arange(6, dtype=np.float32)
_NORMALIZER = dict(
  count=np.array(7.0), mean=np.zeros(3), m2=np.ones(3), clip=10.0, enabled=True
)


def _state(**changes):
  return dict(theta=_THETA, normalizer=_NORMALIZER, env_steps=5) | changes


def _normalizer(**changes):
  return {'normalizer': _NORMALIZER | changes}


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'theta': _THETA[:5]}, r'theta is float32 \[5\], not float32 \[6\]'),
    ({'theta': np.append(_THETA, _THETA)}, r'theta is float32 \[12\]'),
    ({'theta': _THETA.astype(float)}, r'theta is float64 \[6\]'),
    ({'theta': _THETA.reshape(2, 3)}, r'theta is float32 \[2, 3\]'),
    ({'theta': _THETA.tolist()}, 'theta is a list'),
    ({'theta': _THETA * np.float32(np.nan)}, 'theta is not finite'),
    ({'theta': _THETA + np.float32(np.inf)}, 'theta is not finite'),
    ({'normalizer': []}, 'normalizer is a list, not a dict'),
    (_normalizer(mean=np.zeros(4)), r'normalizer.mean is float64 \[4\]'),
    (_normalizer(mean=np.full(3, np.nan)), 'normalizer.mean is not finite'),
    (_normalizer(m2=-np.ones(3)), 'normalizer.m2 is negative'),
    (_normalizer(count=np.array(-1.0)), 'normalizer.count is negative'),
    (_normalizer(clip=np.nan), 'normalizer.clip is nan, not 10.0'),
    (_normalizer(enabled=1), 'normalizer.enabled is a int, not a bool'),
    (_normalizer(more=1), 'normalizer.more is not known'),
    ({'env_steps': -1}, 'env_steps is -1'),
    ({'env_steps': 5.0}, 'env_steps is a float, not a int'),
  ],
)
def test_a_policy_that_does_not_fit(changes, words):
  like = _state(env_steps=0)
  state_tree.check_policy(_state() | {'learner': {}}, like)
  with pytest.raises(ValueError, match=words):
    state_tree.check_policy(_state(**changes), like)


def test_a_missing_part():
  state = _state()
  del state['theta']
  with pytest.raises(ValueError, match='state.theta is missing'):
    state_tree.check_policy(state, _state())


def test_arrays_that_grow_and_scalars_of_numpy():
  like = {'scores': np.zeros((0, 3)), 'steps': np.zeros((), int), 'beta': 1.0}
  found = {
    'scores': np.ones((4, 3)),
    'steps': np.int64(3),
    'beta': np.float64(),
  }
  state_tree.check_like(found, like, 's', {'s.scores'})
  with pytest.raises(ValueError, match=r's.scores is float64 \[4, 3\]'):
    state_tree.check_like(found, like, 's')
  with pytest.raises(ValueError, match=r's.scores is float64 \[4, 2\]'):
    wrong = found | {'scores': np.ones((4, 2))}
    state_tree.check_like(wrong, like, 's', {'s.scores'})
