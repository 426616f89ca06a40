"""Timings on shared, noisy machines: ratios of pairs, medians, intervals."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trpo_tf.experiment import statistics


def seconds(function: Callable[[], Any]) -> float:
  """Wall-clock seconds of one call."""
  begin = time.perf_counter()
  function()
  return time.perf_counter() - begin


def alternating(
  functions: Sequence[Callable[[], Any]], rounds: int
) -> np.ndarray:
  """Seconds [rounds, functions], the order reversed each round."""
  times = np.zeros((rounds, len(functions)))
  order = list(range(len(functions)))
  for i in range(rounds):
    for which in order if i % 2 == 0 else reversed(order):
      times[i, which] = seconds(functions[which])
  return times


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> dict[str, Any]:
  """Median ratio of pairs with a 95 % bootstrap interval of the median."""
  values = numerator / denominator
  interval = statistics.bootstrap_interval(values, statistic=np.median)
  return dict(
    median=float(np.median(values)), ci95=list(interval), pairs=len(values)
  )
