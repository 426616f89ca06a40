"""The engine that runs blocks of shards in the actors of a Ray cluster.

A worker that dies is replaced. Its shards begin with the samplers' states at
the beginning of the iteration and repeat what the iteration did so far, so that
no byte of the result changes. The call in which it died is then made again with
the same number, by which the workers that have done it know it.
"""

import contextlib
import functools
import sys
from collections.abc import Iterator
from typing import Any

from trpo_tf.config import ExperimentConfig, settings
from trpo_tf.distributed import (
  ray_cluster,
  reduction,
  value_fit,
  worker_tree,
)
from trpo_tf.distributed.value_fit import AdamState
from trpo_tf.distributed.worker_tree import Reply
from trpo_tf.errors import UserError

__all__ = ['RayEngine', 'connected']

_MOST_DEATHS = 100  # in an iteration, beyond one of each worker

# Operations that change a shard: a replaced worker repeats them.
_CHANGING = frozenset({'restore', 'sample', 'estimate', 'prepare', 'begin_fit'})


class _Actor:
  """A process that holds a block of shards and calls the workers below it."""

  def build(
    self,
    values: dict[str, Any],
    shards: list[int],
    journal: list[tuple[str, tuple[Any, ...]]],
    members: dict[int, Any],
  ) -> None:
    """Builds the shards, which repeat what the iteration did so far.

    Args:
      values: see Worker.
      shards: see Worker.
      journal: operations and their arguments.
      members: see `link`.
    """
    from trpo_tf.distributed import local, worker

    local.one_thread_per_shard()
    self._worker = worker.Worker(values, shards)
    for operation, arguments in journal:
      self._worker.call(operation, arguments)
    self._number, self._own = 0, dict[Any, Any]()
    self.link(members)

  def link(self, members: dict[int, Any]) -> None:
    """Takes the actors below this one, by the numbers of the workers."""
    self._members = members

  def call(
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
    calls = worker_tree.started(self._members, number, operation, arguments)
    if number > self._number:
      self._own = self._worker.call(operation, arguments)
      self._number = number
    return worker_tree.collected(self._worker.num_shards, self._own, calls)


class RayEngine:
  """Runs the shards in Ray actors; see Engine."""

  def __init__(
    self,
    config: ExperimentConfig,
    workers: int,
    fan_out: int = worker_tree.FAN_OUT,
  ):
    """Starts the actors, which build their shards.

    Args:
      config: the experiment.
      workers: number W of actors; each holds a contiguous block of shards.
      fan_out: the most actors that one process calls.

    Raises:
      UserError: the task cannot be built.
    """
    S = config.sampler.num_shards
    self._settings, self._num_shards = settings(config), S
    self._rate = config.estimator.value_learning_rate
    self._blocks = [
      list(range(S * w // workers, S * (w + 1) // workers))
      for w in range(workers)
    ]
    self._layout = worker_tree.layout(workers, fan_out)
    self._caller = {i: c for c, below in self._layout.items() for i in below}
    self._journal: list[tuple[str, tuple[Any, ...]]] = []
    self._calls = 0
    self._deaths: list[str] = []
    self._actors = [_start() for _ in self._blocks]
    self._replace(self._died({i: self._build(i) for i in range(workers)}))

  def begin(self, states: dict[int, Any] | None) -> None:
    """Forgets what the last iteration did; see Engine."""
    self._journal = [] if states is None else [('restore', (states,))]

  def map(self, operation: str, *arguments: Any) -> Any:
    """Calls an operation on every shard; see Engine."""
    self._calls += 1
    reply = self._call(operation, arguments)
    while reply.dead:
      self._replace(reply.dead)
      reply = self._call(operation, arguments)
    if operation in _CHANGING:
      self._journal.append((operation, arguments))
    return reduction.finished(self._num_shards, reply.parts)

  def fit(self, start: AdamState, done: int, steps: int) -> AdamState:
    """Takes the steps of Adam of a fit; see Engine."""
    gradient = functools.partial(self.map, 'value_gradient')
    return value_fit.by_rounds(gradient, start, done, steps, self._rate)

  def deaths(self) -> tuple[str, ...]:
    """Returns the causes of the deaths of workers; see Engine."""
    found, self._deaths = tuple(self._deaths), []
    return found

  def close(self) -> None:
    """Ends the actors."""
    import ray

    for actor in self._actors:
      ray.kill(actor)

  def _call(self, operation: str, arguments: tuple[Any, ...]) -> Reply:
    calls = self._started(operation, arguments)
    return worker_tree.collected(
      self._num_shards, {}, calls, self._say_if_waiting
    )

  def _started(
    self, operation: str, arguments: tuple[Any, ...]
  ) -> dict[int, Any]:
    """Starts the call with the present number."""
    top = self._members(worker_tree.LEARNER)
    return worker_tree.started(top, self._calls, operation, arguments)

  def _members(self, caller: int) -> dict[int, Any]:
    return {i: self._actors[i] for i in self._layout[caller]}

  def _build(self, index: int) -> Any:
    """Starts to build a worker's shards; returns the reference."""
    return self._actors[index].build.remote(
      self._settings,
      self._blocks[index],
      self._journal,
      self._members(index),
    )

  def _died(self, calls: dict[int, Any]) -> dict[int, str]:
    """Waits for workers; returns the causes of the deaths among them."""
    return worker_tree.answers(calls, self._say_if_waiting)[1]

  def _replace(self, dead: dict[int, str]) -> None:
    """Replaces workers that died, which repeat their part of the iteration."""
    import ray

    while dead:
      for index, cause in dead.items():
        self._deaths.append(f'worker {index} died ({cause})')
        ray.kill(self._actors[index])  # if it is only out of reach
        self._actors[index] = _start()
      if len(self._deaths) > _MOST_DEATHS + len(self._actors):
        raise UserError(
          f'{len(self._deaths)} workers died in one iteration; the last: '
          f'{self._deaths[-1]}'
        )
      callers = {self._caller[i] for i in dead} - {worker_tree.LEARNER, *dead}
      calls = {i: self._build(i) for i in dead}
      calls |= {
        i: self._actors[i].link.remote(self._members(i)) for i in callers
      }
      dead = self._died(calls)

  def _say_if_waiting(self) -> None:
    import ray

    cores = int(ray.cluster_resources().get('CPU', 0))
    if cores < len(self._actors):
      print(
        f'waiting for a core for each of {len(self._actors)} workers: the '
        f'cluster has {cores}',
        file=sys.stderr,
        flush=True,
      )


def _start() -> Any:
  import ray

  return ray.remote(num_cpus=1, max_restarts=0)(_Actor).remote()


@contextlib.contextmanager
def connected(
  config: ExperimentConfig, address: str, workers: int
) -> Iterator[RayEngine]:
  """Starts or joins Ray and the workers, and ends what was started.

  Args:
    config: the experiment.
    address: see ray_cluster.connect.
    workers: number of workers; 0: one per core, and at most one per shard.

  Yields:
    The engine.

  Raises:
    UserError: Ray cannot be used, or the run cannot be built.
  """
  with ray_cluster.connect(address, workers or None) as cluster:
    count = workers or min(cluster.cores, config.sampler.num_shards)
    engine = RayEngine(config, count)
    try:
      yield engine
    finally:
      engine.close()
