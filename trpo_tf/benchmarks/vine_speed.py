"""Speed of the native vine relative to its limit, and its scaling.

MuJoCo's Python package installs a profiling clock that takes a tenth or more of
a small model's step. The native code stops the clock while it runs, for the
vine and for the bare physics alike. The rivals (vine_rivals) run as they ship.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import mujoco
import numpy as np

from trpo_tf.benchmarks import bare_physics, timing
from trpo_tf.benchmarks.vine_workload import Workload
from trpo_tf.sampling.native.branching import Branches
from trpo_tf.sampling.threads import available_cores

FACTORS = (0.25, 0.5, 1, 2, 4)  # of N, K and L
_CLONES = 20_000


def against_physics(
  cells: Sequence[tuple[Workload, int]], pairs: int, trajectories: bool = False
) -> list[dict[str, Any]]:
  """Times the vine, as training runs it, and the physics of its branches.

  Both start from the same rows and run the same lengths, actions, derived
  quantities, threads and scheduling; the vine also evaluates policy and task.

  Args:
    cells: pairs of a workload and its number of threads. They are timed in
      turn, as the machine's speed drifts.
    pairs: number of alternating timings.
    trajectories: whether the vine keeps the steps of its branches, as
      --vine_objective=every_step needs.

  Returns:
    For each cell: sizes, threads, env_steps, mean_length, diverged branches,
    env_steps_per_second of both, and native_over_physics, the ratio of
    speeds.
  """
  runs = [_pair(workload, threads, trajectories) for workload, threads in cells]
  functions = [
    f for native_run, physics, _ in runs for f in (native_run, physics)
  ]
  times = timing.alternating(functions, pairs).reshape(pairs, len(cells), 2)
  return [
    dict(workload.sizes, threads=threads, **_speeds(recorded, times[:, i]))
    for i, ((workload, threads), (_, _, recorded)) in enumerate(
      zip(cells, runs, strict=True)
    )
  ]


def _pair(
  workload: Workload, threads: int, trajectories: bool
) -> tuple[Callable[[], Any], Callable[[], Any], Branches]:
  """Returns functions that run the vine and its physics, and the branches."""
  brancher = workload.brancher(threads)
  recorded = workload.run(brancher, trajectories=True)
  plain = workload.run(brancher)
  if plain.returns.tobytes() != recorded.returns.tobytes():
    raise RuntimeError('returns depend on whether trajectories are recorded')

  def physics() -> None:
    bare_physics.replay_branches(brancher, workload.states, recorded)

  return lambda: workload.run(brancher, trajectories), physics, recorded


def _speeds(recorded: Branches, times: np.ndarray) -> dict[str, Any]:
  """Computes a cell's results from seconds [pairs, 2] of vine and physics."""
  steps = recorded.num_steps
  native_seconds, physics_seconds = np.median(times, axis=0)
  return dict(
    env_steps=steps,
    mean_length=float(recorded.lengths.mean()),
    diverged=int((recorded.failures != 0).sum()),
    native_env_steps_per_second=steps / float(native_seconds),
    physics_env_steps_per_second=steps / float(physics_seconds),
    native_over_physics=timing.ratio(times[:, 1], times[:, 0]),
  )


def thread_counts() -> list[int]:
  """Returns 1 to all cores; with more than 8 cores, powers of two and all."""
  cores = available_cores()
  if cores <= 8:
    return list(range(1, cores + 1))
  powers = [2**i for i in range(cores.bit_length()) if 2**i < cores]
  return [*powers, cores]


def by_threads(workload: Workload, pairs: int) -> list[dict[str, Any]]:
  """Calls `against_physics` with 1 to all cores.

  Args:
    workload: the branches.
    pairs: number of alternating timings of each.

  Returns:
    The results by number of threads, ascending.
  """
  return against_physics([(workload, n) for n in thread_counts()], pairs)


def by_sizes(
  largest: Workload, base: dict[str, int], threads: int, pairs: int
) -> dict[str, list[dict[str, Any]]]:
  """Calls `against_physics` with N, K or L multiplied by each of FACTORS.

  The size also changes which states the branches visit, and so the cost of
  their physics, but this does not affect the ratio to the bare physics.

  Args:
    largest: branches with max(FACTORS) times N, K and L.
    base: N, K and L by their names: states, actions and horizon.
    threads: number of threads of the vine.
    pairs: number of alternating timings of each.

  Returns:
    Results by the name of the size that was varied.
  """
  found = {}
  for name in ('states', 'actions', 'horizon'):
    sizes = sorted({max(1, round(f * base[name])) for f in FACTORS})
    parts = [largest.part(**{**base, name: size}) for size in sizes]
    found[name] = against_physics([(part, threads) for part in parts], pairs)
  return found


def clone_microseconds(workload: Workload, rounds: int) -> dict[str, float]:
  """Measures the cost of one clone on one thread, in microseconds.

  Args:
    workload: the branches whose states are cloned.
    rounds: number of timings of each, of which the median is taken.

  Returns:
    native: restoring a state row as the vine does, without a step; set_state:
    the same by mj_setState, called from Python; mj_copyData: copying the whole
    mjData, also called from Python (a call itself takes about 0.3).
  """
  N = len(workload.states)
  many = dataclasses.replace(
    workload,
    noise=np.ascontiguousarray(workload.noise[:, :1, :1]),
    actions=np.repeat(workload.actions[:, :1], -(-_CLONES // N), axis=1),
  )
  brancher = workload.brancher(1)
  recorded = many.run(brancher, trajectories=True)
  still = dataclasses.replace(recorded, lengths=np.zeros_like(recorded.lengths))
  functions = {
    'native': lambda: bare_physics.replay_branches(brancher, many.states, still)
  } | _python_clones(workload, still.lengths.size)
  times = timing.alternating(list(functions.values()), rounds)
  each = 1e6 * np.median(times, axis=0) / still.lengths.size
  return dict(zip(functions, each.tolist(), strict=True))


def _python_clones(
  workload: Workload, count: int
) -> dict[str, Callable[[], None]]:
  model = workload.compiled.model
  kind = mujoco.mjtState.mjSTATE_INTEGRATION
  rows = workload.states[:, : mujoco.mj_stateSize(model, kind)]
  rows = np.ascontiguousarray(rows[:32])
  sources = [mujoco.MjData(model) for _ in rows]
  for source, row in zip(sources, rows, strict=True):
    mujoco.mj_setState(model, source, row, kind)
    mujoco.mj_forward(model, source)
  target = mujoco.MjData(model)

  def set_state() -> None:
    for i in range(count):
      mujoco.mj_setState(model, target, rows[i % len(rows)], kind)

  def copy_data() -> None:
    for i in range(count):
      mujoco.mj_copyData(target, model, sources[i % len(rows)])

  return {'set_state': set_state, 'mj_copyData': copy_data}
