"""The tree in which workers call each other.

A caller pays for each call. The learner therefore calls few workers, and each
of them calls the workers below it and adds up what they return.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from trpo_tf.distributed import reduction

__all__ = [
  'FAN_OUT',
  'LEARNER',
  'Reply',
  'answers',
  'calls_by_level',
  'collected',
  'layout',
  'started',
]

FAN_OUT = 16  # the most workers that one process calls
LEARNER = -1  # the number of the caller at the top

_PATIENCE = 10.0  # seconds between two messages about a missing answer


class Reply(NamedTuple):
  """What a worker and those below it return.

  Attributes:
    parts: their results, reduced to complete subtrees of the shards.
    dead: the causes of the deaths that callers met, by the number of the
      worker; the results of what was below it are missing too.
  """

  parts: dict[reduction.Node, Any]
  dead: dict[int, str]


def _divided(workers: range, fan_out: int) -> list[range]:
  """Divides workers into the subtrees below a caller, the largest one last.

  The first worker of a subtree calls the others.
  """
  n, count = len(workers), min(len(workers), fan_out)
  return [workers[n * k // count : n * (k + 1) // count] for k in range(count)]


def layout(workers: int, fan_out: int) -> dict[int, list[int]]:
  """Lays out the tree, in which every subtree is a range of workers.

  Args:
    workers: their number W.
    fan_out: the most workers that one process calls.

  Returns:
    The numbers of the workers that the LEARNER and each worker call.
  """
  members: dict[int, list[int]] = {}

  def visit(caller: int, below: range) -> None:
    parts = _divided(below, fan_out)
    members[caller] = [part[0] for part in parts]
    for part in parts:
      visit(part[0], part[1:])

  visit(LEARNER, range(workers))
  return members


def calls_by_level(workers: int, fan_out: int = FAN_OUT) -> list[int]:
  """Returns how many calls a process makes on each level of the tree.

  Args:
    workers: their number W.
    fan_out: the most workers that one process calls.

  Returns:
    The numbers on the way to the largest subtree, from the learner down.
  """
  found, below = [], range(workers)
  while below:
    parts = _divided(below, fan_out)
    found.append(len(parts))
    below = parts[-1][1:]
  return found


def started(
  actors: Mapping[int, Any],
  number: int,
  operation: str,
  arguments: tuple[Any, ...],
) -> dict[int, Any]:
  """Starts an operation on workers and those below them.

  Args:
    actors: the workers, by their numbers.
    number: of the call.
    operation: see Worker.call.
    arguments: its arguments.

  Returns:
    The references of the answers, by the number of the worker.
  """
  import ray

  shared = ray.put(arguments) if len(actors) > 1 else arguments
  return {
    i: actor.call.remote(number, operation, shared)
    for i, actor in actors.items()
  }


def collected(
  num_shards: int,
  own: Mapping[reduction.Node, Any],
  calls: Mapping[int, Any],
  waiting: Callable[[], None] = lambda: None,
) -> Reply:
  """Waits for the answers of workers and adds them to the caller's results.

  Args:
    num_shards: number S of all shards.
    own: the caller's results.
    calls: what `started` returned.
    waiting: see `answers`.
  """
  found, dead = answers(calls, waiting)
  parts = dict(own)
  for reply in found.values():
    parts |= reply.parts
    dead |= reply.dead
  return Reply(reduction.partial(num_shards, parts), dead)


def answers(
  calls: Mapping[int, Any], waiting: Callable[[], None] = lambda: None
) -> tuple[dict[int, Any], dict[int, str]]:
  """Waits for the answers of workers.

  Args:
    calls: their references, by the number of the worker.
    waiting: called every ten seconds until there is an answer.

  Returns:
    The answers, and the causes of the deaths of those that died before.
  """
  import ray

  found, dead = {}, {}
  for index, call in calls.items():
    try:
      found[index] = _answer(call, waiting)
    except (
      ray.exceptions.RayActorError,
      ray.exceptions.ObjectLostError,  # with the node that had it
    ) as error:
      dead[index] = str(error).strip().splitlines()[-1]
  return found, dead


def _answer(call: Any, waiting: Callable[[], None]) -> Any:
  import ray

  while True:
    try:
      return ray.get(call, timeout=_PATIENCE)
    except ray.exceptions.GetTimeoutError:
      waiting()
    except ray.exceptions.RayTaskError as error:
      raise error.cause if error.cause else error from None
