"""Measures what one run on many workers costs, for a model of its time."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import pathlib
import pickle
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from trpo_tf import config as config_lib
from trpo_tf.benchmarks import timing
from trpo_tf.config import ExperimentConfig
from trpo_tf.distributed import links, ray_worker, value_fit
from trpo_tf.distributed import training as distributed
from trpo_tf.distributed.local import Engine, LocalEngine
from trpo_tf.distributed.ray_engine import RayEngine
from trpo_tf.distributed.value_fit import AdamState
from trpo_tf.experiment import flagfiles, progress

__all__ = [
  'Timed',
  'crowded_run',
  'echo_seconds',
  'experiment',
  'program_seconds',
  'timed_run',
]

_ROUNDS = 50  # maps of an echo
_SETTINGS = dict(
  task='Hopper-v5',
  num_slots=64,
  value_epochs=10,
  hidden_sizes=(64, 64),
  total_env_steps=2**50,
)


def experiment(batch_steps: int, num_shards: int) -> ExperimentConfig:
  """Returns the settings of the runs: Hopper-v5, ten minibatches an epoch.

  Args:
    batch_steps: env steps of a batch, a multiple of 640.
    num_shards: S.
  """
  return config_lib.from_settings(
    _SETTINGS
    | dict(
      batch_steps=batch_steps,
      value_minibatch=batch_steps // 10,
      num_shards=num_shards,
    )
  )


class Timed(NamedTuple):
  """The time of a run's iterations.

  Attributes:
    seconds: of an iteration, the median.
    operations: seconds and number of the calls of each operation in an
      iteration, the means.
    learner: seconds of an iteration that are not an operation's, the mean.
  """

  seconds: float
  operations: dict[str, tuple[float, float]]
  learner: float


class _Stopwatch:
  """An engine that measures another one's operations."""

  def __init__(self, engine: Engine, rate: float):
    self._engine, self._rate = engine, rate
    self.seconds: dict[str, float] = defaultdict(float)
    self.calls: dict[str, int] = defaultdict(int)
    self.begin, self.deaths = engine.begin, engine.deaths
    self.close = engine.close

  def map(self, operation: str, *arguments: Any) -> Any:
    """Calls an operation; see Engine."""
    return self._timed(operation, self._engine.map, operation, *arguments)

  def fit(self, start: AdamState, done: int, steps: int) -> AdamState:
    """Takes the steps of Adam of a fit; see Engine."""
    if isinstance(self._engine, LocalEngine):
      return self._timed('fit', self._engine.fit, start, done, steps)
    gradient = functools.partial(self.map, 'value_gradient')
    return value_fit.by_rounds(gradient, start, done, steps, self._rate)

  def _timed(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
    begin = time.perf_counter()
    found = function(*args)
    self.seconds[name] += time.perf_counter() - begin
    self.calls[name] += 1
    return found


@contextlib.contextmanager
def _engine(config: ExperimentConfig, workers: int) -> Iterator[Engine]:
  """An engine in this process (0 workers), or in the Ray that runs here."""
  made = RayEngine(config, workers) if workers else LocalEngine(config)
  try:
    yield made
  finally:
    made.close()


def program_seconds(config: ExperimentConfig, iterations: int) -> list[float]:
  """Measures iterations of the program train, in a process of its own.

  Args:
    config: the experiment.
    iterations: how many, after one that compiles everything.

  Returns:
    Seconds of each.
  """
  with tempfile.TemporaryDirectory() as folder:
    run = dataclasses.replace(
      config.run, total_iterations=iterations + 1, run_dir=f'{folder}/run'
    )
    path = pathlib.Path(folder, 'run.flags')
    settings = dataclasses.replace(config, run=run)
    path.write_text(flagfiles.flagfile(settings), encoding='utf-8')
    command = [sys.executable, '-m', 'trpo_tf.bin.train', f'--flagfile={path}']
    subprocess.run([*command, '--noprogress'], check=True, capture_output=True)
    found = progress.read_csv(f'{folder}/run/progress.csv')
  seconds = found['sample_seconds'] + found['update_seconds']
  return seconds[1:].tolist()


def timed_run(
  config: ExperimentConfig,
  workers: int,
  iterations: int,
  compiled: Callable[[], Any] = lambda: None,
) -> Timed:
  """Measures iterations, after one that compiles everything.

  Args:
    config: the experiment.
    workers: number of Ray actors; 0: the shards run in this process.
    iterations: how many.
    compiled: called before the first of them.
  """
  with _engine(config, workers) as engine:
    watch = _Stopwatch(engine, config.estimator.value_learning_rate)
    run = distributed.on_engine(config, watch).iterations()
    next(run)
    watch.seconds.clear()
    watch.calls.clear()
    compiled()
    seconds = [timing.seconds(lambda: next(run)) for _ in range(iterations)]
    operations = {
      name: (total / iterations, watch.calls[name] / iterations)
      for name, total in watch.seconds.items()
    }
  in_operations = sum(total for total, _ in operations.values())
  learner = statistics.mean(seconds) - in_operations
  return Timed(statistics.median(seconds), operations, learner)


def crowded_run(
  config: ExperimentConfig, copies: int, iterations: int
) -> Timed:
  """Measures a run with one worker while its copies keep other cores busy.

  Args:
    config: the experiment.
    copies: number of runs at the same time.
    iterations: of each, after one that compiles everything.

  Returns:
    The means over the runs.
  """
  together = threading.Barrier(copies).wait
  with concurrent.futures.ThreadPoolExecutor(copies) as threads:
    calls = [
      threads.submit(timed_run, config, 1, iterations, together)
      for _ in range(copies)
    ]
    found = [call.result() for call in calls]
  operations = {
    name: tuple(np.mean([run.operations[name] for run in found], axis=0))
    for name in found[0].operations
  }
  seconds, learner = (
    statistics.mean(getattr(run, name) for run in found)
    for name in ('seconds', 'learner')
  )
  return Timed(seconds, operations, learner)


class _Echo(ray_worker.Actor):
  """A worker that does nothing but answer."""

  def listen(self, key: bytes) -> links.Address:
    """Begins to listen; returns where."""
    import ray

    host = ray.util.get_node_ip_address()
    self._server = links.Server(lambda values: values, host, key)
    return self._server.address


def echo_seconds(workers: int, size: int) -> float:
  """Measures a map to some workers and the sum of what they return.

  Args:
    workers: number of Ray actors.
    size: float64 numbers that each worker gets and returns.

  Returns:
    The median time of a map, in seconds.
  """
  import ray

  actors = [ray.remote(num_cpus=0)(_Echo).remote() for _ in range(workers)]
  key = os.urandom(32)
  where = ray.get([actor.listen.remote(key) for actor in actors])
  members = dict(enumerate(zip(actors, where, strict=True)))
  made = ray_worker.joined({}, members, key).values()
  values, times = np.ones(size), []
  for _ in range(_ROUNDS + 3):
    begin = time.perf_counter()
    message = pickle.dumps((values,))
    for link in made:
      link.send(message)
    sum(link.answer() for link in made)
    times.append(time.perf_counter() - begin)
  for actor in actors:
    ray.kill(actor)
  return statistics.median(times[3:])
