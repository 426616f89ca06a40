"""Timings on shared, noisy machines: ratios of pairs, medians, intervals."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trpo_tf.experiment import statistics


def seconds(function: Callable[[], Any]) -> float:
  """Returns the wall-clock seconds of one call."""
  begin = time.perf_counter()
  function()
  return time.perf_counter() - begin


def alternating(
  functions: Sequence[Callable[[], Any]], rounds: int
) -> np.ndarray:
  """Times functions in turn and reverses their order after each round.

  Args:
    functions: the functions.
    rounds: calls of each function.

  Returns:
    float64 [rounds, functions], in seconds.
  """
  times = np.zeros((rounds, len(functions)))
  order = list(range(len(functions)))
  for i in range(rounds):
    for which in order if i % 2 == 0 else reversed(order):
      times[i, which] = seconds(functions[which])
  return times


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> dict[str, Any]:
  """Summarizes the ratios of pairs.

  Args:
    numerator: float64 [pairs].
    denominator: float64 [pairs], in the same unit.

  Returns:
    median; ci95, a 95 % bootstrap interval of the median; and pairs, their
    number.
  """
  values = numerator / denominator
  interval = statistics.bootstrap_interval(values, statistic=np.median)
  return dict(
    median=float(np.median(values)), ci95=list(interval), pairs=len(values)
  )
