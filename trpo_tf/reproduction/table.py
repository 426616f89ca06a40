"""What a published table or figure is: tasks, methods, settings, its curves."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from trpo_tf.config import ExperimentConfig

__all__ = ['Budget', 'Curve', 'Metric', 'Sweep', 'Table']

Metric = Callable[[Mapping[str, np.ndarray], ExperimentConfig], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Curve:
  """A published learning curve.

  Attributes:
    x: iterations, [n], increasing; 0 is the batch of the initial policy. With
      Table.by_env_steps the env steps before a batch.
    y: values of the metric, [n], with straight lines between them.
    errors: [m, 3]: an x and both ends of the error bar there.
  """

  x: np.ndarray
  y: np.ndarray
  errors: np.ndarray


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A setting that a method is tried with before it is repeated over seeds.

  Attributes:
    flag: name of the setting.
    values: those tried, each with the first seed.
  """

  flag: str
  values: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Budget:
  """How long everything is run.

  Attributes:
    flags: those that follow the flagfile, by task and method.
    sweeps: by method.
    seeds: number of seeds, unless another is asked for.
  """

  flags: Callable[[str, str], tuple[str, ...]]
  sweeps: Mapping[str, Sweep]
  seeds: int


@dataclasses.dataclass(frozen=True)
class Table:
  """All that a reproduction needs to know about what it reproduces.

  Attributes:
    name: of the table, as --table has it.
    tasks: the methods of each task, in the order to show them.
    labels: what text and figures call tasks and methods.
    absent: why some tasks lack a method, by method.
    flagfiles: directory of the flagfiles, relative to the root of the
      repository.
    budgets: by name.
    speeds: env steps per second of one thread by task, for first estimates.
    metric: from columns of progress.csv and the settings to the numbers
      [iterations] that curves show; NaN before the first episode ended.
    metric_name: its column in CSV files; underscores are spaces in figures.
    metric_text: what it is, in a sentence.
    reference: the published curves by task and method; some may lack.
    reference_text: where they come from, in a sentence.
    error: as `metric`, its standard errors within one run; None: it has none.
    figure_text: what bands and error bars of the figure are.
    by_env_steps: whether curves are compared at the same env steps, instead of
      at the same iteration.
    window: share of the iterations, the last ones, that a result is the mean
      of; one iteration at least.
    published: final scores of others by name and task, in the order to show.
    counterparts: methods by the name of those that they are to be held against.
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
    """The methods of any task, each once."""
    return tuple(dict.fromkeys(m for ms in self.tasks.values() for m in ms))
