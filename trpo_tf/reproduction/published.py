"""Reads the CSV files that report.py has written, without the run directories.

The directories of a reproduction's runs are large and stay where they were
made. Their slim CSV files are published, so tables can be made from them again.
"""

import functools
import pathlib

import numpy as np

from trpo_tf.reproduction.logs import Log
from trpo_tf.reproduction.plan import PlannedRun
from trpo_tf.reproduction.table import Table

__all__ = ['CsvLogs']


class CsvLogs:
  """The logs of a table's runs as logs.Logs has them, from csv/ of a report.

  Numbers have six digits. Errors of the metric are NaN if a file lacks them.
  """

  def __init__(self, table: Table, directory: pathlib.Path):
    """Reads nothing yet.

    Args:
      table: the table.
      directory: a directory that report.write has filled.
    """
    self._table, self._csv = table, directory / 'csv'
    self._columns = functools.cache(_columns)

  def __call__(self, run: PlannedRun) -> Log | None:
    """Reads the log of a run; None if there is no file of it."""
    path = self._csv / f'{"_".join(run.parts)}.csv'
    progress = self._columns(path)
    if progress is None:
      return None
    wanted, count = run.config.run, progress['iteration'].size
    finished = (
      count == wanted.total_iterations
      or progress['env_steps'][-1] >= wanted.total_env_steps
    )
    values = progress[self._table.metric_name]
    errors = progress.get(self._table.error_name, np.full(count, np.nan))
    return Log(progress, values, errors, finished)


def _columns(path: pathlib.Path) -> dict[str, np.ndarray] | None:
  if not path.is_file():
    return None
  rows = np.genfromtxt(path, delimiter=',', names=True, ndmin=1)
  return {name: rows[name] for name in rows.dtype.names or ()}
