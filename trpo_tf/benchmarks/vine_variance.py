"""The effect of common random numbers on the variance of Q differences."""

import dataclasses
from typing import Any

import numpy as np

from trpo_tf.benchmarks.vine_workload import Workload
from trpo_tf.experiment import statistics
from trpo_tf.sampling.native.branching import Brancher, Branches


def variance_ratios(
  workload: Workload, horizons: tuple[int, ...], threads: int
) -> dict[int, dict[str, Any]]:
  """Compares Q differences with and without common random numbers.

  In each state two first actions are fixed. With common random numbers, the
  same noise sequences follow both of them. Without, each action has its own
  sequences: the state is branched twice, with one action each time. Both ways
  take the same number of branches.

  Args:
    workload: branches with K = 2 and M even. Half of the noise sequences are
      common; without common random numbers, the second action gets the other
      half.
    horizons: lengths L of the returns that are compared, none longer than the
      workload's: a shorter branch is the beginning of a longer one.
    threads: number of threads of the vine.

  Returns:
    By horizon, the `comparison` of the states.
  """
  brancher = workload.brancher(threads)
  gamma = workload.trained.config.estimator.gamma
  pairs = [
    tuple(
      _prefixes(branches, horizons, gamma)
      for branches in _both(workload, n, brancher)
    )
    for n in range(len(workload.states))
  ]
  # [common or independent, states, horizons]
  variances = np.array([[v for v, _ in pair] for pair in pairs]).swapaxes(0, 1)
  steps = np.array([[s for _, s in pair] for pair in pairs]).sum(axis=0)
  return {
    L: comparison(*variances[..., i], *steps[:, i].tolist())
    for i, L in enumerate(horizons)
  }


def _both(
  workload: Workload, n: int, brancher: Brancher
) -> tuple[Branches, Branches]:
  """Runs common branches [1, 2, M / 2] of state n and independent ones.

  Args:
    workload: the branches.
    n: index of the state.
    brancher: runs them.

  Returns:
    The common branches, and the independent ones [2, 1, M / 2].
  """
  first, second = np.split(workload.noise[n], 2)
  rows, actions = workload.states[[n, n]], workload.actions[n]
  common = dataclasses.replace(
    workload, states=rows[:1], actions=actions[None], noise=first[None]
  )
  independent = dataclasses.replace(
    workload,
    states=rows,
    actions=actions[:, None],
    noise=np.stack([first, second]),
  )
  return (
    common.run(brancher, trajectories=True),
    independent.run(brancher, trajectories=True),
  )


def _prefixes(
  branches: Branches, horizons: tuple[int, ...], gamma: float
) -> tuple[np.ndarray, np.ndarray]:
  """Computes var(Q1 - Q2) and env steps if branches ended at each horizon."""
  assert branches.rewards is not None
  rewards = branches.rewards.reshape(2, *branches.rewards.shape[2:])
  q = np.cumsum(rewards * gamma ** np.arange(rewards.shape[-1]), axis=-1)
  last = np.array(horizons) - 1
  variance = (q[0] - q[1])[:, last].var(axis=0, ddof=1)
  steps = [np.minimum(branches.lengths, L).sum() for L in horizons]
  return variance, np.array(steps)


def comparison(
  common: np.ndarray,
  independent: np.ndarray,
  common_steps: int,
  independent_steps: int,
) -> dict[str, Any]:
  """Computes statistics over states of the ratio of variances.

  Args:
    common: float64 [N], variance of Q1 - Q2 under common random numbers.
    independent: float64 [N], the same under independent random numbers.
    common_steps: env steps of the branches with common random numbers.
    independent_steps: env steps of the independent branches.

  Returns:
    states, the number with any variance; without_variance, the number left out;
    median, ci95 (bootstrap over states) and quartiles of common / independent;
    pooled, the ratio of the mean variances; simulator_steps_saved, the factor
    by which independent noise needs more env steps for the same variance, with
    steps_saved_ci95; env_steps of both; and a verdict.
  """
  kept = independent > 0
  common, independent = common[kept], independent[kept]
  if not kept.any():
    return dict(
      states=0, without_variance=len(kept), verdict='no state has any variance'
    )
  ratio = common / independent
  interval = _floats(statistics.bootstrap_interval(ratio, np.median))
  cost = independent_steps / common_steps
  saved = _inverse(float(np.median(ratio)), cost)
  return dict(
    states=len(ratio),
    without_variance=int((~kept).sum()),
    median=float(np.median(ratio)),
    ci95=interval,
    quartiles=_floats(np.quantile(ratio, (0.25, 0.75))),
    pooled=float(common.sum() / independent.sum()),
    simulator_steps_saved=saved,
    steps_saved_ci95=[_inverse(x, cost) for x in reversed(interval)],
    env_steps=dict(common=common_steps, independent=independent_steps),
    verdict=_verdict(*interval),
  )


def _inverse(ratio: float, cost: float) -> float | None:
  """Returns cost / ratio; None if it is infinite, which JSON cannot hold."""
  return cost / ratio if ratio > 0 else None


def _floats(values: Any) -> list[float]:
  return [float(x) for x in values]


def _verdict(low: float, high: float) -> str:
  if high < 1:
    return 'helps'
  return 'does not help: worse' if low > 1 else 'no help shown'
