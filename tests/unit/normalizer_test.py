"""Observation normaliser."""

import numpy as np

from trpo_tf.policies import normalizer


def test_batches_add_up_to_the_whole():
  rng = np.random.default_rng(0)
  observations = rng.normal(size=(100, 3)) * [1, 5, 0.1] + [0, 1e3, -1]
  observations = observations.astype(np.float32)
  value = normalizer.initial_normalizer(3)
  for part in np.split(observations, [1, 7, 60]):
    value = value.update(part)
  whole = observations.astype(np.float64)
  assert value.count == 100
  np.testing.assert_allclose(value.mean, whole.mean(axis=0), rtol=1e-13)
  np.testing.assert_allclose(value.m2 / 100, whole.var(axis=0), rtol=1e-9)
  assert value.mean32.dtype == value.inv_std32.dtype == np.float32


def test_normalises_in_float32_and_clips():
  value = normalizer.initial_normalizer(2, clip=1.5).update(
    np.array([[0.0, 10.0], [2.0, 14.0]])
  )
  observations = np.array([[1.5, 12.0], [9.0, -50.0]], np.float32)
  # Mean (1, 12), deviation (1, 2): to 1e-8 of the variance, below float32.
  expected = np.array([[0.5, 0.0], [1.5, -1.5]], np.float32)
  result = value(observations)
  assert result.dtype == np.float32
  np.testing.assert_array_equal(result, expected)


def test_a_constant_entry_stays_finite():
  value = normalizer.initial_normalizer(1).update(np.full((4, 1), 7.0))
  np.testing.assert_array_equal(value(np.array([[7.0]])), [[0.0]])
  np.testing.assert_array_equal(value(np.array([[8.0]])), [[10.0]])


def test_before_any_update_it_is_the_identity_up_to_the_clip():
  value = normalizer.initial_normalizer(1)
  np.testing.assert_array_equal(
    value(np.array([[3.0], [11.0]])), [[3.0], [10.0]]
  )


def test_off_is_the_identity():
  value = normalizer.initial_normalizer(1, enabled=False)
  assert value.update(np.ones((5, 1))) is value
  observations = np.array([[1e6]], np.float32)
  np.testing.assert_array_equal(value(observations), observations)
  np.testing.assert_array_equal(
    np.clip(
      (observations - value.mean32) * value.inv_std32, -value.clip, value.clip
    ),
    observations,
  )


def test_an_update_leaves_the_old_value_alone():
  old = normalizer.initial_normalizer(2)
  old.update(np.ones((3, 2)))
  assert old.count == 0
  np.testing.assert_array_equal(old.mean, 0)
  assert old.update(np.zeros((0, 2))) is old
