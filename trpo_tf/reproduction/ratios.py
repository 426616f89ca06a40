"""Text for measured ratios and for the bars that they meet or miss."""

from typing import Any

__all__ = ['at_least', 'at_most', 'ratio', 'verdict']


def ratio(measured: dict[str, Any]) -> str:
  """The median with its 95 % interval."""
  low, high = measured['ci95']
  return f'{measured["median"]:.3f} ({low:.3f} to {high:.3f})'


def verdict(met: bool) -> str:
  """The word for a bar that is met, or missed."""
  return 'met' if met else '**missed**'


def at_least(measured: dict[str, Any], bar: float | None) -> str:
  """Renders a ratio that should not be smaller than a bar.

  Args:
    measured: `median` and `ci95` of the ratio.
    bar: the bar; None if there is none.

  Returns:
    The ratio, and whether its median meets the bar.
  """
  if bar is None:
    return ratio(measured)
  return f'{ratio(measured)} {verdict(measured["median"] >= bar)}'


def at_most(measured: dict[str, Any], bar: float) -> str:
  """Renders a ratio that should not be larger than a bar.

  Args:
    measured: `median` and `ci95` of the ratio.
    bar: the bar.

  Returns:
    The ratio, and whether its median meets the bar.
  """
  return f'{ratio(measured)} {verdict(measured["median"] <= bar)}'
