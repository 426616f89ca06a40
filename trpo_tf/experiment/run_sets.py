"""Compares two sets of evaluated runs, over seeds and tasks.

The numbers follow Agarwal et al. 2021 (see statistics.py): the probability of
improvement, and differences of means and interquartile means. Their intervals
come from a bootstrap that resamples the runs of each task in each set.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from trpo_tf.errors import UserError
from trpo_tf.experiment import run_groups, statistics, tables

__all__ = ['Comparison', 'Difference', 'RunSet', 'compare', 'load']


@dataclasses.dataclass(frozen=True)
class RunSet:
  """Runs that were trained in the same way.

  Attributes:
    name: what the user calls them.
    evaluations: their evaluations, by their directories.
    seeds: seeds by task.
    env_steps: env steps that were trained, by task and run.
    returns: float64 [runs], the mean return of each run by task.
  """

  name: str
  evaluations: Mapping[pathlib.Path, tables.Evaluation]
  seeds: Mapping[str, tuple[int, ...]]
  env_steps: Mapping[str, tuple[int, ...]]
  returns: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Difference:
  """A statistic of two sets, and their difference.

  Attributes:
    a: its value in A.
    b: its value in B.
    difference: a - b.
    ci95: ends of the 95 % bootstrap interval of the difference.
  """

  a: float
  b: float
  difference: float
  ci95: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Comparison:
  """How the runs of A compare with those of B.

  Attributes:
    mean: the mean return.
    iqm: the interquartile mean.
    probability: probability that a run of A has a higher return than a run of B
      of the same task; equal returns count half.
    probability_ci95: ends of its 95 % bootstrap interval.
  """

  mean: Difference
  iqm: Difference
  probability: float
  probability_ci95: tuple[float, float]


def load(name: str, directories: Sequence[str], sampled: bool) -> RunSet:
  """Reads the evaluations of the runs in some directories, at any depth.

  Args:
    name: what the user calls them.
    directories: directories of runs, or with runs in them.
    sampled: whether to take the returns of sampled actions, not those of the
      mean policy.

  Raises:
    UserError: there is no run; or a run was not evaluated, has no return, or
      has the seed of another or other settings.
  """
  runs = [run for directory in directories for run in _runs(directory)]
  if not runs:
    raise UserError(
      f'{name} holds no run: name directories of runs, or one with runs in it'
    )
  groups: dict[str, dict[int, tuple[pathlib.Path, tables.Evaluation]]] = {}
  evaluations = {path: tables.load_evaluation(path) for path in runs}
  for path, found in evaluations.items():
    task, seed = found['task'], found['seed']
    twin, _ = groups.setdefault(task, {}).setdefault(seed, (path, found))
    if twin != path:
      raise UserError(
        f'{twin} and {path} are both {task} with seed {seed}: a set has runs '
        'that differ by seed or task only'
      )
  for group in groups.values():
    _refuse_mixture(name, list(group.values()))
  return RunSet(
    name,
    evaluations,
    seeds={task: tuple(group) for task, group in groups.items()},
    env_steps={
      task: tuple(found['env_steps'] for _, found in group.values())
      for task, group in groups.items()
    },
    returns={
      task: np.array([_return(*run, sampled) for run in group.values()])
      for task, group in groups.items()
    },
  )


def _refuse_mixture(
  name: str, runs: Sequence[tuple[pathlib.Path, tables.Evaluation]]
) -> None:
  """Raises UserError if runs of a task have different settings."""
  labels = run_groups.labels([run_groups.settings_of(*run) for run in runs])
  by_label = {
    label: path for label, (path, _) in zip(labels, runs, strict=True)
  }
  if len(by_label) > 1:
    (some, path), (others, another), *_ = by_label.items()
    raise UserError(
      f'{name} has runs of several settings ({path}: {some}; {another}: '
      f'{others}): a set has runs that differ by seed or task only'
    )


def _runs(directory: str) -> list[pathlib.Path]:
  """Lists the runs at and below a directory, each once."""
  path = pathlib.Path(directory)
  if not path.is_dir():
    raise UserError(f'{path} is not a directory')
  names, found = {'run.json', 'evaluation.json'}, []
  seen = {*path.resolve().parents}  # where a link may lead, out of the set
  for folder, below, files in os.walk(path, followlinks=True):
    if (place := pathlib.Path(folder).resolve()) in seen:
      below.clear()  # nor twice to one place, perhaps in a circle
    elif names & {*files}:
      found.append(pathlib.Path(folder))
    seen.add(place)
  return sorted(found)


def _return(
  path: pathlib.Path, evaluation: tables.Evaluation, sampled: bool
) -> float:
  kind = evaluation['sampled' if sampled else 'deterministic']
  mean = kind['return']['mean']
  if mean is None:
    raise UserError(
      f'{path} has no return, as every episode diverged: leave the run out'
    )
  return mean


def compare(a: RunSet, b: RunSet) -> dict[str, Comparison]:
  """Compares two sets of runs.

  Args:
    a: the runs of A.
    b: the runs of B, of the same tasks.

  Returns:
    The comparison of each task. If there are several, '' has that of all of
    them, whose returns are scaled so that the worst run of a task in both sets
    has 0 and the best 1; a task counts the same whatever its number of runs.

  Raises:
    UserError: the sets have different tasks or a run in common, or a task has
      only one run in a set.
  """
  _check(a, b)
  found = {
    task: _compare([a.returns[task]], [b.returns[task]])
    for task in sorted(a.returns)
  }
  if len(found) > 1:
    scaled = [_scaled(a.returns[task], b.returns[task]) for task in found]
    found[''] = _compare([x for x, _ in scaled], [y for _, y in scaled])
  return found


def _check(a: RunSet, b: RunSet) -> None:
  if common := _resolved(a) & _resolved(b):
    raise UserError(f'{min(common)} is in both sets: name each run once')
  for one, other in ((a, b), (b, a)):
    if lacking := sorted(set(one.returns) - set(other.returns)):
      raise UserError(
        f'{one.name} has runs of {", ".join(lacking)}, and {other.name} has '
        'none: compare runs of the same tasks'
      )
    for task, seeds in one.seeds.items():
      if len(seeds) < 2:
        raise UserError(
          f'{one.name} has one run of {task}: an interval needs two seeds or '
          'more'
        )


def _resolved(runs: RunSet) -> set[pathlib.Path]:
  return {path.resolve() for path in runs.evaluations}


def _scaled(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Scales returns to [0, 1]; equal ones become 0."""
  low = min(a.min(), b.min())
  width = max(a.max(), b.max()) - low or 1.0
  return (a - low) / width, (b - low) / width


def _compare(a: list[np.ndarray], b: list[np.ndarray]) -> Comparison:
  """Compares returns [runs] by task."""
  low, high = statistics.stratified_interval([*a, *b], _contrasts)
  mean, iqm, probability = _contrasts(*a, *b)
  ends = [(float(x), float(y)) for x, y in zip(low, high, strict=True)]

  def difference(statistic, value, interval) -> Difference:
    return Difference(
      float(statistic(*a)), float(statistic(*b)), float(value), interval
    )

  return Comparison(
    difference(_mean, mean, ends[0]),
    difference(_iqm, iqm, ends[1]),
    float(probability),
    ends[2],
  )


def _contrasts(*strata: np.ndarray, axis: int = -1) -> np.ndarray:
  """Contrasts A with B in the three statistics.

  Args:
    *strata: returns [..., runs] of each task in A, then of each in B.
    axis: the last axis.

  Returns:
    [3, ...]: differences of means and of IQMs, and the probability.
  """
  assert axis == -1
  tasks = len(strata) // 2
  a, b = strata[:tasks], strata[tasks:]
  probability = np.mean([_better(x, y) for x, y in zip(a, b, strict=True)], 0)
  return np.stack([_mean(*a) - _mean(*b), _iqm(*a) - _iqm(*b), probability])


def _mean(*tasks: np.ndarray) -> np.ndarray:
  return np.mean([task.mean(axis=-1) for task in tasks], axis=0)


def _iqm(*tasks: np.ndarray) -> np.ndarray:
  """Takes the interquartile mean over the runs of all tasks."""
  weights = [np.full(t.shape[-1], 1 / t.shape[-1] / len(tasks)) for t in tasks]
  return statistics.interquartile_mean(
    np.concatenate(tasks, axis=-1), weights=np.concatenate(weights)
  )


def _better(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Returns the part of the pairs in which A is better; ties count half."""
  difference = a[..., :, None] - b[..., None, :]
  return ((difference > 0) + 0.5 * (difference == 0)).mean(axis=(-2, -1))
