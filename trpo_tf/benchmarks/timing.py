"""Timings on shared, noisy machines: alternating pairs, medians, intervals."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from trpo_tf.experiment import statistics


def seconds(function: Callable[[], Any]) -> float:
  """Wall-clock seconds of one call."""
  begin = time.perf_counter()
  function()
  return time.perf_counter() - begin


def alternate(
  first: Callable[[], Any], second: Callable[[], Any], pairs: int
) -> tuple[np.ndarray, np.ndarray]:
  """Times two functions in turn, the order swapped from pair to pair.

  Args:
    first, second: what to time; each is called once before, untimed.
    pairs: repetitions.

  Returns:
    Seconds of each call, float64 [pairs] twice.
  """
  first()
  second()
  times = np.zeros((pairs, 2))
  for i in range(pairs):
    order = ((0, first), (1, second))
    for which, function in order if i % 2 else order[::-1]:
      times[i, which] = seconds(function)
  return times[:, 0], times[:, 1]


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> dict[str, Any]:
  """Median ratio of pairs with a 95 % bootstrap interval of the median."""
  values = numerator / denominator
  interval = statistics.bootstrap_interval(values, statistic=np.median)
  return dict(median=float(np.median(values)), ci95=list(interval),
              pairs=len(values))
