"""What planned runs have done so far, from the files that they leave."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from trpo_tf import config as config_lib
from trpo_tf.errors import UserError
from trpo_tf.experiment import run_directory, sinks
from trpo_tf.reproduction.plan import Group, Run
from trpo_tf.reproduction.table import Table

__all__ = ['Log', 'Logs', 'choose', 'read', 'tail_mean']


@dataclasses.dataclass(frozen=True)
class Log:
  """The finished iterations of a run.

  Attributes:
    progress: columns of progress.csv, [iterations].
    values: the table's metric, [iterations].
    errors: its standard errors, [iterations]; NaN if it has none.
    finished: whether all planned iterations are there.
  """

  progress: dict[str, np.ndarray]
  values: np.ndarray
  errors: np.ndarray
  finished: bool


class Logs:
  """Reads logs; those of finished runs once."""

  def __init__(self, table: Table):
    self._table, self._finished = table, dict[str, Log]()

  def __call__(self, run: Run) -> Log | None:
    """The run's log; None without an iteration of the planned settings."""
    key = str(run.directory)
    log = self._finished.get(key) or read(self._table, run)
    if log and log.finished:
      self._finished[key] = log
    return log

  def finished(self, run: Run) -> bool:
    """Whether the run has all of its iterations."""
    log = self(run)
    return log is not None and log.finished


def read(table: Table, run: Run) -> Log | None:
  """Reads the log of a run.

  Args:
    table: whose metric is computed.
    run: what was planned.

  Returns:
    The log up to the planned number of iterations; None if the directory has
    no iteration yet, or none of a run with the planned settings.
  """
  try:
    found = run_directory.read_config(run.directory)
    progress = sinks.read_csv(run.directory / 'progress.csv')
  except UserError:  # not begun, or what the train binary will refuse
    return None
  wanted = run.config.run
  count = progress['iteration'].size
  if wanted.total_iterations:
    count = min(count, wanted.total_iterations)
  if not count or _identity(found) != _identity(run.config):
    return None
  progress = {name: column[:count] for name, column in progress.items()}
  finished = (
    count == wanted.total_iterations
    or progress['env_steps'][-1] >= wanted.total_env_steps
  )
  values = table.metric(progress, run.config)
  errors = (
    table.error(progress, run.config) if table.error else np.full(count, np.nan)
  )
  return Log(progress, values, errors, finished)


def _identity(config: config_lib.ExperimentConfig) -> Mapping[str, object]:
  return {
    name: value
    for name, value in config_lib.settings(config).items()
    if name not in run_directory.FREE_SETTINGS
  }


def tail_mean(values: np.ndarray) -> float:
  """The mean over the last tenth of the iterations, one at least."""
  return float(values[-max(1, values.size // 10) :].mean())


def choose(group: Group, logs: Logs) -> str | None:
  """Chooses the value of the swept setting that did best.

  Args:
    group: the runs.
    logs: of the runs.

  Returns:
    The variant with the highest mean over the last tenth of its iterations,
    among the finished runs of the sweep ('' if there is no sweep); None if
    none has a finite one.
  """
  if not group.swept:
    return ''
  scores = {
    run.variant: tail_mean(log.values)
    for run, log in _read_all(group.sweep, logs)
    if log.finished
  }
  finite = {v: score for v, score in scores.items() if np.isfinite(score)}
  return max(finite, key=finite.__getitem__) if finite else None


def _read_all(runs: Sequence[Run], logs: Logs) -> list[tuple[Run, Log]]:
  return [(run, log) for run in runs if (log := logs(run)) is not None]
