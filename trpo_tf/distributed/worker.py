"""The shards that one process holds."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trpo_tf.config import from_settings
from trpo_tf.distributed import reduction
from trpo_tf.distributed.kit import Kit
from trpo_tf.distributed.shard import Shard
from trpo_tf.distributed.value_fit import AdamState, StackedFit

__all__ = ['Worker']

# (function of a shard, shards) -> the results in their order
MapShards = Callable[[Callable[[Shard], Any], Sequence[Shard]], Any]


class Worker:
  """A block of shards, on which operations are called by name.

  Attributes:
    num_shards: number S of all shards, here and elsewhere.
  """

  def __init__(
    self,
    settings: dict[str, Any],
    shards: Sequence[int],
    map_shards: MapShards = map,
  ):
    """Builds the shards.

    Args:
      settings: of the run; see config.settings.
      shards: their numbers.
      map_shards: calls a function for each shard.

    Raises:
      UserError: the task cannot be built.
    """
    config = from_settings(settings)
    self.num_shards, self._map = config.sampler.num_shards, map_shards
    self._kit = Kit(config)
    self._shards = {i: Shard(self._kit, i) for i in shards}

  def call(
    self, operation: str, arguments: tuple[Any, ...]
  ) -> dict[reduction.Node, Any]:
    """Calls an operation on every shard.

    Args:
      operation: 'begin_fit' or 'value_gradient', or an operation of Shard.call.
      arguments: its arguments.

    Returns:
      The results, reduced to complete subtrees; see reduction.partial.
    """
    results: dict[int, Any]
    if operation == 'begin_fit':
      results = self._begin_fit(*arguments)
    elif operation == 'value_gradient':
      results = self._value_gradient(*arguments)
    else:
      results = self._on_each(operation, *arguments)
    parts = {(i, i + 1): result for i, result in results.items()}
    return reduction.partial(self.num_shards, parts)

  def _on_each(self, operation: str, *arguments: Any) -> dict[int, Any]:
    results = self._map(
      lambda shard: shard.call(operation, *arguments),
      list(self._shards.values()),
    )
    return dict(zip(self._shards, results, strict=True))

  def _begin_fit(self, *arguments: Any) -> dict[int, int]:
    """Prepares the value network's fit; see Shard.fit_data."""
    assert self._kit.fit is not None
    found = self._on_each('fit_data', *arguments)
    self._kit.fit.begin(list(found.values()))
    return dict.fromkeys(self._shards, 0)

  def _value_gradient(
    self, theta: np.ndarray, step: int
  ) -> dict[int, np.ndarray]:
    """Differentiates the squared errors of a minibatch, float64 [P].

    Args:
      theta: float32 [P], the value network.
      step: number of the minibatch.
    """
    assert self._kit.fit is not None
    found = self._kit.fit.gradients(theta, step)
    return dict(zip(self._shards, found, strict=True))

  def whole_fit(
    self, start: AdamState, done: int, steps: int
  ) -> AdamState | None:
    """Takes all steps of the value network's fit in one call.

    Args:
      start: the state before.
      done: number of Adam's steps before.
      steps: number of steps.

    Returns:
      The state afterwards; None if the network has no such call.
    """
    fit = self._kit.fit
    if not isinstance(fit, StackedFit):
      return None
    return fit.whole(start, done, steps)

  def close(self) -> None:
    """Stops what the shards started."""
    for shard in self._shards.values():
      shard.close()
