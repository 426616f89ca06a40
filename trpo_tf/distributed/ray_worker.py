"""A process that Ray starts for a block of shards."""

import functools
import time
from typing import Any

from trpo_tf.distributed import links, worker_tree
from trpo_tf.distributed.worker_tree import Reply
from trpo_tf.errors import UserError

__all__ = ['Actor', 'Member', 'cause', 'joined']

_PATIENCE = 10.0  # seconds for Ray to answer

Member = tuple[Any, links.Address]  # a Ray actor, and where it listens


class Actor:
  """Holds a block of shards and calls the workers below it.

  Ray's calls build and connect it. The operations on the shards come over a
  link; see `_call`.
  """

  def build(
    self,
    index: int,
    values: dict[str, Any],
    shards: list[int],
    journal: list[tuple[str, tuple[Any, ...]]],
    key: bytes,
  ) -> links.Address:
    """Builds the shards, which repeat what the iteration did so far.

    Args:
      index: number of this worker.
      values: see Worker.
      shards: see Worker.
      journal: operations and their arguments.
      key: of the links.

    Returns:
      Where this worker listens.

    Raises:
      UserError: something is missing on this node, as the file of a task.
    """
    import ray

    from trpo_tf.distributed import local, worker

    local.one_thread_per_shard()
    try:
      made = worker.Worker(values, shards)
    except UserError as error:  # as the learner has built the same
      host = ray.util.get_node_ip_address()
      raise UserError(f'worker {index} on {host}: {error}') from None
    for operation, arguments in journal:
      made.call(operation, arguments)
    return self._serve(index, made, key)

  def _serve(self, index: int, worker: Any, key: bytes) -> links.Address:
    import ray

    self._index, self._worker, self._key = index, worker, key
    self._number, self._own = 0, Reply({}, {}, {})
    self._members: dict[int, links.Link] = {}
    host = ray.util.get_node_ip_address()
    self._server = links.Server(self._call, host, key)
    return self._server.address

  def link(self, members: dict[int, Member]) -> None:
    """Connects to workers below this one, by their numbers."""
    self._members = joined(self._members, members, self._key)

  def alive(self) -> None:
    """Returns if this process is alive."""

  def _call(
    self, number: int, operation: str, arguments: tuple[Any, ...]
  ) -> Reply:
    """Calls an operation on the shards here and below.

    A call is repeated if a worker died in it. Those that answered before return
    what they remember.

    Args:
      number: of the call.
      operation: see Worker.
      arguments: see Worker.
    """
    members = self._members
    worker_tree.start(members, number, operation, arguments)
    try:
      if number > self._number:
        begin = time.perf_counter()
        parts = self._worker.call(operation, arguments)
        seconds = time.perf_counter() - begin
        self._own = Reply(parts, {self._index: seconds}, {})
        self._number = number
    finally:  # an answer that nobody takes would be taken for the next one
      found = worker_tree.collected(self._worker.num_shards, self._own, members)
    return found


def joined(
  present: dict[int, links.Link], members: dict[int, Member], key: bytes
) -> dict[int, links.Link]:
  """Connects to workers, some of which may replace others.

  Args:
    present: the connections until now, by the number of the worker.
    members: the workers to connect to.
    key: of the links.

  Returns:
    All connections, in the order of the numbers.
  """
  for index in present.keys() & members.keys():
    present[index].close()
  made = {
    i: links.Link(address, key, functools.partial(_death, actor))
    for i, (actor, address) in members.items()
  }
  return dict(sorted((present | made).items()))


def _death(actor: Any) -> str:
  """Asks Ray for the cause of a worker's death.

  Args:
    actor: the worker.

  Returns:
    The cause; '' if the worker is alive, or Ray does not know within seconds.
  """
  import ray

  try:
    ray.get(actor.alive.remote(), timeout=_PATIENCE)
  except ray.exceptions.RayActorError as error:
    return cause(error)
  except ray.exceptions.GetTimeoutError:
    return ''
  return ''


def cause(error: Exception) -> str:
  """Returns the line of Ray's error that says why an actor died."""
  return str(error).strip().splitlines()[-1]
