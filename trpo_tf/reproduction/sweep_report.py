"""Writes the results of a sweep: table.md and curves.png."""

import io
import pathlib
from collections.abc import Sequence

import numpy as np

from trpo_tf import config as config_lib
from trpo_tf.experiment import (
  checkpoint,
  flagfiles,
  plots,
  run_logs,
  tables,
)
from trpo_tf.reproduction import logs, markdown
from trpo_tf.reproduction.plan import Entry
from trpo_tf.reproduction.results import Result, gather
from trpo_tf.reproduction.sweep import Axis
from trpo_tf.reproduction.table import Table

__all__ = ['render', 'write']


def write(
  table: Table,
  axes: Sequence[Axis],
  entries: Sequence[Entry],
  out: pathlib.Path,
) -> list[str]:
  """Writes the results that a sweep has so far.

  Args:
    table: the table of the sweep.
    axes: the settings that vary.
    entries: the cells, in the order of the rows.
    out: directory that gets the files.

  Returns:
    The names of the files; none if there is nothing to write yet, and no
    curves.png before an episode has ended.
  """
  read = logs.Logs(table)
  results = gather(table, entries, read)
  if not results:
    return []
  text = render(table, axes, entries, results)
  checkpoint.write_atomically(out / 'table.md', text.encode())
  paths = [
    run.directory
    for entry in entries
    for run in entry.variants['']
    if (log := read(run)) and np.isfinite(log.values).any()
  ]
  if not paths:
    return ['table.md']
  picture = io.BytesIO()
  groups = run_logs.group_runs([run_logs.load_run(path) for path in paths])
  plots.learning_curves(groups).savefig(picture, format='png')
  checkpoint.write_atomically(out / 'curves.png', picture.getvalue())
  return ['table.md', 'curves.png']


def render(
  table: Table,
  axes: Sequence[Axis],
  entries: Sequence[Entry],
  results: Sequence[Result],
) -> str:
  """Renders a row for each cell that has results.

  Args:
    table: the table of the sweep.
    axes: the settings that vary, a column each.
    entries: the cells.
    results: their results, in the order of the rows.

  Returns:
    The Markdown text.
  """
  names = ['task', *(axis.name for axis in axes if axis.name != 'task')]
  heads = ('seeds', 'iterations', 'env steps a run', 'return (95 % interval)')
  rows = []
  cells = {
    (entry.task, entry.method): config_lib.settings(entry.runs('')[0].config)
    for entry in entries
  }
  for result in results:
    cell = cells[result.task, result.method]
    values = (flagfiles.flag_text(cell[name]) for name in names)
    rows.append((*values, *markdown.counts(result), markdown.mean(result)))
  lines = [
    f'The return is the mean of the {table.metric_text} over seeds and the '
    f'last {100 * table.window:g} % of the iterations, with the 95 % bootstrap '
    'interval of that mean over seeds.',
  ]
  if any(result.unfinished for result in results):
    lines.append(
      '"n of m" marks what is not finished: its return is from as far as all '
      'of its runs have come.'
    )
  lines += ['', tables.grid([*names, *heads], rows)]
  return '\n'.join(lines) + '\n'
