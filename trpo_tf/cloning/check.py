"""Finds environments that are not restored exactly."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from trpo_tf.cloning import packing
from trpo_tf.cloning.cloner import Cloner
from trpo_tf.cloning.snapshot import Snapshot
from trpo_tf.errors import UserError, require_whole

__all__ = ['check_cloning']


@dataclasses.dataclass(frozen=True)
class _Trunk:
  """A random trajectory of one or more episodes.

  Attributes:
    actions: the action of every step.
    results: packed observation, reward, terminated, truncated of every step.
    snapshots: snapshot and packed observation, by the step before which they
      were taken.
    resets: packed observation of the reset that followed, by the last step of
      an episode.
  """

  actions: list[Any]
  results: list[tuple[Any, ...]]
  snapshots: dict[int, tuple[Snapshot, Any]]
  resets: dict[int, Any]

  def end(self, start: int) -> int:
    """Returns the end (exclusive) of the episode that step `start` is in."""
    for t in range(start, len(self.results)):
      if self.results[t][2] or self.results[t][3]:
        return t + 1
    return len(self.results)


def check_cloning(
  make: Callable[[], Cloner],
  steps: int = 500,
  seed: int = 0,
  snapshots: int = 8,
) -> list[str]:
  """Replays a random trajectory from snapshots of its states.

  The snapshots are restored in three ways: in the instance that took them, in
  reverse order and each after junk steps; in a fresh instance; and in two
  instances at once whose steps alternate. Observations, rewards and ends must
  equal those of the trajectory bit for bit, up to the end of the episode, and
  so must the reset that follows, unless the cloner leaves out the generators.

  Args:
    make: makes a cloner of a new instance of the environment, `cloner(env,
      task_id)`.
    steps: env steps of the trajectory, which may span several episodes.
    seed: seed of the resets and actions.
    snapshots: number of snapshots at random steps, besides one before the
      first step.

  Returns:
    The differences, one line for each snapshot and way of restoring it; empty
    if the cloning is exact.

  Raises:
    UserError: a count is too small or not whole, or `make` makes no cloners.
  """
  steps = require_whole('steps', steps, 1)
  seed = require_whole('seed', seed, 0)
  snapshots = require_whole('snapshots', snapshots, 0)
  if not callable(make):
    raise UserError(f'make is a {type(make).__name__}: give a function')
  rng = np.random.default_rng(seed)
  first = make()
  if not isinstance(first, Cloner):
    raise UserError(
      f'make returned a {type(first).__name__}: wrap the environment by cloner'
    )
  trunk = _trunk(first, steps, rng, snapshots)
  starts = sorted(trunk.snapshots)
  findings = []
  for start in reversed(starts):
    _junk(first, rng)
    findings += _replay(trunk, [(first, start)], 'the same instance')
  second = make()
  if not second.includes_rng:  # it needs its own before a restore
    second.reset(seed=seed)
  for start in starts:
    findings += _replay(trunk, [(second, start)], 'a second instance')
    _junk(second, rng)
  for a, b in zip(starts, reversed(starts), strict=True):
    findings += _replay(
      trunk, [(first, a), (second, b)], 'instances that alternate'
    )
  first.close()
  second.close()
  return findings


def _trunk(
  env: Cloner, steps: int, rng: np.random.Generator, snapshots: int
) -> _Trunk:
  chosen = {0, *rng.choice(steps, min(steps, snapshots), False).tolist()}
  trunk = _Trunk([], [], {}, {})
  env.action_space.seed(int(rng.integers(2**31)))
  observation, _ = env.reset(seed=int(rng.integers(2**31)))
  for t in range(steps):
    if t in chosen:
      trunk.snapshots[t] = env.snapshot(), packing.pack(observation)
    action = env.action_space.sample()
    observation, reward, terminated, truncated, _ = env.step(action)
    trunk.actions.append(action)
    trunk.results.append(
      (packing.pack(observation), reward, terminated, truncated)
    )
    if terminated or truncated:
      observation, _ = env.reset()
      trunk.resets[t] = packing.pack(observation)
  return trunk


def _junk(env: Cloner, rng: np.random.Generator) -> None:
  env.reset(seed=int(rng.integers(2**31)))
  for _ in range(rng.integers(1, 20)):
    _, _, terminated, truncated, _ = env.step(env.action_space.sample())
    if terminated or truncated:
      env.reset()


def _replay(
  trunk: _Trunk, starts: list[tuple[Cloner, int]], how: str
) -> list[str]:
  findings: dict[int, str] = {}

  def compare(start: int, t: int, name: str, found: Any, expected: Any):
    if start not in findings and not _same(found, expected):
      findings[start] = (
        f'restored in {how}, the snapshot before step {start}: {name} of step '
        f'{t} is {_difference(found, expected)}'
      )

  for env, start in starts:
    snapshot, observation = trunk.snapshots[start]
    compare(
      start,
      start,
      'the restored observation before the action',
      packing.pack(env.restore(snapshot)),
      observation,
    )
  for k in range(len(trunk.actions)):
    for env, start in starts:
      t = start + k
      if t < trunk.end(start) and start not in findings:
        observation, *rest, _ = env.step(trunk.actions[t])
        result = (packing.pack(observation), *rest)
        names = 'the observation', 'the reward', 'terminated', 'truncated'
        for name, found, expected in zip(
          names, result, trunk.results[t], strict=True
        ):
          compare(start, t, name, found, expected)
        if t in trunk.resets and env.includes_rng:
          found = packing.pack(env.reset()[0])
          what = 'the reset without a seed after the end'
          compare(start, t, what, found, trunk.resets[t])
  return list(findings.values())


def _same(a: Any, b: Any) -> bool:
  if isinstance(a, bytes):
    return a == b
  return np.asarray(a).tobytes() == np.asarray(b).tobytes()


def _difference(found: Any, expected: Any) -> str:
  if isinstance(found, bytes):
    found, expected = packing.unpack(found), packing.unpack(expected)
  if np.size(found) > 1 and np.shape(found) == np.shape(expected):
    differs = np.flatnonzero(np.asarray(found != expected))
    if differs.size:
      at = differs[0]
      return (
        f'{np.ravel(found)[at]} instead of {np.ravel(expected)[at]} in '
        f'entry {at} and differs in {differs.size} of {np.size(found)}'
      )
  return f'{str(found)[:80]} instead of {str(expected)[:80]}'
