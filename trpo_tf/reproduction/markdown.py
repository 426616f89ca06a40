"""Renders the results of a reproduction as Markdown."""

import math
from collections.abc import Iterable, Sequence

import matplotlib.ticker

from trpo_tf.experiment import tables
from trpo_tf.reproduction.results import Result
from trpo_tf.reproduction.table import Table

__all__ = ['across_tasks', 'counts', 'mean', 'render', 'task_table']

_HEADS = (
  'method',
  'seeds',
  'iterations',
  'env steps a run',
  'ours (95 % interval)',
  'paper, same {}',
  'paper, end',
)


def render(table: Table, budget: str, results: Sequence[Result]) -> str:
  """Renders a caption and a small table for each task.

  Args:
    table: the table.
    budget: name of the budget, for the caption.
    results: the results, in the order of the rows.

  Returns:
    The Markdown text.
  """
  parts = [_caption(table, budget, results)]
  if table.published:
    parts.append(_summary(table, results))
  for task in table.tasks:
    rows = [result for result in results if result.task == task]
    if rows:
      title = f'## {_label(table, task)}\n\n'
      parts.append(title + task_table(table, results, task))
      parts += [_sweep(table, row) for row in rows if row.sweep]
  return '\n\n'.join(parts) + '\n'


def task_table(table: Table, results: Sequence[Result], task: str) -> str:
  """Renders the rows of one task.

  Args:
    table: the table.
    results: the results, in the order of the rows.
    task: name of the task in the table.

  Returns:
    The Markdown text without a line break at the end.
  """
  rows = [_row(table, result) for result in results if result.task == task]
  return tables.grid([head.format(_unit(table)) for head in _HEADS], rows)


def across_tasks(
  table: Table, results: Sequence[Result], methods: Sequence[str]
) -> str:
  """Renders some methods beside the paper, with a row for each task.

  Args:
    table: the table.
    results: the results; all methods have all tasks.
    methods: names of the methods in the table.

  Returns:
    The Markdown text without a line break at the end.
  """
  found = {(r.method, r.task): r for r in results}
  names = [_label(table, method) for method in methods]
  heads = ['task']
  for name in names:
    heads += [name, f"the paper's {name}"]
  rows = []
  for task in table.tasks:
    cells = [_label(table, task)]
    for result in (found[method, task] for method in methods):
      cells += [mean(result), _number(result.reference_there)]
    rows.append(cells)
  return tables.grid(heads, rows)


def _caption(table: Table, budget: str, results: Iterable[Result]) -> str:
  lines = [
    f'Budget `{budget}`. The metric is the {table.metric_text}.',
    f'Our value is the mean of the metric over seeds{_window(table)}. Its '
    'interval is the 95 % percentile bootstrap interval of the mean over seeds'
    f'{_single(table)}. For five normal values, a percentile interval covers '
    'the mean in 84 % of cases.',
    f"The paper's values are from {table.reference_text}. The column with the "
    f'same {_unit(table)} reads its curve where our value was measured, by '
    'linear interpolation. Our value is bold if its whole interval lies above '
    'that.',
  ]
  if any(result.unfinished for result in results):
    lines.append(
      '"n of m" and "so far" mark runs that are not finished: the runs of a '
      'row count up to the end of the shortest one.'
    )
  return '\n'.join(lines)


def _unit(table: Table) -> str:
  return 'env steps' if table.by_env_steps else 'iterations'


def _window(table: Table) -> str:
  if not table.window:
    return ', after the last iteration'
  last = f'{100 * table.window:g} %'
  return f' and over the last {last} of the iterations (at least one)'


def _single(table: Table) -> str:
  if table.error is None:
    return ''
  return '; with one seed, it is the normal interval of the mean over episodes'


def _summary(table: Table, results: Sequence[Result]) -> str:
  """A table with a row for each published score and each of our methods."""
  tasks = [t for t in table.tasks if any(r.task == t for r in results)]
  found = {(r.method, r.task): r for r in results}
  heads = ['method', *(_label(table, task) for task in tasks)]
  rows = []
  for name, values in table.published.items():
    cells = [f'{values[t]:g}' if t in values else '-' for t in tasks]
    rows.append([name, *cells])
  for method in table.methods:
    row = [found.get((method, task)) for task in tasks]
    if any(row):
      cells = [_so_far(result) if result else '-' for result in row]
      rows.append([f'ours: {_label(table, method)}', *cells])
      rows += _differences(table, method, tasks, row)
  return tables.grid(heads, rows)


def _so_far(result: Result) -> str:
  return mean(result) + ', so far' * result.unfinished


def _differences(
  table: Table,
  method: str,
  tasks: Sequence[str],
  row: Sequence[Result | None],
) -> list[list[str]]:
  """The row with our scores minus those of the counterpart, if there is one."""
  name = table.counterparts.get(method)
  if name is None:
    return []
  cells = []
  for task, result in zip(tasks, row, strict=True):
    cell, other = '-', table.published[name].get(task)
    if result and other is not None:
      low, high = (end - other for end in result.final_interval)
      cell = f'{result.final.mean() - other:+.3g} ({low:+.3g} to {high:+.3g})'
    cells.append(cell)
  return [[f'ours less {name}', *cells]]


def counts(result: Result) -> tuple[str, str, str]:
  """Formats the seeds, and the iterations and env steps of each run."""
  few, most = result.iterations.min(), result.iterations.max()
  planned = 0 if result.finished else result.planned_iterations
  return (
    _of(len(result.values), result.planned_seeds),
    f'{few} to {most}' if few < most else _of(few, planned),
    _env_steps(result),
  )


def _row(table: Table, result: Result) -> tuple[str, ...]:
  method = _label(table, result.method)
  if result.setting:
    method += f' ({result.setting})'
  return (
    method,
    *counts(result),
    mean(result),
    _number(result.reference_there),
    _number(result.reference_end),
  )


def _env_steps(result: Result) -> str:
  count = matplotlib.ticker.EngFormatter(places=1, sep='')
  steps = count(result.env_steps[:, -1].mean())
  if result.planned_iterations or not result.unfinished:
    return steps
  return f'{steps} of {count(result.planned_env_steps)}'


def mean(result: Result) -> str:
  """Formats the mean over seeds with its interval; bold: above the paper."""
  text = _number(result.final.mean())
  low, high = result.final_interval
  if low > result.reference_there:
    text = f'**{text}**'
  if math.isnan(low):
    return text
  return f'{text} ({_number(low)} to {_number(high)})'


def _sweep(table: Table, result: Result) -> str:
  name = result.setting.partition('=')[0]
  tried = ', '.join(f'{v}: {_number(x)}' for v, x in result.sweep.items())
  return (
    f'{_label(table, result.method).capitalize()}: `{name}` was swept with '
    'seed 0 and the best value repeated with the others. Mean over the last '
    f'tenth of the iterations: {tried}.'
  )


def _label(table: Table, name: str) -> str:
  return table.labels.get(name, name)


def _of(count: int, planned: int) -> str:
  return f'{count} of {planned}' if count < planned else str(count)


def _number(value: float) -> str:
  if math.isnan(value):
    return '-'
  return f'{value:.3f}' if abs(value) < 100 else f'{value:.1f}'
