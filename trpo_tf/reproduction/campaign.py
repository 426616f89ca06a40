"""Runs everything that a table needs and reports its progress."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from trpo_tf.reproduction import estimate, logs, runner
from trpo_tf.reproduction.plan import Entry, PlannedRun
from trpo_tf.reproduction.table import Table

__all__ = ['Campaign']


class Campaign:
  """Runs the entries of a table until each run has finished or failed.

  Runs that have finished before are skipped. The runs of a sweep come first in
  their task. As soon as they have ended, the chosen value is run with the other
  seeds.

  Attributes:
    failures: the endings of the runs that failed.
  """

  def __init__(
    self,
    table: Table,
    entries: Sequence[Entry],
    pool: runner.Pool,
    tell: Callable[[str], None],
  ):
    """Prepares the campaign; nothing runs yet.

    Args:
      table: the table.
      entries: the runs to do.
      pool: runs the processes.
      tell: called with each line of the progress report.
    """
    self._table, self._entries, self._pool = table, entries, pool
    self._tell = tell
    self._logs = logs.Logs(table)
    self._begun = set[PlannedRun]()
    self._entry = {
      run: entry
      for entry in entries
      for runs in entry.variants.values()
      for run in runs
    }
    self.failures: list[runner.Ending] = []

  def run(
    self,
    arguments: Callable[[PlannedRun], Sequence[str]],
    stops: Callable[[], int] = lambda: 0,
  ) -> bool:
    """Runs everything that has not finished yet.

    Args:
      arguments: returns the arguments of Python for a run.
      stops: returns the number of requests to stop so far; see runner.execute.

    Returns:
      True if all runs ended, False if a stop was requested.
    """
    self._tell(self._plan())
    return runner.execute(
      list(self._first()), arguments, self._pool, self._on_end, stops
    )

  def _first(self) -> Iterator[PlannedRun]:
    """The runs that can start at once: by task, sweeps first, then by seed."""
    for task in self._table.tasks:
      entries = [entry for entry in self._entries if entry.task == task]
      ready = [(g, run) for g in entries for run in self._ready(g)]
      ready.sort(key=lambda pair: (pair[1] not in pair[0].sweep, pair[1].seed))
      yield from (run for _, run in ready)

  def _ready(self, entry: Entry) -> list[PlannedRun]:
    """The runs of an entry that can start now; each is returned only once."""
    variant = None
    if all(
      run in self._failed or self._logs.finished(run) for run in entry.sweep
    ):
      variant = logs.choose(entry, self._logs)
    runs = entry.sweep if variant is None else entry.runs(variant)
    ready = [
      run
      for run in runs
      if run not in self._begun and not self._logs.finished(run)
    ]
    self._begun.update(ready)
    return ready

  @property
  def _failed(self) -> list[PlannedRun]:
    return [ending.run for ending in self.failures]

  def _on_end(self, ending: runner.Ending) -> list[PlannedRun]:
    """Reports the ending of a run and returns the runs that can start now."""
    run, log = ending.run, self._logs(ending.run)
    name, minutes = ' '.join(run.parts), _duration(ending.seconds)
    if ending.processes > 1:
      minutes += f', begun {ending.processes} times'
    if log and log.finished and not ending.failure:
      value = logs.tail_mean(log.values)
      what = f'{self._table.metric_name} {value:.4g}, {minutes}'
    else:
      reason = ending.failure or 'it ended before its last iteration'
      self.failures.append(dataclasses.replace(ending, failure=reason))
      what = f'FAILED after {minutes}: {reason} ({runner.log_file(run)})'
    ready = self._ready(self._entry[run])
    self._tell(f'{name}: {what}; {self._state()}')
    return ready

  def _work(self) -> list[tuple[Entry, list[PlannedRun]]]:
    """The runs that each entry needs; before its sweep is decided, a guess."""
    return [
      (entry, list(entry.runs(logs.choose(entry, self._logs))))
      for entry in self._entries
    ]

  def _plan(self) -> str:
    work = self._work()
    runs = [run for _, runs in work for run in runs]
    done = sum(map(self._logs.finished, runs))
    steps = estimate.max_env_steps(runs, self._logs)
    steps = int(float(f'{steps:.3g}'))
    seconds, size = self._seconds_left(work), self._pool.size
    return (
      f'{len(runs)} run{"s" * (len(runs) > 1)}, {done} of them finished; at '
      f'most {steps:,} env steps to go, about {_duration(seconds)} on '
      f'{size} process{"es" * (size > 1)}'
    )

  def _seconds_left(
    self, work: Sequence[tuple[Entry, Sequence[PlannedRun]]]
  ) -> float:
    return estimate.seconds_left(self._table, work, self._logs, self._pool.size)

  def _state(self) -> str:
    failed = self._failed
    work = [
      (entry, [run for run in runs if run not in failed])
      for entry, runs in self._work()
    ]
    runs = [run for _, runs in work for run in runs]
    done = sum(map(self._logs.finished, runs))
    seconds = self._seconds_left(work)
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
