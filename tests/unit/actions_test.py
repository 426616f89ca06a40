"""The map from actions to controls, and the ranges of actions."""

import numpy as np
import pytest

from trpo_tf.tasks.actions import ActionSpace, continuous_actions


def test_bounds_whose_difference_overflows():
  high = np.array([1e308, 3.0])
  space, controls = continuous_actions('X', -high, high, 'control', True, '')
  np.testing.assert_array_equal(controls(np.array([0.0, 0.5])), [0, 1.5])
  np.testing.assert_array_equal(controls(np.array([-1.0, 1])), [-1e308, 3])
  assert space.bounded and not ActionSpace((), -high, high).bounded


@pytest.mark.parametrize(
  'low, high, bounded',
  [
    ([-1, 0], [1, 2], True),
    ([-1, 0], [1, 0], False),
    ([-1, 0], [1, np.inf], False),
    ([-np.inf, 0], [np.inf, 1], False),
  ],
)
def test_ranges(low, high, bounded):
  assert ActionSpace((), *np.array([low, high], float)).bounded is bounded


def test_a_single_choice_is_bounded():
  assert ActionSpace((1,), np.zeros(1), np.zeros(1)).bounded
