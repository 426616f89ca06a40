"""A model of the time of an iteration on any number of workers.

An iteration samples, and then calls its workers in rounds. The work of a round
is proportional to the states of a worker. Its communication is, on each level
of the tree of workers, a latency, a time for each call, and the bytes of the
vectors. The model is fitted on one machine and assumes that every worker has a
core like those of this machine.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from trpo_tf.distributed.worker_tree import FAN_OUT, calls_by_level

__all__ = ['ASSUMPTIONS', 'Latency', 'Model', 'fit_latency', 'fit_model']

ASSUMPTIONS = (
  'every worker has a core of its own, as fast as one of this machine while '
  'its other cores are as busy',
  'a network is as fast as the connection between processes here, but for '
  'the latency and bandwidth that the options give',
  'a process talks to the workers that it calls one after the other, and calls '
  f'at most {FAN_OUT}',
  'shards are equally large, and no worker is slower than the others',
  'the number of rounds is the one measured here; minibatches of the value '
  'network are a tenth of a batch',
)


class Latency(NamedTuple):
  """The time of a map without work.

  Attributes:
    fixed: seconds for each level of the tree of workers.
    per_worker: seconds for each worker that a process calls.
    per_byte: seconds for each byte of a worker's argument and result.
  """

  fixed: float
  per_worker: float
  per_byte: float

  def seconds(self, workers: int, size: float) -> float:
    """Returns the time of a map.

    Args:
      workers: number of workers.
      size: bytes of a worker's argument and result together.
    """
    return sum(
      self.fixed + calls * (self.per_worker + self.per_byte * size)
      for calls in calls_by_level(workers)
    )


def fit_latency(measured: Mapping[tuple[int, int], float]) -> Latency:
  """Fits a Latency by least squares of relative errors, none below 0.

  Args:
    measured: seconds by number of workers, which one process calls, and bytes.
  """
  import scipy.optimize

  rows = np.array([(1.0, w, w * b) for w, b in measured])
  seconds = np.array([*measured.values()])
  scale = np.abs(rows).max(axis=0)
  found, _ = scipy.optimize.nnls(
    rows / scale / seconds[:, np.newaxis], np.ones(len(seconds))
  )
  return Latency(*(found / scale).tolist())


class Model(NamedTuple):
  """What an iteration does.

  Attributes:
    work: seconds of work for each env step of a batch, by operation, on one
      core.
    rounds: number of calls, by operation.
    sizes: bytes of argument and result of a call to one worker.
    latency: of a call.
    learner: seconds of an iteration that the learner computes alone.
  """

  work: dict[str, float]
  rounds: dict[str, float]
  sizes: dict[str, float]
  latency: Latency
  learner: float

  def seconds(self, workers: int, batch_steps: int) -> dict[str, float]:
    """Predicts the time of an iteration by its parts.

    Args:
      workers: number of workers.
      batch_steps: env steps of a batch.

    Returns:
      Seconds of sampling, of the rest of the work, of communication and of the
      learner.
    """
    work = {k: v * batch_steps / workers for k, v in self.work.items()}
    sampling = work.pop('sample')
    talk = sum(
      n * self.latency.seconds(workers, self.sizes.get(k, 0.0))
      for k, n in self.rounds.items()
    )
    return dict(
      sampling=sampling,
      update=sum(work.values()),
      communication=talk,
      learner=self.learner,
    )

  def efficiency(self, workers: int, batch_steps: int) -> float:
    """Predicts the speed-up over one worker, over the number of workers.

    Args:
      workers: number of workers.
      batch_steps: env steps of a batch.
    """
    one, many = (
      sum(self.seconds(w, batch_steps).values()) for w in (1, workers)
    )
    return one / many / workers


def fit_model(
  operations: Mapping[str, Sequence[float]],
  batch_steps: int,
  parameters: tuple[int, int],
  latency: Latency,
  learner: float,
) -> Model:
  """Makes the model from a measured run on one worker.

  Args:
    operations: seconds and number of calls of each operation, in an iteration.
    batch_steps: env steps of its batch.
    parameters: P and V, numbers of the policy and of the value network.
    latency: of a call.
    learner: seconds of an iteration that the learner computes alone.
  """
  P, V = parameters
  sizes = {
    'sample': 4.0 * P,
    'estimate': 4.0 * V,
    'prepare': 8.0 * P,
    'product': 16.0 * P,
    'evaluate': 4.0 * P,
    'value_gradient': 12.0 * V,
    'squared_error': 4.0 * V,
  }
  work = {}
  for name, (total, calls) in operations.items():
    talk = calls * latency.seconds(1, sizes.get(name, 0.0))
    work[name] = max(0.0, total - talk) / batch_steps
  rounds = {name: float(calls) for name, (_, calls) in operations.items()}
  return Model(work, rounds, sizes, latency, learner)
