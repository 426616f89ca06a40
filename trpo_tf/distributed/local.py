"""The engine that runs all shards in this process, side by side in threads."""

import concurrent.futures
import functools
import os
from typing import Any, Protocol

import tensorflow as tf

from trpo_tf.config import ExperimentConfig, settings
from trpo_tf.distributed import reduction, value_fit
from trpo_tf.distributed.value_fit import AdamState
from trpo_tf.distributed.worker import Worker

__all__ = ['Engine', 'LocalEngine', 'one_thread_per_shard']


class Engine(Protocol):
  """Runs operations on all shards and reduces what they return."""

  def begin(self, states: dict[int, Any] | None) -> None:
    """Begins an iteration.

    Args:
      states: the samplers' states, by shard, from which the iteration can be
        repeated; None: the shards stand at their beginning.
    """

  def map(self, operation: str, *arguments: Any) -> Any:
    """Calls an operation on every shard.

    Args:
      operation: see Shard.call.
      *arguments: its arguments.

    Returns:
      The result, reduced over the shards.
    """

  def fit(self, start: AdamState, done: int, steps: int) -> AdamState:
    """Takes the steps of Adam of a fit that all shards have begun.

    Args:
      start: the value network's state.
      done: number of Adam's steps before.
      steps: number of steps.

    Returns:
      The state afterwards.
    """

  def deaths(self) -> tuple[str, ...]:
    """Returns the causes of the deaths of workers since the last call."""

  def close(self) -> None:
    """Ends the workers."""


class LocalEngine:
  """Runs the shards in this process; see Engine."""

  def __init__(self, config: ExperimentConfig):
    """Builds the shards.

    Args:
      config: the experiment.
    """
    self._num_shards = config.sampler.num_shards
    self._rate = config.estimator.value_learning_rate
    cores = len(os.sched_getaffinity(0))
    self._threads = concurrent.futures.ThreadPoolExecutor(
      min(self._num_shards, cores)
    )
    self._worker = Worker(
      settings(config), range(self._num_shards), self._threads.map
    )

  def begin(self, states: dict[int, Any] | None) -> None:
    """Does nothing, as no worker can be lost; see Engine."""

  def map(self, operation: str, *arguments: Any) -> Any:
    """Calls an operation on every shard; see Engine."""
    parts = self._worker.call(operation, arguments)
    return reduction.finished(self._num_shards, parts)

  def fit(self, start: AdamState, done: int, steps: int) -> AdamState:
    """Takes the steps of Adam of a fit; see Engine."""
    found = self._worker.whole_fit(start, done, steps)
    if found is not None:
      return found
    gradient = functools.partial(self.map, 'value_gradient')
    return value_fit.by_rounds(gradient, start, done, steps, self._rate)

  def deaths(self) -> tuple[str, ...]:
    """Returns (); see Engine."""
    return ()

  def close(self) -> None:
    """Stops the threads, which may still step, and then the samplers."""
    self._threads.shutdown(cancel_futures=True)
    self._worker.close()


def one_thread_per_shard() -> None:
  """Lets each TensorFlow operation use one thread, and shards run together.

  The result of an operation may depend on the number of its threads, which
  must be the same in all processes that hold shards.
  """
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(
    len(os.sched_getaffinity(0))
  )
