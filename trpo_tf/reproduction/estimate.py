"""How much is left to do, before and while it is done."""

import math
from collections.abc import Iterable, Mapping, Sequence

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
      sampler.rollout_set_size * sampler.branch_actions
      * sampler.branch_trials * sampler.branch_length
    )  # fmt: skip
  if not sampler.whole_episodes:
    return sampler.batch_steps
  task = registry.find_task(config.task.task)
  limit = config.task.time_limit or (task.time_limit if task else _LONG_GAME)
  return sampler.batch_steps + sampler.num_slots * (limit - 1)


def _iterations_left(run: Run, log: Log | None) -> int:
  """An upper bound on the iterations that a run still needs."""
  if log and log.finished:
    return 0
  done = log.values.size if log else 0
  steps = int(log.progress['env_steps'][-1]) if log else 0
  wanted = run.config.run
  by_steps = math.ceil(
    (wanted.total_env_steps - steps) / run.config.sampler.batch_steps
  )
  if not wanted.total_iterations:
    return by_steps
  return min(by_steps, wanted.total_iterations - done)


def most_env_steps(runs: Iterable[Run], logs: Logs) -> int:
  """An upper bound on the env steps that runs still need."""
  return sum(
    _iterations_left(run, logs(run)) * _most_steps(run.config) for run in runs
  )


def seconds_left(
  table: Table,
  work: Sequence[tuple[Group, Sequence[Run]]],
  logs: Logs,
  jobs: int,
) -> float:
  """Estimates the wall-clock time that runs still need.

  An iteration takes as long as those of the same task and method did so far;
  before there are any, as its largest number of env steps at table.speeds.

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
    measured = _seconds_per_iteration(group, logs)
    for run in runs:
      each = measured or _most_steps(run.config) / table.speeds[run.task]
      iterations = _iterations_left(run, logs(run))
      left.append(iterations * each + _START_SECONDS * (iterations > 0))
  return max(sum(left) / jobs, max(left, default=0.0))


def _seconds_per_iteration(group: Group, logs: Logs) -> float:
  """The mean over all iterations of a group; 0 before there are any."""
  columns: list[Mapping] = [
    log.progress
    for runs in group.variants.values()
    for run in runs
    if (log := logs(run)) is not None
  ]
  count = sum(c['iteration'].size for c in columns)
  return sum(c['elapsed_seconds'][-1] for c in columns) / max(count, 1)
