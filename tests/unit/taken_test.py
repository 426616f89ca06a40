"""The actions of a running episode."""

import numpy as np
import pytest

from trpo_tf.sampling.gym.taken import Taken


@pytest.mark.parametrize('shape', [(), (3,), (2, 2)])
def test_actions_are_kept_and_earlier_views_do_not_change(shape):
  rng = np.random.default_rng(0)
  actions = rng.normal(size=(1000, *shape))
  taken, views = Taken(), []
  assert len(taken) == 0 and taken.array.size == 0
  for action in actions:
    given = np.array(action)
    taken.append(given)
    given[...] = 7  # the environment may overwrite it
    views.append(taken.array)
  assert len(taken) == 1000
  for i, view in enumerate(views, 1):
    np.testing.assert_array_equal(view, actions[:i])


def test_it_keeps_the_dtype():
  taken = Taken()
  taken.append(np.int64(2**60 + 1))
  assert taken.array.dtype == np.int64 and taken.array[0] == 2**60 + 1
