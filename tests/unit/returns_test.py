"""Returns and GAE against sums worked out by hand."""

import numpy as np
import pytest

from trpo_tf.estimation import returns
from trpo_tf.sampling.batch import End

GAMMA, LAM = 0.5, 0.5
T, X, D = End.TERMINATED, End.TRUNCATED, End.DIVERGED


def run(ends, length, boundary=0.0):
  """GAE of one slot: rewards 1, 2, 4, values 8, 16, 32, last value 64."""
  advantages, targets = returns.gae(
    np.array([[1.0, 2.0, 4.0]]),
    np.array([ends], np.uint8),
    np.array([length]),
    np.array([[8.0, 16.0, 32.0]]),
    np.full((1, 3), boundary),
    np.array([64.0]),
    GAMMA,
    LAM,
  )
  valid = np.arange(3) < length
  np.testing.assert_array_equal(
    targets[0], np.where(valid, advantages[0] + [8.0, 16.0, 32.0], 0)
  )
  return advantages[0]


# Deltas while the episode goes on: 1 + 8 - 8 = 1, 2 + 16 - 16 = 2, and
# 4 + 32 - 32 = 4 at the end of the batch; gamma lambda = 1/4.
# With a next value of 0 they are 1, 2 - 16 = -14 and 4 - 32 = -28; with one
# of 100, 2 + 50 - 16 = 36 and 4 + 50 - 32 = 22.
@pytest.mark.parametrize(
  'ends, length, boundary, expected',
  [
    pytest.param(
      [0, 0, 0], 3, 0, [1.75, 3, 4], id='cut by the end of the batch'
    ),
    pytest.param([0, 0, T], 3, 0, [-0.25, -5, -28], id='terminated'),
    pytest.param([0, T, 0], 3, 0, [1 - 14 / 4, -14, 4], id='terminated inside'),
    pytest.param([0, X, 0], 3, 100, [1 + 36 / 4, 36, 4], id='truncated inside'),
    pytest.param(
      [0, X | T, 0], 3, 100, [1 - 14 / 4, -14, 4], id='both at once'
    ),
    pytest.param([0, D, 0], 3, 100, [1 - 14 / 4, -14, 4], id='diverged'),
    pytest.param(
      [0, 0, X],
      3,
      100,
      [1 + (2 + 22 / 4) / 4, 2 + 22 / 4, 22],
      id='truncated at the end',
    ),
    pytest.param([0, 0, 0], 2, 0, [1 + 18 / 4, 18, 0], id='a shorter slot'),
    pytest.param([0, 0, 0], 0, 0, [0, 0, 0], id='an empty slot'),
  ],
)
def test_gae(ends, length, boundary, expected):
  np.testing.assert_array_equal(run(ends, length, boundary), expected)


def test_lambda_one_is_the_return_minus_the_value():
  rng = np.random.default_rng(0)
  shape = (4, 30)
  rewards, values = rng.normal(size=(2, *shape))
  ends = rng.choice([0, T, D], p=[0.9, 0.05, 0.05], size=shape)
  lengths = np.array([30, 17, 30, 1])
  advantages, targets = returns.gae(
    rewards, ends, lengths, values, np.zeros(shape), np.zeros(4), 0.9, 1.0
  )
  expected = returns.monte_carlo(rewards, ends, lengths, 0.9)
  np.testing.assert_allclose(targets, expected, rtol=0, atol=1e-12)
  valid = np.arange(30) < lengths[:, np.newaxis]
  np.testing.assert_allclose(
    advantages, np.where(valid, expected - values, 0), rtol=0, atol=1e-12
  )


@pytest.mark.parametrize(
  'ends, length, expected',
  [
    ([0, 0, 0], 3, [3, 4, 4]),
    ([0, T, 0], 3, [2, 2, 4]),
    ([0, X, 0], 3, [2, 2, 4]),
    ([D, 0, 0], 3, [1, 4, 4]),
    ([0, 0, 0], 2, [2, 2, 0]),
  ],
)
def test_monte_carlo(ends, length, expected):
  result = returns.monte_carlo(
    np.array([[1.0, 2.0, 4.0]]), np.array([ends]), np.array([length]), GAMMA
  )
  np.testing.assert_array_equal(result[0], expected)


def test_slots_do_not_mix():
  rng = np.random.default_rng(1)
  shape = (3, 8)
  rewards, values, boundary = rng.normal(size=(3, *shape))
  ends = rng.choice([0, T, X], size=shape)
  lengths, last = np.array([8, 5, 2]), rng.normal(size=3)
  whole, _ = returns.gae(
    rewards, ends, lengths, values, boundary, last, 0.9, 0.8
  )
  for s in range(3):
    one, _ = returns.gae(
      *(a[s : s + 1] for a in (rewards, ends, lengths, values, boundary, last)),
      0.9,
      0.8,
    )
    np.testing.assert_array_equal(whole[s : s + 1], one)


# Values 1, 2 and 4 with a decay of 1/4.
@pytest.mark.parametrize(
  'ends, length, expected',
  [
    pytest.param([0, 0, 0], 3, [2 / 4 + 4 / 16, 1, 0], id='one episode'),
    pytest.param([0, T, 0], 3, [0.5, 0, 0], id='terminated inside'),
    pytest.param([X, 0, 0], 3, [0, 1, 0], id='truncated at first'),
    pytest.param([0, D, 0], 3, [0.5, 0, 0], id='diverged'),
    pytest.param([0, 0, 0], 2, [0.5, 0, 0], id='a shorter slot'),
    pytest.param([0, 0, 0], 0, [0, 0, 0], id='an empty slot'),
  ],
)
def test_later_sums(ends, length, expected):
  found = returns.later_sums(
    np.array([[1.0, 2.0, 4.0]]), np.array([ends]), np.array([length]), 0.25
  )
  np.testing.assert_array_equal(found, [expected])
