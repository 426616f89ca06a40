"""The logs of runs, grouped over seeds: what learning curves are drawn from."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from trpo_tf import config as config_lib
from trpo_tf import errors
from trpo_tf.experiment import (
  evaluations,
  progress,
  run_groups,
  saved_runs,
)
from trpo_tf.methods.record import COLUMNS

__all__ = [
  'EVALUATED',
  'Group',
  'NothingYetError',
  'Run',
  'group_runs',
  'load_run',
  'points',
  'require_column',
]

EVALUATED = 'evaluated_return'  # a y that progress.csv does not have


class NothingYetError(errors.UserError):
  """A run has nothing to draw yet; others can be drawn without it."""


@dataclasses.dataclass(frozen=True)
class Run:
  """The log of one run.

  Attributes:
    path: its directory.
    settings: value by flag name.
    progress: columns [iterations] of progress.csv by name.
    evaluated: rows of evaluations.csv.
  """

  path: pathlib.Path
  settings: dict[str, Any]
  progress: dict[str, np.ndarray]
  evaluated: Sequence[evaluations.Evaluated]


@dataclasses.dataclass(frozen=True)
class Group:
  """Runs that are averaged: one line of a panel.

  Attributes:
    task: the panel.
    label: the line's name in the legend, without the number of runs.
    runs: its runs.
  """

  task: str
  label: str
  runs: tuple[Run, ...]


def load_run(path: str | os.PathLike[str]) -> Run:
  """Reads the directory of a finished or running run.

  Raises:
    NothingYetError: no iteration has finished yet, or there is no progress.csv.
    UserError: there is no such directory, or it is not that of a run.
  """
  path = saved_runs.expanded(path)
  settings = config_lib.settings(saved_runs.read_config(path))
  file = path / 'progress.csv'
  if not file.exists():  # of a run that has just begun, or an exported policy
    raise NothingYetError(f'{file} does not exist')
  columns = progress.read_csv(file)
  if not columns['iteration'].size:
    raise NothingYetError(f'{path} has no finished iteration yet')
  last = int(columns['iteration'][-1])  # a running training may be further
  evaluated = evaluations.read(path / 'evaluations.csv', last)
  return Run(path, settings, columns, evaluated)


def group_runs(runs: Sequence[Run], by: str = 'settings') -> list[Group]:
  """Sorts runs into groups.

  Args:
    runs: the runs.
    by: which runs of a task form a group: 'settings': those whose settings
      differ only by the seed and by what does not change results; 'task': all;
      'dir': those whose directories have the same parent.

  Returns:
    The groups, in the order of their first runs.

  Raises:
    UserError: a group has the same run twice.
  """
  labels = run_groups.labels([run.settings for run in runs])
  members: dict[tuple, list[Run]] = {}
  shown: dict[tuple, str] = {}
  for run, label in zip(runs, labels, strict=True):
    task, parent = run.settings['task'], run.path.resolve().parent
    key, name = {
      'settings': (run_groups.identity(run.settings), label or task),
      'task': ('', task),
      'dir': (parent, parent.name),
    }[by]
    members.setdefault((task, key), []).append(run)
    shown[task, key] = name
  for group in members.values():
    run_groups.refuse_twins(
      {run.path: run.settings for run in group}, 'plot one of them'
    )
  return [
    Group(key[0], shown[key], tuple(group)) for key, group in members.items()
  ]


def require_column(y: str) -> None:
  """Raises UserError if y is neither EVALUATED nor a numeric column."""
  numeric = [name for name in COLUMNS if name != 'step_status'] + [EVALUATED]
  if y not in numeric:
    raise errors.UserError(f'--y={y}: choose one of {", ".join(numeric)}')


def points(
  run: Run, x: str, y: str, window: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the points of a run's curve that are finite.

  Args:
    run: the run.
    x: 'env_steps' or 'hours'.
    y: a column of progress.csv, or EVALUATED.
    window: width in x over which y is averaged, around each point.

  Returns:
    x and y, float64 [points] each; at least one point.

  Raises:
    NothingYetError: no y is finite.
    UserError: progress.csv is damaged.
  """
  columns = run.progress
  xs = columns['elapsed_seconds'] / 3600 if x == 'hours' else columns[x]
  if y == EVALUATED:
    done = [row.iteration for row in run.evaluated]
    xs = xs[np.searchsorted(columns['iteration'], done)]
    ys = np.array([row.return_mean for row in run.evaluated])
  else:
    ys = columns[y]
  finite = np.isfinite(xs) & np.isfinite(ys)
  xs, ys = xs[finite], ys[finite]
  if not xs.size:
    hint = ': train with --eval_every_env_steps' if y == EVALUATED else ''
    raise NothingYetError(f'{run.path} has no finite {y}{hint}')
  if (np.diff(xs) < 0).any():
    raise errors.UserError(
      f'{run.path}/progress.csv is damaged: the {x} decrease'
    )
  # Points i with |x_i - x| <= window / 2, by running sums.
  first = np.searchsorted(xs, xs - window / 2, 'left')
  end = np.searchsorted(xs, xs + window / 2, 'right')
  sums = np.concatenate([[0.0], np.cumsum(ys)])
  return xs, (sums[end] - sums[first]) / (end - first)
