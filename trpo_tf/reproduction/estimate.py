"""Estimates how much work the runs of a table still need."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from trpo_tf.config import ExperimentConfig
from trpo_tf.reproduction.logs import Log, Logs
from trpo_tf.reproduction.plan import Entry, PlannedRun
from trpo_tf.reproduction.table import Table
from trpo_tf.tasks import registry

__all__ = ['max_env_steps', 'seconds_left']

_START_SECONDS = 8.0  # from the start of a process to its first iteration
_JOYSTICK = 18  # actions of an Atari game, more than most tasks have
_LONG_GAME = 4000  # env steps; few games of random play last longer


def _max_steps(config: ExperimentConfig) -> int:
  """About the largest number of env steps that an iteration can take."""
  sampler = config.sampler
  if sampler.sampler == 'vine':
    return sampler.batch_steps + config.max_branch_steps(_JOYSTICK)
  if not sampler.whole_episodes:
    return sampler.batch_steps
  task = registry.find_task(config.task.task)
  limit = config.task.time_limit or (task.time_limit if task else _LONG_GAME)
  return sampler.batch_steps + sampler.num_slots * (limit - 1)


def _done(log: Log | None) -> tuple[int, int]:
  """The numbers of finished iterations and env steps."""
  if log is None:
    return 0, 0
  return log.values.size, int(log.progress['env_steps'][-1])


def _max_left(run: PlannedRun, log: Log | None) -> int:
  """An upper bound on the env steps that a run still needs."""
  if log and log.finished:
    return 0
  most, wanted = _max_steps(run.config), run.config.run
  iterations, steps = _done(log)
  # the last iteration begins below the total
  left = wanted.total_env_steps - steps + most - 1
  if wanted.total_iterations:
    left = min(left, (wanted.total_iterations - iterations) * most)
  return left


def max_env_steps(runs: Iterable[PlannedRun], logs: Logs) -> int:
  """Bounds the env steps that runs still need.

  Args:
    runs: the runs.
    logs: reads their logs.

  Returns:
    An upper bound on the sum over the runs, in env steps.
  """
  return sum(_max_left(run, logs(run)) for run in runs)


class _Iteration(NamedTuple):
  """The mean cost of an iteration of an entry.

  Attributes:
    seconds: wall-clock time.
    env_steps: number of env steps.
  """

  seconds: float
  env_steps: float


def seconds_left(
  table: Table,
  work: Sequence[tuple[Entry, Sequence[PlannedRun]]],
  logs: Logs,
  jobs: int,
) -> float:
  """Estimates the wall-clock time that runs still need.

  The estimate assumes that an iteration costs as much as the finished ones of
  the same task and method did on average. Before there are any, it assumes the
  largest possible number of env steps at the speed of table.speeds.

  Args:
    table: the table.
    work: pairs of an entry and those of its runs that are to be done.
    logs: reads the logs of the entries' runs.
    jobs: number of processes that run side by side.

  Returns:
    Seconds.
  """
  left = []
  for entry, runs in work:
    measured = _measured(entry, logs)
    for run in runs:
      most = _max_steps(run.config)
      each = measured or _Iteration(most / table.speeds[run.task], most)
      left.append(_seconds(run, logs(run), each))
  return max(sum(left) / jobs, max(left, default=0.0))


def _measured(entry: Entry, logs: Logs) -> _Iteration | None:
  """The mean over all finished iterations of an entry; None if none is."""
  found = [
    log
    for runs in entry.variants.values()
    for run in runs
    if (log := logs(run)) is not None
  ]
  if not found:
    return None
  iterations, steps = np.sum([_done(log) for log in found], axis=0)
  seconds = sum(log.progress['elapsed_seconds'][-1] for log in found)
  return _Iteration(seconds / iterations, steps / iterations)


def _seconds(run: PlannedRun, log: Log | None, each: _Iteration) -> float:
  if log and log.finished:
    return 0.0
  wanted, (done, steps) = run.config.run, _done(log)
  iterations = math.ceil((wanted.total_env_steps - steps) / each.env_steps)
  if wanted.total_iterations:
    iterations = min(iterations, wanted.total_iterations - done)
  return iterations * each.seconds + _START_SECONDS
