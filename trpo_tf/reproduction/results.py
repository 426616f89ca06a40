"""The numbers of a table's rows and a figure's lines."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from trpo_tf.experiment import statistics
from trpo_tf.reproduction import logs
from trpo_tf.reproduction.plan import Group
from trpo_tf.reproduction.table import Curve, Table

__all__ = ['Result', 'gather']

_DEVIATIONS = 1.96  # of a normal distribution to either end of 95 %


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
    errors: standard errors of the values, [seeds, iterations], or NaN.
    env_steps: so far, [seeds, iterations].
    planned_seeds: number of seeds.
    planned_iterations: of each seed; 0 if env steps decide.
    planned_env_steps: of each seed, unless the iterations are fewer.
    reference: the published curve; None if there is none.
    by_env_steps: whether its x are env steps.
    window: iterations that are averaged at the end.
  """

  task: str
  method: str
  setting: str
  sweep: dict[str, float]
  values: np.ndarray
  errors: np.ndarray
  env_steps: np.ndarray
  planned_seeds: int
  planned_iterations: int
  planned_env_steps: int
  reference: Curve | None
  by_env_steps: bool
  window: int

  @property
  def unfinished(self) -> bool:
    """Whether seeds, iterations or env steps are still to come."""
    seeds, iterations = self.values.shape
    return seeds < self.planned_seeds or (
      iterations < self.planned_iterations
      if self.planned_iterations
      else bool(self.env_steps[:, -1].min() < self.planned_env_steps)
    )

  @property
  def x(self) -> np.ndarray:
    """Where the values belong in the published figure, [iterations].

    Iteration 1 of a run samples the initial policy, as iteration 0 of the
    published curves: nothing was learned from its env steps yet.
    """
    if not self.by_env_steps:
      return np.arange(self.values.shape[1], dtype=float)
    return np.append(0.0, self.env_steps.mean(axis=0)[:-1])

  @property
  def final(self) -> np.ndarray:
    """The metric at the end, [seeds]."""
    return self.values[:, -self.window :].mean(axis=1)

  @property
  def final_interval(self) -> tuple[float, float]:
    """The 95 % interval of the mean of `final`.

    By bootstrap over seeds; for one seed by its own standard error, NaN
    without one.
    """
    if len(self.values) == 1:
      reach = _DEVIATIONS * float(self.errors[0, -self.window :].mean())
      return float(self.final[0]) - reach, float(self.final[0]) + reach
    low, high = statistics.bootstrap_interval(self.final)
    return float(low), float(high)

  @property
  def interval(self) -> tuple[np.ndarray, np.ndarray]:
    """The same for the mean of `values`, [iterations] each."""
    if len(self.values) == 1:
      reach = _DEVIATIONS * self.errors[0]
      return self.values[0] - reach, self.values[0] + reach
    low, high = statistics.bootstrap_interval(self.values, resamples=2000)
    return low, high

  @property
  def reference_there(self) -> float:
    """The published curve at the x of `final`; NaN beyond its end."""
    if self.reference is None or self.x[-1] > self.reference.x[-1]:
      return float('nan')
    published = np.interp(
      self.x[-self.window :], self.reference.x, self.reference.y
    )
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
    errors=np.stack([log.errors[:count] for log in found]),
    env_steps=np.stack([log.progress['env_steps'][:count] for log in found]),
    planned_seeds=len(runs),
    planned_iterations=runs[0].config.run.total_iterations,
    planned_env_steps=runs[0].config.run.total_env_steps,
    reference=table.reference.get(group.task, {}).get(group.method),
    by_env_steps=table.by_env_steps,
    window=max(1, round(table.window * count)),
  )
