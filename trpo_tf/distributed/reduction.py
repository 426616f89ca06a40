"""The sum over shards, in an order that depends on nothing but their number.

Floating-point sums depend on their order. The shards are therefore the leaves
of one binary tree, whatever process holds them. A process reduces the subtrees
of which it has every shard, and the learner reduces the rest.
"""

import bisect
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

__all__ = [
  'Gathered',
  'Largest',
  'LogSumExp',
  'Node',
  'finished',
  'merged',
  'partial',
]

Node = tuple[int, int]  # the shards from the first number up to the second


class Gathered(NamedTuple):
  """Values that are kept apart, by the number of the shard."""

  by_shard: dict[int, Any]

  def merge(self, other: 'Gathered') -> 'Gathered':
    """Returns the values of both sets of shards."""
    return Gathered(self.by_shard | other.by_shard)


class Largest(NamedTuple):
  """The largest of some numbers; a NaN is larger than any."""

  value: float

  def merge(self, other: 'Largest') -> 'Largest':
    """Returns the larger one."""
    stays = math.isnan(self.value) or other.value <= self.value
    return self if stays else other


class LogSumExp(NamedTuple):
  """The logarithm of a sum of exponentials, which would overflow.

  Attributes:
    largest: the largest exponent.
    total: sum of the exponentials, each divided by the largest one.
  """

  largest: float
  total: float

  @classmethod
  def of(cls, exponents: np.ndarray) -> 'LogSumExp':
    """Takes one exponent or more, float64 [n]."""
    largest = float(np.max(exponents))
    return cls(largest, float(np.sum(np.exp(exponents - largest))))

  @property
  def value(self) -> float:
    """The logarithm."""
    return self.largest + math.log(self.total)

  def merge(self, other: 'LogSumExp') -> 'LogSumExp':
    """Returns the logarithm of both sums together."""
    largest = max(self.largest, other.largest)
    parts = (p.total * math.exp(p.largest - largest) for p in (self, other))
    return LogSumExp(largest, sum(parts))


def merged(a: Any, b: Any) -> Any:
  """Merges two results: by their own `merge`, by their fields, or as a sum.

  Args:
    a: the result of the first shards; None: they have no states.
    b: the result of the shards that follow.
  """
  if a is None or b is None:
    return b if a is None else a
  if hasattr(a, 'merge'):
    return a.merge(b)
  if isinstance(a, tuple):
    return type(a)(*map(merged, a, b))
  return a + b


def _middle(first: int, end: int) -> int:
  """Where a node of the tree is divided: its left half is a full tree."""
  return first + (1 << (end - first - 1).bit_length() - 1)


def partial(num_shards: int, parts: Mapping[Node, Any]) -> dict[Node, Any]:
  """Reduces the results of some shards as far as they are complete subtrees.

  Args:
    num_shards: number S of all shards.
    parts: results of different subtrees, each of one shard or more.

  Returns:
    The results of the largest complete subtrees.
  """
  firsts = sorted(first for first, _ in parts)

  def visit(first: int, end: int) -> dict[Node, Any]:
    if (first, end) in parts:
      return {(first, end): parts[first, end]}
    if bisect.bisect_left(firsts, first) == bisect.bisect_left(firsts, end):
      return {}
    middle = _middle(first, end)
    halves = visit(first, middle) | visit(middle, end)
    if halves.keys() == {(first, middle), (middle, end)}:
      return {(first, end): merged(*halves.values())}
    return halves

  return visit(0, num_shards)


def finished(num_shards: int, parts: Mapping[Node, Any]) -> Any:
  """Reduces subtrees to the result of all shards.

  Args:
    num_shards: number S of all shards.
    parts: the results of subtrees that together have every shard once.
  """
  return partial(num_shards, parts)[0, num_shards]
