"""The numbers of a table's rows and a figure's lines."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from trpo_tf.experiment import statistics
from trpo_tf.reproduction import logs
from trpo_tf.reproduction.plan import Group
from trpo_tf.reproduction.table import Curve, Table

__all__ = ['Result', 'gather']

_WINDOW = 0.05  # of the iterations


@dataclasses.dataclass(frozen=True)
class Result:
  """A method on a task, over seeds, up to the iteration that all reached.

  Attributes:
    task: name in the table.
    method: name in the table.
    setting: swept setting and its chosen value; empty without a sweep.
    sweep: mean over the last tenth of the iterations by tried value; NaN for
      a run that has not finished.
    values: the metric, [seeds, iterations].
    env_steps: so far, [seeds, iterations].
    planned_seeds: number of seeds.
    planned_iterations: of each seed; 0 if env steps decide.
    reference: the published curve; None if there is none.
  """

  task: str
  method: str
  setting: str
  sweep: dict[str, float]
  values: np.ndarray
  env_steps: np.ndarray
  planned_seeds: int
  planned_iterations: int
  reference: Curve | None

  @property
  def window(self) -> int:
    """Iterations that are averaged at the end: 5 % of them, at least one."""
    return max(1, round(_WINDOW * self.values.shape[1]))

  @property
  def final(self) -> np.ndarray:
    """The metric at the end, [seeds]."""
    return self.values[:, -self.window :].mean(axis=1)

  @property
  def final_interval(self) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean of `final`; NaN for one seed."""
    low, high = statistics.bootstrap_interval(self.final)
    return float(low), float(high)

  @property
  def reference_there(self) -> float:
    """The published curve over the iterations of `final`; NaN beyond its end.

    Iteration 1 of a run samples the initial policy, as iteration 0 of the
    published curves.
    """
    count = self.values.shape[1]
    if self.reference is None or count - 1 > self.reference.x[-1]:
      return float('nan')
    iterations = np.arange(count - self.window, count)
    published = np.interp(iterations, self.reference.x, self.reference.y)
    return float(published.mean())

  @property
  def reference_end(self) -> float:
    """The last value of the published curve."""
    return float('nan') if self.reference is None else self.reference.y[-1]


def gather(
  table: Table, groups: Sequence[Group], read: logs.Logs
) -> list[Result]:
  """Collects the results of the groups that have any.

  Args:
    table: the table.
    groups: of runs; the order stays.
    read: reads their logs.

  Returns:
    A result of each group in which a run has finished an iteration and, after
    a sweep, a value could be chosen.
  """
  results = (_gather(table, group, read) for group in groups)
  return [result for result in results if result is not None]


def _gather(table: Table, group: Group, read: logs.Logs) -> Result | None:
  variant = logs.choose(group, read)
  if variant is None:
    return None
  runs = group.variants[variant]
  found = [log for run in runs if (log := read(run)) is not None]
  if not found:
    return None
  count = min(log.values.size for log in found)
  sweep = {
    run.variant: logs.tail_mean(log.values) if log and log.finished else np.nan
    for run, log in ((run, read(run)) for run in group.sweep)
  }
  return Result(
    task=group.task,
    method=group.method,
    setting=f'{group.swept}={variant}' if group.swept else '',
    sweep=sweep,
    values=np.stack([log.values[:count] for log in found]),
    env_steps=np.stack([log.progress['env_steps'][:count] for log in found]),
    planned_seeds=len(runs),
    planned_iterations=runs[0].config.run.total_iterations,
    reference=table.reference.get(group.task, {}).get(group.method),
  )
