"""Runs all that a table needs, and says how it goes."""

from collections.abc import Callable, Iterator, Sequence

from trpo_tf.reproduction import estimate, logs, runner
from trpo_tf.reproduction.plan import Group, Run
from trpo_tf.reproduction.table import Table

__all__ = ['Campaign']


class Campaign:
  """The runs of a table until each has finished or failed.

  Runs that have finished before are skipped; those of a sweep come first in
  their task, and the value that they choose is repeated over seeds as soon as
  they have ended.

  Attributes:
    failures: how the runs that failed ended.
  """

  def __init__(
    self,
    table: Table,
    groups: Sequence[Group],
    jobs: int,
    tell: Callable[[str], None],
  ):
    """Plans; nothing runs yet.

    Args:
      table: the table.
      groups: its runs.
      jobs: processes side by side.
      tell: takes the lines to show.
    """
    self._table, self._groups, self._jobs = table, groups, jobs
    self._tell = tell
    self._logs = logs.Logs(table)
    self._begun = set[Run]()
    self._group = {
      run: group
      for group in groups
      for runs in group.variants.values()
      for run in runs
    }
    self.failures: list[runner.Ending] = []

  def run(
    self,
    command: Callable[[Run], Sequence[str]],
    stops: Callable[[], int] = lambda: 0,
  ) -> bool:
    """Runs what is left.

    Args:
      command: of a run.
      stops: number of requests to stop so far; see runner.execute.

    Returns:
      Whether all runs ended, as opposed to a stop.
    """
    self._tell(self._plan())
    return runner.execute(
      list(self._first()), command, self._jobs, self._on_end, stops
    )

  def _first(self) -> Iterator[Run]:
    """The runs to start with: by task, sweeps first, then seed by seed."""
    for task in self._table.tasks:
      groups = [group for group in self._groups if group.task == task]
      ready = [(g, run) for g in groups for run in self._ready(g)]
      ready.sort(key=lambda pair: (pair[1] not in pair[0].sweep, pair[1].seed))
      yield from (run for _, run in ready)

  def _ready(self, group: Group) -> list[Run]:
    """The runs of a group that can be started now, each once."""
    variant = None
    if all(
      run in self._failed or self._logs.finished(run) for run in group.sweep
    ):
      variant = logs.choose(group, self._logs)
    runs = group.sweep if variant is None else group.runs(variant)
    ready = [
      run
      for run in runs
      if run not in self._begun and not self._logs.finished(run)
    ]
    self._begun.update(ready)
    return ready

  @property
  def _failed(self) -> list[Run]:
    return [ending.run for ending in self.failures]

  def _on_end(self, ending: runner.Ending) -> list[Run]:
    """Tells of a run and returns those that it makes possible."""
    run, log = ending.run, self._logs(ending.run)
    name, minutes = ' '.join(run.parts), _duration(ending.seconds)
    if log and log.finished and not ending.failure:
      value = logs.tail_mean(log.values)
      what = f'{self._table.metric_name} {value:.4g}, {minutes}'
    else:
      reason = ending.failure or 'it ended before its last iteration'
      self.failures.append(runner.Ending(run, ending.seconds, reason))
      what = f'FAILED after {minutes}: {reason} ({runner.log_file(run)})'
    ready = self._ready(self._group[run])
    self._tell(f'{name}: {what}; {self._state()}')
    return ready

  def _work(self) -> list[tuple[Group, list[Run]]]:
    """All runs of each group; of a sweep not yet decided, as many as needed."""
    return [
      (group, list(group.runs(logs.choose(group, self._logs))))
      for group in self._groups
    ]

  def _plan(self) -> str:
    work = self._work()
    runs = [run for _, runs in work for run in runs]
    done = sum(map(self._logs.finished, runs))
    steps = estimate.most_env_steps(runs, self._logs)
    seconds = estimate.seconds_left(self._table, work, self._logs, self._jobs)
    return (
      f'{len(runs)} run{"s" * (len(runs) > 1)}, {done} of them finished; at '
      f'most {steps:.3g} env steps to go, about {_duration(seconds)} on '
      f'{self._jobs} '
      f'process{"es" * (self._jobs > 1)}'
    )

  def _state(self) -> str:
    failed = self._failed
    work = [
      (group, [run for run in runs if run not in failed])
      for group, runs in self._work()
    ]
    runs = [run for _, runs in work for run in runs]
    done = sum(map(self._logs.finished, runs))
    seconds = estimate.seconds_left(self._table, work, self._logs, self._jobs)
    failures = f', {len(failed)} failed' if failed else ''
    return (
      f'{done} of {len(runs) + len(failed)} runs done{failures}, about '
      f'{_duration(seconds)} left'
    )


def _duration(seconds: float) -> str:
  if seconds < 90:
    return f'{seconds:.0f} s'
  if seconds < 5400:
    return f'{seconds / 60:.1f} min'
  return f'{seconds / 3600:.1f} h'
