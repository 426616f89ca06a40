"""Computes the numbers of a table's rows and a figure's lines."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from trpo_tf.experiment import statistics
from trpo_tf.reproduction import logs
from trpo_tf.reproduction.plan import Entry
from trpo_tf.reproduction.table import Curve, Table

__all__ = ['Result', 'gather']

_DEVIATIONS = 1.96  # half of a normal 95 % interval, in standard deviations


@dataclasses.dataclass(frozen=True)
class Result:
  """The results of an entry, as far as all of its runs have come.

  That is the last common iteration, or the last common number of env steps if
  env steps alone end a run. Such runs may have different numbers of iterations.
  The columns are those of the run with the most, and the other runs are
  interpolated at its env steps.

  Attributes:
    task: name of the task in the table.
    method: name of the method in the table.
    setting: swept setting with its chosen value; empty without a sweep.
    sweep: by tried value, the mean over the last tenth of the iterations; NaN
      for a run that has not finished.
    values: the metric, float64 [seeds, iterations].
    errors: standard errors of the values, float64 [seeds, iterations], or NaN.
    env_steps: env steps so far, float64 [seeds, iterations].
    iterations: iterations that these values are from, int64 [seeds].
    finished: whether all of these runs have ended.
    planned_seeds: planned number of seeds.
    planned_iterations: planned iterations of each seed; 0 if env steps alone
      end a run.
    planned_env_steps: env steps that end the run of each seed, unless the
      planned iterations end it first.
    reference: the published curve; None if there is none.
    by_env_steps: whether the x of the published curve are env steps.
    window: number of iterations at the end that are averaged.
  """

  task: str
  method: str
  setting: str
  sweep: dict[str, float]
  values: np.ndarray
  errors: np.ndarray
  env_steps: np.ndarray
  iterations: np.ndarray
  finished: bool
  planned_seeds: int
  planned_iterations: int
  planned_env_steps: int
  reference: Curve | None
  by_env_steps: bool
  window: int

  @property
  def unfinished(self) -> bool:
    """Whether planned seeds, iterations or env steps are still missing."""
    return not self.finished or len(self.values) < self.planned_seeds

  @property
  def x(self) -> np.ndarray:
    """The x of the values in the published figure, float64 [iterations].

    Iteration 1 of a run samples the initial policy, which has learned nothing
    from these env steps yet. It is iteration 0 of the published curves.
    """
    if not self.by_env_steps:
      return np.arange(self.values.shape[1], dtype=float)
    return np.append(0.0, self.env_steps.mean(axis=0)[:-1])

  @property
  def final(self) -> np.ndarray:
    """The mean of the metric over the window, float64 [seeds]."""
    return self.values[:, -self.window :].mean(axis=1)

  @property
  def final_interval(self) -> tuple[float, float]:
    """Both ends of the 95 % interval of the mean of `final`.

    The interval is a bootstrap over seeds. With one seed it is computed from
    the standard error within the run; it is NaN if there is none.
    """
    if len(self.values) == 1:
      reach = _DEVIATIONS * float(self.errors[0, -self.window :].mean())
      return float(self.final[0]) - reach, float(self.final[0]) + reach
    low, high = statistics.bootstrap_interval(self.final)
    return float(low), float(high)

  @property
  def interval(self) -> tuple[np.ndarray, np.ndarray]:
    """The same interval for the mean of `values`, float64 [iterations] each."""
    if len(self.values) == 1:
      reach = _DEVIATIONS * self.errors[0]
      return self.values[0] - reach, self.values[0] + reach
    low, high = statistics.bootstrap_interval(self.values, resamples=2000)
    return low, high

  @property
  def reference_there(self) -> float:
    """The mean of the published curve over the window; NaN beyond its end."""
    if self.reference is None or self.x[-1] > self.reference.x[-1]:
      return float('nan')
    published = np.interp(
      self.x[-self.window :], self.reference.x, self.reference.y
    )
    return float(published.mean())

  @property
  def reference_end(self) -> float:
    """The last value of the published curve; NaN if there is none."""
    return float('nan') if self.reference is None else self.reference.y[-1]


def gather(
  table: Table, entries: Sequence[Entry], read: logs.Read
) -> list[Result]:
  """Collects the results of all entries that have any.

  Args:
    table: the table.
    entries: the entries, in the order of the results.
    read: reads the logs of their runs.

  Returns:
    A result for each entry in which a run has finished an iteration. With a
    sweep, the value must have been chosen too.
  """
  results = (_gather(table, entry, read) for entry in entries)
  return [result for result in results if result is not None]


def _gather(table: Table, entry: Entry, read: logs.Read) -> Result | None:
  variant = logs.choose(entry, read)
  if variant is None:
    return None
  runs = entry.variants[variant]
  found = [log for run in runs if (log := read(run)) is not None]
  if not found:
    return None
  wanted = runs[0].config.run
  by_iterations = wanted.total_iterations > 0 and not any(
    log.finished and log.values.size < wanted.total_iterations for log in found
  )
  values, errors, env_steps, iterations = (
    _first(found) if by_iterations else _resampled(found)
  )
  sweep = {
    run.variant: logs.tail_mean(log.values) if log and log.finished else np.nan
    for run, log in ((run, read(run)) for run in entry.sweep)
  }
  return Result(
    task=entry.task,
    method=entry.method,
    setting=f'{entry.swept}={variant}' if entry.swept else '',
    sweep=sweep,
    values=values,
    errors=errors,
    env_steps=env_steps,
    iterations=iterations,
    finished=all(log.finished for log in found),
    planned_seeds=len(runs),
    planned_iterations=wanted.total_iterations,
    planned_env_steps=wanted.total_env_steps,
    reference=table.reference.get(entry.task, {}).get(entry.method),
    by_env_steps=table.by_env_steps,
    window=max(1, round(table.window * values.shape[1])),
  )


def _first(found: Sequence[logs.Log]) -> tuple[np.ndarray, ...]:
  """Cuts runs at the last iteration that all of them have.

  Returns:
    The values, their errors and env steps, [seeds, iterations] each, and the
    number of iterations, [seeds].
  """
  count = min(log.values.size for log in found)
  return (
    np.stack([log.values[:count] for log in found]),
    np.stack([log.errors[:count] for log in found]),
    np.stack([log.progress['env_steps'][:count] for log in found]),
    np.full(len(found), count),
  )


def _resampled(found: Sequence[logs.Log]) -> tuple[np.ndarray, ...]:
  """Cuts runs at the env steps that all of them have; see `_first`, `Result`.

  Runs whose iterations have equal sizes keep their values.
  """
  steps = [log.progress['env_steps'] for log in found]
  end = min(each[-1] for each in steps)
  counts = np.array([np.searchsorted(each, end) + 1 for each in steps])
  finest = steps[int(counts.argmax())]
  grid = np.append(finest[finest < end], end)

  def at_grid(columns: Iterable[np.ndarray]) -> np.ndarray:
    pairs = zip(steps, columns, strict=True)
    return np.stack([np.interp(grid, *pair) for pair in pairs])

  return (
    at_grid(log.values for log in found),
    at_grid(log.errors for log in found),
    np.tile(grid, (len(found), 1)),
    counts,
  )
