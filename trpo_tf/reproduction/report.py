"""Writes the files of a reproduction: table.md, figure.png, a CSV per run."""

import csv
import io
import pathlib
from collections.abc import Sequence

from trpo_tf.experiment import checkpoint
from trpo_tf.reproduction import figure, logs, markdown
from trpo_tf.reproduction.plan import Entry
from trpo_tf.reproduction.results import gather
from trpo_tf.reproduction.table import Table

__all__ = ['write']

_COUNTS = ('iteration', 'env_steps')
_NUMBERS = (
  'return_mean',
  'mean_kl',
  'max_state_kl',
  'entropy',
  'diverged',
  'elapsed_seconds',
)


def write(
  table: Table,
  budget: str,
  entries: Sequence[Entry],
  directories: Sequence[pathlib.Path],
) -> bool:
  """Writes the results that a table has so far; other files stay as they are.

  Args:
    table: the table.
    budget: name of the budget, for the caption.
    entries: the entries to report.
    directories: directories that each get all files; missing ones are created.

  Returns:
    False if there is nothing to write yet.
  """
  read = logs.Logs(table)
  results = gather(table, entries, read)
  if not results:
    return False
  text, picture = markdown.render(table, budget, results), io.BytesIO()
  figure.draw(table, results).savefig(picture, format='png')
  files = {'table.md': text.encode(), 'figure.png': picture.getvalue()}
  for entry in entries:
    for runs in entry.variants.values():
      for run in runs:
        if (log := read(run)) is not None:
          files[f'csv/{"_".join(run.parts)}.csv'] = _slim(table, log)
  for directory in directories:
    (directory / 'csv').mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
      checkpoint.write_atomically(directory / name, content)
  return True


def _slim(table: Table, log: logs.Log) -> bytes:
  """A CSV file with the metric and some other columns, to six digits."""
  columns = {name: log.progress[name] for name in (*_COUNTS, *_NUMBERS)}
  columns[table.metric_name] = log.values
  names = [*_COUNTS, table.metric_name, *_NUMBERS]
  if table.error is not None:
    columns[table.error_name] = log.errors
    names.append(table.error_name)
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(names)
  for i in range(log.values.size):
    writer.writerow(
      f'{columns[name][i]:{".0f" if name in _COUNTS else ".6g"}}'
      for name in names
    )
  return text.getvalue().encode()
