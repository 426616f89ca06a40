"""The tree in which workers call each other.

A caller pays for each call. The learner therefore calls few workers, and each
of them calls the workers below it and adds up what they return.
"""

import pickle
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from trpo_tf.distributed import links, reduction

__all__ = [
  'FAN_OUT',
  'LEARNER',
  'Reply',
  'calls_by_level',
  'collected',
  'layout',
  'start',
]

# The most workers that one process calls. A call costs more than a level of the
# tree (docs/results/scale.md): with 2 to 4 the way to a thousand workers has
# the fewest calls.
FAN_OUT = 4
LEARNER = -1  # the number of the caller at the top


class Reply(NamedTuple):
  """What a worker and those below it return.

  Attributes:
    parts: their results, reduced to complete subtrees of the shards.
    seconds: the time of each worker's own work, by its number.
    dead: the causes of the deaths that callers met, by the number of the
      worker; the results of what was below it are missing too.
  """

  parts: dict[reduction.Node, Any]
  seconds: dict[int, float]
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


def start(
  members: Mapping[int, links.Link],
  number: int,
  operation: str,
  arguments: tuple[Any, ...],
) -> None:
  """Starts an operation on workers and those below them.

  Args:
    members: connections to the workers, by their numbers.
    number: of the call.
    operation: see Worker.call.
    arguments: its arguments.
  """
  message = pickle.dumps((number, operation, arguments))
  for link in members.values():
    link.send(message)


def collected(
  num_shards: int,
  own: Reply,
  members: Mapping[int, links.Link],
  waiting: Callable[[], None] = lambda: None,
) -> Reply:
  """Waits for the answers of workers and adds them to the caller's results.

  Args:
    num_shards: number S of all shards.
    own: what the caller found itself.
    members: connections to the workers, by their numbers.
    waiting: called every ten seconds until there is an answer.

  Raises:
    Exception: a worker raised it; all have answered.
  """
  parts, seconds, dead = dict(own.parts), dict(own.seconds), dict(own.dead)
  errors = []
  for index, link in members.items():
    try:
      reply = link.answer(waiting)
    except links.Dead as death:
      dead[index] = str(death)
    except Exception as error:
      errors.append(error)
    else:
      parts |= reply.parts
      seconds |= reply.seconds
      dead |= reply.dead
  if errors:
    raise errors[0]
  return Reply(reduction.partial(num_shards, parts), seconds, dead)
