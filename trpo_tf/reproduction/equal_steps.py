"""The table that compares methods after equal numbers of env steps."""

from collections.abc import Sequence

import numpy as np

from trpo_tf.experiment import tables
from trpo_tf.reproduction.results import Result
from trpo_tf.reproduction.table import Table

__all__ = ['table']

_MILLIONS = 1, 2, 5, 10, 15, 20, 50, 100


def table(shown: Table, results: Sequence[Result], task: str) -> str:
  """Renders the metric of each method of a task after some env steps.

  Args:
    shown: the table that the results are of.
    results: the results.
    task: name of the task.

  Returns:
    The Markdown text: a row for each method, and a column for each number of
    env steps that two methods have reached. A value is the mean over seeds, by
    straight lines between the policies of an iteration.
  """
  found = [result for result in results if result.task == task]
  reached = sorted(result.env_steps.mean(axis=0)[-1] for result in found)
  columns = [n for n in _MILLIONS if n * 1e6 <= reached[-2]]
  rows = [
    (
      shown.labels.get(result.method, result.method),
      *(_after(result, n * 1e6) for n in columns),
    )
    for result in found
  ]
  return tables.grid(('method', *(f'{n}M' for n in columns)), rows)


def _after(result: Result, env_steps: float) -> str:
  """Writes the metric of the policy that has learned from so many env steps."""
  steps = result.env_steps.mean(axis=0)
  if steps[-1] < env_steps:
    return '-'
  # the first batch samples a policy that has learned from none
  learned_from = np.append(0, steps[:-1])
  return f'{np.interp(env_steps, learned_from, result.values.mean(axis=0)):.3f}'
