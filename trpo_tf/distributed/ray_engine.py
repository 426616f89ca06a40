"""The engine that runs blocks of shards in the actors of a Ray cluster.

A worker that dies is replaced. Its shards begin with the samplers' states at
the beginning of the iteration and repeat what the iteration did so far, so that
no byte of the result changes.
"""

import contextlib
import functools
import sys
from collections.abc import Iterator
from typing import Any

from trpo_tf.config import ExperimentConfig, settings
from trpo_tf.distributed import ray_cluster, reduction, value_fit
from trpo_tf.distributed.value_fit import AdamState
from trpo_tf.errors import UserError

__all__ = ['RayEngine', 'connected']

_PATIENCE = 10.0  # seconds between two messages about a missing worker
_MOST_DEATHS = 100  # of workers in an iteration: then it is not the machines

# Operations that change a shard: a replaced worker repeats them.
_CHANGING = frozenset({'restore', 'sample', 'estimate', 'prepare', 'begin_fit'})


class _Actor:
  """A process that holds a block of shards."""

  def build(self, values: dict[str, Any], shards: list[int]) -> None:
    """Builds the shards; see Worker."""
    from trpo_tf.distributed import local, worker

    local.one_thread_per_shard()
    self._worker = worker.Worker(values, shards)

  def call(self, operation: str, arguments: Any) -> dict[Any, Any]:
    """Calls an operation; see Worker."""
    return self._worker.call(operation, arguments)


class RayEngine:
  """Runs the shards in Ray actors; see Engine."""

  def __init__(self, config: ExperimentConfig, workers: int):
    """Starts the actors, which build their shards.

    Args:
      config: the experiment.
      workers: number W of actors; each holds a contiguous block of shards.

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
    self._journal: list[tuple[str, tuple[Any, ...]]] = []
    self._deaths: list[str] = []
    self._actors = [self._start() for _ in self._blocks]
    for index in range(workers):
      self._build(index)

  def _start(self) -> Any:
    import ray

    return ray.remote(num_cpus=1, max_restarts=0)(_Actor).remote()

  def _build(self, index: int) -> None:
    call = self._actors[index].build.remote(self._settings, self._blocks[index])
    self._get(call)

  def begin(self, states: dict[int, Any] | None) -> None:
    """Forgets what the last iteration did; see Engine."""
    self._journal = [] if states is None else [('restore', (states,))]

  def map(self, operation: str, *arguments: Any) -> Any:
    """Calls an operation on every shard; see Engine."""
    import ray

    shared = ray.put(arguments) if len(self._actors) > 1 else arguments
    calls = [self._call(i, operation, shared) for i in range(len(self._actors))]
    parts: dict[Any, Any] = {}
    for index, call in enumerate(calls):
      try:
        found = self._get(call)
      except ray.exceptions.RayActorError as error:
        found = self._repeated(index, operation, arguments, error)
      parts |= found
    if operation in _CHANGING:
      self._journal.append((operation, arguments))
    return reduction.finished(self._num_shards, parts)

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

  def _call(self, index: int, operation: str, arguments: Any) -> Any:
    """Starts an operation on a worker's shards; returns the reference."""
    return self._actors[index].call.remote(operation, arguments)

  def _get(self, call: Any) -> Any:
    """Waits for a result, and says so if there is no room for the worker."""
    import ray

    while True:
      ready, _ = ray.wait([call], timeout=_PATIENCE)
      if ready:
        break
      self._say_if_waiting()
    try:
      return ray.get(call)
    except ray.exceptions.RayTaskError as error:
      raise error.cause if error.cause else error from None

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

  def _repeated(
    self, index: int, operation: str, arguments: Any, error: Exception
  ) -> Any:
    """Replaces a worker that died and repeats its part of the iteration."""
    import ray

    while True:
      cause = str(error).strip().splitlines()[-1]
      self._deaths.append(f'worker {index} died ({cause})')
      if len(self._deaths) > _MOST_DEATHS:
        raise UserError(
          f'{len(self._deaths)} workers died in one iteration; the last cause: '
          f'{cause}'
        )
      try:
        self._actors[index] = self._start()
        self._build(index)
        for earlier in self._journal:
          self._get(self._call(index, *earlier))
        return self._get(self._call(index, operation, arguments))
      except ray.exceptions.RayActorError as again:
        error = again


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
