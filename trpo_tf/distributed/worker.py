"""The shards that one process holds."""

from collections.abc import Callable, Sequence
from typing import Any

from trpo_tf.config import from_settings
from trpo_tf.distributed import reduction
from trpo_tf.distributed.kit import Kit
from trpo_tf.distributed.shard import Shard

__all__ = ['Worker']

# (function of a shard, shards) -> the results in their order
MapShards = Callable[[Callable[[Shard], Any], Sequence[Shard]], Any]


class Worker:
  """A block of shards, on which operations are called by name."""

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
    self._num_shards, self._map = config.sampler.num_shards, map_shards
    kit = Kit(config)
    self._shards = {i: Shard(kit, i) for i in shards}

  def call(self, operation: str, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """Calls an operation on every shard.

    Args:
      operation: name of a method of Shard.
      arguments: its arguments.

    Returns:
      The results, reduced to complete subtrees; see reduction.partial.
    """
    results = self._map(
      lambda shard: getattr(shard, operation)(*arguments),
      list(self._shards.values()),
    )
    return reduction.partial(
      self._num_shards, dict(zip(self._shards, results, strict=True))
    )

  def close(self) -> None:
    """Stops what the shards started."""
    for shard in self._shards.values():
      shard.close()
