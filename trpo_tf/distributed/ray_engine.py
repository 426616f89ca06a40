"""The engine that runs blocks of shards in the actors of a Ray cluster.

A worker that dies is replaced. Its shards begin with the samplers' states at
the beginning of the iteration and repeat what the iteration did so far, so that
no byte of the result changes. The call in which it died is then made again with
the same number, by which the workers that have done it know it.
"""

import contextlib
import functools
import secrets
import sys
from collections.abc import Collection, Iterator
from typing import Any

from trpo_tf.config import ExperimentConfig, settings
from trpo_tf.distributed import (
  links,
  ray_cluster,
  ray_worker,
  reduction,
  stragglers,
  value_fit,
  worker_tree,
)
from trpo_tf.distributed.value_fit import AdamState
from trpo_tf.distributed.worker_tree import Reply
from trpo_tf.errors import UserError

__all__ = ['RayEngine', 'connected', 'default_workers']

_MOST_DEATHS = 100  # in an iteration, beyond one of each worker
_PATIENCE = 10.0  # seconds between two messages about a missing answer

# Operations that change a shard: a replaced worker repeats them.
_CHANGING = frozenset(
  {
    'restore',
    'sample',
    'estimate',
    'prepare',
    'weigh_evenly',
    'measure',
    'reweigh',
    'scale_weights',
    'begin_fit',
  }
)


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
    self._stragglers = stragglers.Stragglers()
    self._key = secrets.token_bytes(32)
    self._links: dict[int, links.Link] = {}
    self._actors = [_start() for _ in self._blocks]
    self._addresses: dict[int, links.Address] = {}
    self._replace(self._join(range(workers)))

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
    if operation == 'sample':
      self._say_if_slow(reply.seconds)
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
    for link in self._links.values():
      link.close()

  def _call(self, operation: str, arguments: tuple[Any, ...]) -> Reply:
    self._start_call(operation, arguments)
    nothing = Reply({}, {}, {})
    return worker_tree.collected(
      self._num_shards, nothing, self._links, self._say_if_waiting
    )

  def _start_call(self, operation: str, arguments: tuple[Any, ...]) -> None:
    """Starts the call with the present number."""
    worker_tree.start(self._links, self._calls, operation, arguments)

  def _join(self, new: Collection[int]) -> dict[int, str]:
    """Builds the shards of new workers and connects them with their callers.

    Returns:
      The causes of the deaths among all that were called.
    """
    built = {
      i: self._actors[i].build.remote(
        i, self._settings, self._blocks[i], self._journal, self._key
      )
      for i in new
    }
    addresses, dead = self._answers(built)
    self._addresses |= addresses
    below = {
      caller: {
        i: (self._actors[i], self._addresses[i])
        for i in members
        if i in self._addresses and (i in new or caller in new)
      }
      for caller, members in self._layout.items()
    }
    self._links = ray_worker.joined(
      self._links, below.pop(worker_tree.LEARNER), self._key
    )
    linked = {
      caller: self._actors[caller].link.remote(members)
      for caller, members in below.items()
      if members and caller not in dead
    }
    return dead | self._answers(linked)[1]

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
      dead = self._join(dead)

  def _answers(
    self, calls: dict[int, Any]
  ) -> tuple[dict[int, Any], dict[int, str]]:
    """Waits for calls of Ray.

    Args:
      calls: the references of their results, by the number of the worker.

    Returns:
      The results, and the causes of the deaths of those that died before.
    """
    import ray

    found, dead = {}, {}
    for index, call in calls.items():
      try:
        while not ray.wait([call], timeout=_PATIENCE)[0]:
          self._say_if_waiting()
        found[index] = ray.get(call)
      except ray.exceptions.RayTaskError as error:
        raise error.cause if error.cause else error from None
      except (
        ray.exceptions.RayActorError,
        ray.exceptions.ObjectLostError,  # with the node that had it
      ) as error:
        dead[index] = ray_worker.cause(error)
    return found, dead

  def _say_if_waiting(self) -> None:
    import ray

    cores = int(ray.cluster_resources().get('CPU', 0))
    if cores < len(self._actors):
      _say(
        f'waiting for a core for each of {len(self._actors)} workers: the '
        f'cluster has {cores}'
      )

  def _say_if_slow(self, seconds: dict[int, float]) -> None:
    for worker, ratio in self._stragglers.found(seconds).items():
      host = self._addresses[worker][0]
      _say(
        f'worker {worker} on {host} takes {ratio:.1f} times as long to sample '
        'as the others, which wait for it: see what else its machine does'
      )


def _start() -> Any:
  import ray

  return ray.remote(num_cpus=1, max_restarts=0)(ray_worker.Actor).remote()


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


def default_workers(cores: int, num_shards: int) -> int:
  """Returns the number of workers if --ray_workers does not give it.

  Args:
    cores: cores of the cluster, 0 if it only grows when they are asked for.
    num_shards: number of shards of the run.
  """
  return max(1, min(cores, num_shards))


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
    shards = config.sampler.num_shards
    engine = RayEngine(
      config, workers or default_workers(cluster.cores, shards)
    )
    try:
      yield engine
    finally:
      engine.close()
