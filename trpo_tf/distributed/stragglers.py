"""Says which worker is slower than the others, as everyone waits for it."""

import statistics
from collections.abc import Mapping

__all__ = ['Stragglers']

_SLOW = 1.5  # times the median of the others
_TIMES = 3  # in a row; a machine may be slow once
_SHORTEST = 0.1  # seconds; what is shorter is noise


class Stragglers:
  """Watches the times of the same operation, iteration by iteration."""

  def __init__(self) -> None:
    """Begins without any time."""
    self._times: dict[int, int] = {}

  def found(self, seconds: Mapping[int, float]) -> dict[int, float]:
    """Takes the times of an iteration.

    Args:
      seconds: of each worker, by its number.

    Returns:
      By number the workers that have now been slow for three iterations in a
      row, and how many times as long as the median of the others they took.
      Each is returned once, until it has been as fast as the others again.
    """
    news = {}
    for worker, own in seconds.items():
      others = [s for i, s in seconds.items() if i != worker]
      ratio = own / statistics.median(others) if others else 1.0
      slow = own > _SHORTEST and ratio > _SLOW
      self._times[worker] = self._times.get(worker, 0) + 1 if slow else 0
      if self._times[worker] == _TIMES:
        news[worker] = ratio
    return news
