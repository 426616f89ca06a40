"""Known values of the statistics."""

import itertools

import numpy as np
import pytest
import scipy.stats

from trpo_tf.experiment import statistics


@pytest.mark.parametrize(
  ('values', 'expected'),
  [
    ([7], 7),
    ([1, 3], 2),  # half of each
    ([3, 1, 2], (0.25 * 1 + 1 * 2 + 0.25 * 3) / 1.5),
    ([0, 0, 12], (0.25 * 0 + 1 * 0 + 0.25 * 12) / 1.5),
    ([0, 1, 2, 100], 1.5),
    # n = 5: a quarter of the 2nd and 4th is cut off, 0.75 + 1 + 0.75 = 2.5.
    ([0, 10, 20, 40, 1000], (0.75 * 10 + 20 + 0.75 * 40) / 2.5),
    # n = 6: half of the 2nd and 5th.
    ([0, 1, 2, 3, 8, 99], (0.5 * 1 + 2 + 3 + 0.5 * 8) / 3),
  ],
)
def test_interquartile_mean(values, expected):
  assert statistics.interquartile_mean(values) == pytest.approx(
    expected, abs=1e-12
  )


def test_interquartile_mean_is_the_trimmed_mean_for_multiples_of_four():
  values = np.random.default_rng(1).normal(size=(20, 3))
  np.testing.assert_allclose(
    statistics.interquartile_mean(values, axis=0),
    scipy.stats.trim_mean(values, 0.25, axis=0),
    rtol=0,
    atol=1e-14,
  )


def test_interval_of_few_values_is_that_of_all_resamples():
  values = np.array([1.0, 2.0, 4.0, 8.0, 9.0])
  means = [np.mean(s) for s in itertools.product(values, repeat=5)]
  exact = np.quantile(means, [0.025, 0.975], method='inverted_cdf')
  for order in itertools.permutations(values):
    found = statistics.bootstrap_interval(order)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-12)


def test_drawn_resamples_agree_with_all_resamples():
  values = np.array([1.0, 2.0, 4.0, 8.0])
  means = [np.mean(s) for s in itertools.product(values, repeat=4)]
  exact = np.quantile(means, [0.025, 0.975])
  found = statistics.bootstrap_interval(values, resamples=255)
  # The 256 equally likely resamples have means 0.25 apart or more. The sampled
  # quantile of 255 draws (0.01 sd in probability) misses by a few of them.
  np.testing.assert_allclose(found, exact, rtol=0, atol=0.75)


def test_interval_covers_the_mean():
  rng = np.random.default_rng(3)
  covered = 0
  for _ in range(200):
    low, high = statistics.bootstrap_interval(
      rng.normal(size=30), resamples=400
    )
    covered += low <= 0 <= high
  # Binomial(200, 0.93): the percentile interval of 30 normal values covers
  # some 93 %; 4 standard deviations are 14.
  assert 172 <= covered <= 200


def test_interval_is_seeded_and_shrinks():
  values = np.random.default_rng(0).normal(size=400)
  assert statistics.bootstrap_interval(values, seed=1) == (
    statistics.bootstrap_interval(values, seed=1)
  )
  assert statistics.bootstrap_interval(values, seed=1) != (
    statistics.bootstrap_interval(values, seed=2)
  )
  low, high = statistics.bootstrap_interval(values)
  # 3.92 standard errors wide; the quantiles of 10,000 resamples and the sample
  # standard deviation are off by 2 % and 3.5 %.
  assert high - low == pytest.approx(3.92 * values.std() / 20, rel=0.1)


def test_rows_are_resampled_as_wholes():
  column = np.random.default_rng(0).normal(size=(6, 1))
  low, high = statistics.bootstrap_interval(np.repeat(column, 3, axis=1))
  assert low.shape == high.shape == (3,)
  assert low[0] == low[1] == low[2] < column.mean() < high[0]


def test_other_statistics():
  low, high = statistics.bootstrap_interval(
    np.r_[np.zeros(20), 1e6], statistics.interquartile_mean
  )
  assert (low, high) == (0, 0)


def test_summary():
  summary = statistics.summarize([1.0, 2.0, 3.0, 4.0, 10.0])
  assert summary.n == 5
  assert summary.mean == 4
  assert summary.std == pytest.approx(np.sqrt(50 / 4), abs=1e-12)
  assert summary.iqm == pytest.approx((0.75 * 2 + 3 + 0.75 * 4) / 2.5)
  low, high = summary.ci95
  assert 1 < low < 4 < high < 10


def test_summary_of_equal_values_and_of_one():
  summary = statistics.summarize([1000.0] * 20)
  assert (summary.std, summary.ci95) == (0, (1000, 1000))
  summary = statistics.summarize([5])
  assert (summary.mean, summary.iqm) == (5, 5)
  assert np.isnan([summary.std, *summary.ci95]).all()


@pytest.mark.parametrize('values', [[], [[1.0]], 3.0])
def test_misuse(values):
  with pytest.raises(ValueError, match=r'got \('):
    statistics.summarize(values)
