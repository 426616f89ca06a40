"""Reads what planned runs have done so far from their run directories."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from trpo_tf import config as config_lib
from trpo_tf.errors import UserError
from trpo_tf.experiment import (
  checkpoint,
  evaluations,
  run_directory,
  saved_runs,
)
from trpo_tf.experiment import progress as progress_lib
from trpo_tf.reproduction.plan import Entry, PlannedRun
from trpo_tf.reproduction.table import Table

__all__ = ['Log', 'Logs', 'Read', 'choose', 'read', 'tail_mean']


@dataclasses.dataclass(frozen=True)
class Log:
  """The finished iterations of a run.

  Attributes:
    progress: columns of progress.csv, [iterations] each; see progress.read_csv.
    values: the table's metric, float64 [iterations].
    errors: standard errors of the values, float64 [iterations]; NaN if the
      metric has none.
    finished: whether the run has all planned iterations or env steps, or the
      return that ends it.
  """

  progress: dict[str, np.ndarray]
  values: np.ndarray
  errors: np.ndarray
  finished: bool


# Reads what a planned run has done so far; None if nothing.
Read = Callable[[PlannedRun], Log | None]


class Logs:
  """Reads the logs of a table's runs and keeps those of finished runs."""

  def __init__(self, table: Table):
    self._table, self._finished = table, dict[str, Log]()

  def __call__(self, run: PlannedRun) -> Log | None:
    """Reads the log of a run; see `read`."""
    key = str(run.directory)
    log = self._finished.get(key) or read(self._table, run)
    if log and log.finished:
      self._finished[key] = log
    return log

  def finished(self, run: PlannedRun) -> bool:
    """Returns whether the run has all of its iterations."""
    log = self(run)
    return log is not None and log.finished


def read(table: Table, run: PlannedRun) -> Log | None:
  """Reads the log of a run.

  Args:
    table: the table, whose metric is computed.
    run: the planned run.

  Returns:
    The log up to the planned number of iterations. None if the run directory
    has no iteration yet, or belongs to a run with other settings.
  """
  try:
    found = saved_runs.read_config(run.directory)
    progress = progress_lib.read_csv(run.directory / 'progress.csv')
    evaluated = evaluations.read(run.directory / 'evaluations.csv')
  except UserError:  # not begun, or damaged: the train binary will say so
    return None
  wanted = run.config.run
  count = progress['iteration'].size
  if wanted.total_iterations:
    count = min(count, wanted.total_iterations)
  if not count or _identity(found) != _identity(run.config):
    return None
  progress = {name: column[:count] for name, column in progress.items()}
  reached = (
    count == wanted.total_iterations
    or progress['env_steps'][-1] >= wanted.total_env_steps
    or evaluations.best_return(evaluated) >= wanted.stop_at_return
  )
  finished = bool(reached) and _is_saved(run, int(progress['iteration'][-1]))
  values = table.metric(progress, run.config)
  errors = (
    table.error(progress, run.config) if table.error else np.full(count, np.nan)
  )
  return Log(progress, values, errors, finished)


def _is_saved(run: PlannedRun, iteration: int) -> bool:
  """Returns whether the last state of a run is on the disk.

  The rows of an iteration are there before its checkpoint, so a run that was
  killed between them has to be continued. Checkpoints that somebody deleted
  with their directory are not missed.
  """
  folder = run.directory / 'checkpoints'
  return not folder.exists() or (
    checkpoint.newest_iteration(folder) >= iteration
  )


def _identity(config: config_lib.ExperimentConfig) -> Mapping[str, object]:
  return {
    name: value
    for name, value in config_lib.settings(config).items()
    if name not in run_directory.FREE_SETTINGS
  }


def tail_mean(values: np.ndarray) -> float:
  """Averages the last tenth of the values, [iterations]; at least one value."""
  return float(values[-max(1, values.size // 10) :].mean())


def choose(entry: Entry, logs: Read) -> str | None:
  """Chooses the best value of the swept setting.

  Args:
    entry: the runs.
    logs: reads their logs.

  Returns:
    The variant whose finished run in the sweep has the highest mean over the
    last tenth of its iterations. '' without a sweep. None if no finished run
    has a finite mean.
  """
  if not entry.swept:
    return ''
  scores = {
    run.variant: tail_mean(log.values)
    for run, log in _read_all(entry.sweep, logs)
    if log.finished
  }
  finite = {v: score for v, score in scores.items() if np.isfinite(score)}
  return max(finite, key=finite.__getitem__) if finite else None


def _read_all(
  runs: Sequence[PlannedRun], logs: Read
) -> list[tuple[PlannedRun, Log]]:
  return [(run, log) for run in runs if (log := logs(run)) is not None]
