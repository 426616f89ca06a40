"""How much is left to do, before and while it is done."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from trpo_tf.config import ExperimentConfig
from trpo_tf.reproduction.logs import Log, Logs
from trpo_tf.reproduction.plan import Group, Run
from trpo_tf.reproduction.table import Table
from trpo_tf.tasks import registry

__all__ = ['most_env_steps', 'seconds_left']

_START_SECONDS = 8.0  # of a process, before its first iteration
_LONG_GAME = 4000  # env steps; few games of random play last longer


def _most_steps(config: ExperimentConfig) -> int:
  """About the most env steps of an iteration."""
  sampler = config.sampler
  if sampler.sampler == 'vine':
    return sampler.batch_steps + (
      sampler.rollout_set_size
      * sampler.branch_actions
      * sampler.branch_trials
      * sampler.branch_length
    )
  if not sampler.whole_episodes:
    return sampler.batch_steps
  task = registry.find_task(config.task.task)
  limit = config.task.time_limit or (task.time_limit if task else _LONG_GAME)
  return sampler.batch_steps + sampler.num_slots * (limit - 1)


def _done(log: Log | None) -> tuple[int, int]:
  """Iterations and env steps."""
  if log is None:
    return 0, 0
  return log.values.size, int(log.progress['env_steps'][-1])


def _most_left(run: Run, log: Log | None) -> int:
  """An upper bound on the env steps that a run still needs."""
  if log and log.finished:
    return 0
  most, wanted = _most_steps(run.config), run.config.run
  iterations, steps = _done(log)
  # the last iteration begins below the total
  left = wanted.total_env_steps - steps + most - 1
  if wanted.total_iterations:
    left = min(left, (wanted.total_iterations - iterations) * most)
  return left


def most_env_steps(runs: Iterable[Run], logs: Logs) -> int:
  """An upper bound on the env steps that runs still need."""
  return sum(_most_left(run, logs(run)) for run in runs)


class _Iteration(NamedTuple):
  """What one of a group takes.

  Attributes:
    seconds: wall-clock time.
    env_steps: in it.
  """

  seconds: float
  env_steps: float


def seconds_left(
  table: Table,
  work: Sequence[tuple[Group, Sequence[Run]]],
  logs: Logs,
  jobs: int,
) -> float:
  """Estimates the wall-clock time that runs still need.

  An iteration takes as long, and as many env steps, as those of the same task
  and method did so far; before there are any, as many as it can have, at
  table.speeds.

  Args:
    table: the table.
    work: the runs to do, by group.
    logs: of the groups' runs.
    jobs: processes side by side.

  Returns:
    Seconds.
  """
  left = []
  for group, runs in work:
    measured = _measured(group, logs)
    for run in runs:
      most = _most_steps(run.config)
      each = measured or _Iteration(most / table.speeds[run.task], most)
      left.append(_seconds(run, logs(run), each))
  return max(sum(left) / jobs, max(left, default=0.0))


def _measured(group: Group, logs: Logs) -> _Iteration | None:
  """The mean over all iterations of a group; None before there are any."""
  found = [
    log
    for runs in group.variants.values()
    for run in runs
    if (log := logs(run)) is not None
  ]
  if not found:
    return None
  iterations, steps = np.sum([_done(log) for log in found], axis=0)
  seconds = sum(log.progress['elapsed_seconds'][-1] for log in found)
  return _Iteration(seconds / iterations, steps / iterations)


def _seconds(run: Run, log: Log | None, each: _Iteration) -> float:
  if log and log.finished:
    return 0.0
  wanted, (done, steps) = run.config.run, _done(log)
  iterations = math.ceil((wanted.total_env_steps - steps) / each.env_steps)
  if wanted.total_iterations:
    iterations = min(iterations, wanted.total_iterations - done)
  return iterations * each.seconds + _START_SECONDS
