"""Describes a published table or figure: tasks, methods, settings, curves."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from trpo_tf.config import ExperimentConfig

__all__ = ['Budget', 'Curve', 'Metric', 'Sweep', 'Table', 'carried']

# Maps the columns of progress.csv, [iterations] each, and the settings of the
# run to numbers, [iterations].
Metric = Callable[[Mapping[str, np.ndarray], ExperimentConfig], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Curve:
  """A published learning curve.

  Attributes:
    x: float64 [n], increasing: the iterations, where 0 is the batch of the
      initial policy. With Table.by_env_steps, the env steps before a batch.
    y: float64 [n]: values of the metric, with straight lines between them.
    errors: float64 [m, 3]: an x and both ends of the error bar at it.
  """

  x: np.ndarray
  y: np.ndarray
  errors: np.ndarray


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A setting that a method is tried with before it is repeated over seeds.

  Attributes:
    flag: name of the setting.
    values: the values to try, each with the first seed.
  """

  flag: str
  values: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Budget:
  """The size of all runs of a reproduction.

  Attributes:
    flags: maps a task and a method to the flags that follow the base flags.
    sweeps: the sweep of each method that has one, by method.
    seeds: default number of seeds.
  """

  flags: Callable[[str, str], tuple[str, ...]]
  sweeps: Mapping[str, Sweep]
  seeds: int


@dataclasses.dataclass(frozen=True)
class Table:
  """Everything that a reproduction knows about its published table or figure.

  Attributes:
    name: name of the table, the value of --table.
    tasks: the methods of each task, in the order in which they are shown.
    labels: names of tasks and methods in text and figures; a name without a
      label stays as it is.
    absent: by method, the reason why some tasks lack it.
    flagfiles: directory of the flagfiles, relative to the root of the
      repository.
    budgets: the budgets by name.
    speeds: by task, the env steps per second of one thread, which first
      estimates of the time assume.
    metric: computes the values that curves show; NaN before the first episode
      has ended.
    metric_name: column of the metric in CSV files; figures show its underscores
      as spaces.
    metric_text: noun phrase that says what the metric is.
    reference: the published curves by task and method; some may be missing.
    reference_text: phrase that says where the published curves come from.
    figure_text: phrase that says what bands and error bars of the figure mean.
    error: computes the standard errors of the metric within one run; None if
      the metric has none.
    by_env_steps: whether curves are compared at the same env steps instead of
      the same iteration.
    families: methods that have a panel of their own in the figure, by its name;
      empty: all methods share the panel of a task.
    window: the share of the iterations, at the end, whose mean is the result;
      at least one iteration counts.
    published: final scores of others by name and task, in the order in which
      they are shown.
    counterparts: for some methods, the name in `published` of the scores that
      they are compared with.
    base_flags: templates of the flags that select a task and a method; each may
      contain {flagfiles}, {task} and {method}.
  """

  name: str
  tasks: Mapping[str, tuple[str, ...]]
  labels: Mapping[str, str]
  absent: Mapping[str, str]
  flagfiles: str
  budgets: Mapping[str, Budget]
  speeds: Mapping[str, float]
  metric: Metric
  metric_name: str
  metric_text: str
  reference: Mapping[str, Mapping[str, Curve]]
  reference_text: str
  figure_text: str = ''
  error: Metric | None = None
  by_env_steps: bool = False
  families: Mapping[str, tuple[str, ...]] = dataclasses.field(
    default_factory=dict
  )
  window: float = 0.05
  published: Mapping[str, Mapping[str, float]] = dataclasses.field(
    default_factory=dict
  )
  counterparts: Mapping[str, str] = dataclasses.field(default_factory=dict)
  base_flags: tuple[str, ...] = (
    '--flagfile={flagfiles}/{task}_{method}.flags',
  )

  @property
  def methods(self) -> tuple[str, ...]:
    """The methods that at least one task has, each once."""
    return tuple(dict.fromkeys(m for ms in self.tasks.values() for m in ms))

  @property
  def error_name(self) -> str:
    """Column of the metric's standard errors in CSV files."""
    return f'{self.metric_name}_error'


def carried(values: np.ndarray) -> np.ndarray:
  """Gives each value that is not finite the last finite one before it.

  Args:
    values: float64 [iterations].

  Returns:
    float64 [iterations]; what precedes the first finite value is as it was.
  """
  known = np.where(np.isfinite(values), np.arange(values.size), 0)
  return values[np.maximum.accumulate(known)]
