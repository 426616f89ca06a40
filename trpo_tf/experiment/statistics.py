"""Mean, deviation, interquartile mean and bootstrap intervals of returns.

The interquartile mean and its use with bootstrap intervals follow Agarwal et
al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical
Precipice". The bootstrap is SciPy's, not that of the authors' package rliable:
in its version 1.2, the documented `random_state` does not fix the interval, but
reported numbers have to be reproducible.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.stats

__all__ = [
  'Summary',
  'bootstrap_interval',
  'interquartile_mean',
  'stratified_interval',
  'summarize',
]


@dataclasses.dataclass(frozen=True)
class Summary:
  """Statistics of one sample: episodes of a policy, or runs with n seeds.

  Attributes:
    n: number of values.
    mean: mean.
    std: standard deviation of the sample (n - 1); nan for one value.
    iqm: interquartile mean.
    ci95: ends of the 95 % bootstrap interval of the mean; nan for one value.
  """

  n: int
  mean: float
  std: float
  iqm: float
  ci95: tuple[float, float]


def summarize(values: Any, seed: int = 0) -> Summary:
  """Computes the Summary of a sample.

  Args:
    values: [n] numbers, n >= 1.
    seed: seed of the bootstrap.

  Returns:
    The statistics.

  Raises:
    ValueError: the sample is empty or not one-dimensional.
  """
  values = np.asarray(values, np.float64)
  if values.ndim != 1 or not values.size:
    raise ValueError(f'need [n] values with n >= 1, got {values.shape}')
  low, high = bootstrap_interval(values, seed=seed)
  return Summary(
    n=values.size,
    mean=float(values.mean()),
    std=float(values.std(ddof=1)) if values.size > 1 else float('nan'),
    iqm=float(interquartile_mean(values)),
    ci95=(float(low), float(high)),
  )


def interquartile_mean(
  values: Any, axis: int = -1, weights: Any = None
) -> np.ndarray:
  """Averages the middle half of a sample.

  Each of the n sorted values covers 1/n of the distribution; a value that a
  quartile cuts counts with the fraction inside. (scipy.stats.trim_mean drops
  whole values, which is the same only if n is divisible by 4.)

  Args:
    values: numbers, at least one along `axis`.
    axis: axis to reduce.
    weights: [n] part of the distribution that each value covers, in place of
      1/n; they sum to 1.

  Returns:
    The mean of what lies between the quartiles, without `axis`.
  """
  values = np.moveaxis(np.asarray(values, np.float64), axis, -1)
  if weights is None:
    edges = np.linspace(0, 1, values.shape[-1] + 1)
    inside = np.clip(edges, 0.25, 0.75)
    return np.sort(values) @ (np.diff(inside) / 0.5)
  order = np.argsort(values)
  ends = np.cumsum(np.asarray(weights, np.float64)[order], axis=-1)
  inside = np.clip(ends, 0.25, 0.75)
  parts = np.diff(inside, axis=-1, prepend=0.25) / 0.5
  return (np.take_along_axis(values, order, axis=-1) * parts).sum(axis=-1)


def bootstrap_interval(
  values: Any,
  statistic: Callable[..., np.ndarray] = np.mean,
  *,
  confidence: float = 0.95,
  resamples: int = 10_000,
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
  """Computes the percentile bootstrap interval of a statistic.

  Unlike the BCa interval, the percentile interval is defined for constant
  samples (all episodes reached 1000). For few values it is too narrow, as any
  bootstrap interval: for five normal values, a 0.95 interval covers 0.84.

  The means of resamples of so few values are far apart: drawn resamples, and
  even the order of the values, can move an end to the next mean. If all n^n
  resamples are at most `resamples`, each of them is therefore taken once, and
  the interval is exact. Else, resamples are drawn.

  Args:
    values: [n, ...]; the n rows are resampled as wholes.
    statistic: function of (values, axis).
    confidence: probability to cover.
    resamples: largest number of bootstrap samples.
    seed: seed of the resampling, if it is drawn.

  Returns:
    Both ends, float64 [...]; NaN for n = 1, where the spread is unknown.
  """
  values = np.asarray(values, np.float64)
  if len(values) < 2:
    return (np.full(values.shape[1:], np.nan),) * 2
  if len(values) ** len(values) <= resamples:
    found = statistic(values[_all_resamples(len(values))], axis=1)
    tail = (1 - confidence) / 2
    ends = [tail, 1 - tail]
    low, high = np.quantile(found, ends, axis=0, method='inverted_cdf')
    return low, high
  return _drawn((values,), statistic, 0, confidence, resamples, seed)


def stratified_interval(
  strata: Sequence[Any],
  statistic: Callable[..., np.ndarray],
  *,
  confidence: float = 0.95,
  resamples: int = 10_000,
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
  """Computes the percentile bootstrap interval of a statistic of many samples.

  Each sample, a stratum, is resampled apart from the others. The order of its
  values does not matter.

  Args:
    strata: samples [n_i], n_i >= 2.
    statistic: function of (*strata, axis=-1), whose strata are [..., n_i]; it
      returns [S, ...], S numbers for each resample.
    confidence: probability to cover.
    resamples: number of bootstrap samples.
    seed: seed of the resampling.

  Returns:
    Both ends, float64 [S].
  """
  samples = tuple(np.sort(np.asarray(s, np.float64)) for s in strata)
  return _drawn(samples, statistic, -1, confidence, resamples, seed)


def _drawn(
  samples: tuple[np.ndarray, ...],
  statistic: Callable[..., np.ndarray],
  axis: int,
  confidence: float,
  resamples: int,
  seed: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Computes an interval from resamples that are drawn."""
  interval = scipy.stats.bootstrap(
    samples,
    statistic,
    axis=axis,
    vectorized=True,
    n_resamples=resamples,
    batch=500,
    confidence_level=confidence,
    method='percentile',
    rng=np.random.default_rng(seed),
  ).confidence_interval
  return interval.low, interval.high


@functools.cache
def _all_resamples(n: int) -> np.ndarray:
  """Lists the indices of all resamples of n values, int [n^n, n]."""
  return np.array(list(itertools.product(range(n), repeat=n)))
