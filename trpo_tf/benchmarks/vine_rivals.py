"""Other ways to run the same branches, or the closest that they can do."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np
import tensorflow as tf
from mujoco import batch as mujoco_batch

from trpo_tf.benchmarks import timing
from trpo_tf.benchmarks.vine_workload import Workload
from trpo_tf.sampling.actors import GaussianActor
from trpo_tf.sampling.native.branching import Branches

_GYMNASIUM_STEPS = 1500  # its loop is slow, so it runs only some branches
_ENVPOOL_ENVS, _ENVPOOL_STEPS = 64, 100


class Rival(NamedTuple):
  """A way to take env steps.

  Attributes:
    run: takes the env steps.
    env_steps: number of env steps that it takes.
    details: further values that are reported.
  """

  run: Callable[[], Any]
  env_steps: int
  details: dict[str, Any]


def against_rivals(
  workload: Workload, threads: int, rounds: int
) -> dict[str, Any]:
  """Times the native vine and its rivals in turn.

  Args:
    workload: the branches.
    threads: threads of all but the gymnasium loop, which has one.
    rounds: number of timings of each.

  Returns:
    By rival: env_steps, env_steps_per_second and native_over, the ratio of
    speeds; None for a rival that is not installed or lacks the task.
  """
  brancher = workload.brancher(threads)
  recorded = workload.run(brancher, trajectories=True)
  makers = dict(
    mujoco_batch=lock_step, gymnasium=gymnasium_loop, envpool=envpool_steps
  )
  made = {
    name: make(workload, recorded, threads) for name, make in makers.items()
  }
  rivals = {name: rival for name, rival in made.items() if rival}
  for rival in rivals.values():
    rival.run()  # compiles, allocates
  functions = [lambda: workload.run(brancher)]
  functions += [rival.run for rival in rivals.values()]
  times = timing.alternating(functions, rounds)
  native = times[:, 0] / recorded.num_steps
  found: dict[str, Any] = dict.fromkeys(made)
  for i, (name, rival) in enumerate(rivals.items(), 1):
    each = times[:, i] / rival.env_steps
    found[name] = dict(
      rival.details,
      env_steps=rival.env_steps,
      env_steps_per_second=1 / float(np.median(each)),
      native_over=timing.ratio(each, native),
    )
  return found


def lock_step(workload: Workload, recorded: Branches, threads: int) -> Rival:
  """Makes the rival mujoco.batch, which steps all live branches together.

  Its policy runs in TensorFlow. It does less than the vine: the policy reads
  the recorded observations, no reward and no termination is computed, and a
  branch leaves the batch at the step at which it ended in the vine.

  Args:
    workload: the branches.
    recorded: the results of the vine, with trajectories.
    threads: threads of mujoco.batch.
  """
  compiled, trained = workload.compiled, workload.trained
  N, K, M = recorded.lengths.shape
  _, to_controls = compiled.actions(trained.config.task.action_range, clip=True)
  simulations = mujoco_batch.Batch(compiled.model, N * K * M, threads)
  starts = np.repeat(workload.states[:, : simulations.nstate], K * M, axis=0)
  controls, lengths = simulations.bind('ctrl'), recorded.lengths.ravel()
  first = np.repeat(workload.actions, M, axis=1).reshape(N * K * M, -1)
  noise = np.exp(workload.log_std) * np.repeat(
    workload.noise[:, None], K, axis=1
  ).reshape(N * K * M, *workload.noise.shape[2:])
  live = [np.flatnonzero(lengths > t) for t in range(lengths.max())]
  observations = _per_branch(recorded.observations)
  inputs = [observations[ids, t] for t, ids in enumerate(live)]
  theta, normalizer = tf.constant(trained.theta), trained.normalizer

  @functools.partial(
    tf.function,
    input_signature=[
      tf.TensorSpec([None, compiled.observation_size], tf.float32)
    ],
  )
  def policy(x: tf.Tensor) -> tf.Tensor:
    return trained.policy.outputs(theta, x)

  def act(t: int) -> np.ndarray:
    if t == 0:
      return first
    means = policy(tf.constant(normalizer(inputs[t]))).numpy()
    return means + noise[live[t], t]

  def run() -> None:
    simulations.state[:] = starts
    for t, ids in enumerate(live):
      controls[ids] = to_controls(act(t))
      simulations.step(ids, compiled.task.frame_skip)

  taken = _per_branch(recorded.actions)
  worst = max(
    np.abs(act(t) - taken[ids, t]).max() for t, ids in enumerate(live)
  )
  return Rival(
    run, recorded.num_steps, dict(largest_action_difference=float(worst))
  )


def _per_branch(record: np.ndarray | None) -> np.ndarray:
  """Reshapes a trajectory's record [N, K, M, L, ...] to [branches, L, ...]."""
  assert record is not None
  return record.reshape(-1, *record.shape[3:])


def gymnasium_loop(
  workload: Workload, recorded: Branches, threads: int
) -> Rival | None:
  """Makes the obvious rival: gymnasium.make, set_state and a policy in NumPy.

  It is fastest without wrappers. It restores only position and velocity, so its
  branches are not exact; each has as many steps as in the vine.

  Args:
    workload: the branches.
    recorded: the results of the vine.
    threads: not used, as a Python loop has one thread.

  Returns:
    The rival, or None if the task has no Gymnasium id.
  """
  del threads
  trained, compiled = workload.trained, workload.compiled
  if not compiled.task.gymnasium_id:
    return None
  env: Any = gymnasium.make(compiled.task.gymnasium_id).unwrapped
  env.reset(seed=0)
  network = workload.network()
  actor, normalizer = GaussianActor(workload.log_std), trained.normalizer
  gamma = trained.config.estimator.gamma
  position, velocity = _positions(workload)
  every = max(1, recorded.num_steps // _GYMNASIUM_STEPS)
  branches = [tuple(b) for b in np.ndindex(recorded.lengths.shape)][::every]

  def branch(n: int, k: int, m: int) -> float:
    env.set_state(position[n], velocity[n])
    action, total = workload.actions[n, k], 0.0
    length = recorded.lengths[n, k, m]
    for t in range(1, length + 1):
      observation, reward, *_ = env.step(
        np.clip(action, compiled.low, compiled.high)
      )
      total += gamma ** (t - 1) * reward
      if t < length:
        means = network(normalizer(observation[None]))
        action = actor.act(means, workload.noise[n, m, t])[0]
    return total

  steps = int(sum(recorded.lengths[b] for b in branches))
  return Rival(
    lambda: [branch(*b) for b in branches], steps, dict(branches=len(branches))
  )


def _positions(workload: Workload) -> tuple[np.ndarray, np.ndarray]:
  """Returns positions [N, nq] and velocities [N, nv] of the states."""
  model = workload.compiled.model
  kind = mujoco.mjtState
  start = mujoco.mj_stateSize(model, kind.mjSTATE_TIME)
  rows = workload.states[:, start : start + model.nq + model.nv]
  return rows[:, : model.nq], rows[:, model.nq :]


def envpool_steps(
  workload: Workload, recorded: Branches, threads: int
) -> Rival | None:
  """Makes the rival EnvPool, which plays its own episodes: it cannot branch.

  Args:
    workload: gives the policy, which runs in NumPy.
    recorded: not used.
    threads: threads of EnvPool.

  Returns:
    The rival, or None if EnvPool is not installed or lacks the task.
  """
  del recorded
  trained, compiled = workload.trained, workload.compiled
  try:
    import envpool
  except ImportError:
    return None
  names = [compiled.task.gymnasium_id.replace('-v5', v) for v in ('-v5', '-v4')]
  known = [name for name in names if name in envpool.list_all_envs()]
  if not known:
    return None
  env = envpool.make_gymnasium(
    known[0], num_envs=_ENVPOOL_ENVS, num_threads=threads, seed=0
  )
  network = workload.network()
  actor, normalizer = GaussianActor(workload.log_std), trained.normalizer
  observations = [env.reset()[0]]
  shape = _ENVPOOL_STEPS, _ENVPOOL_ENVS, compiled.action_size
  noise = np.random.default_rng(0).standard_normal(shape)

  def run() -> None:
    for z in noise:
      actions = actor.act(network(normalizer(observations[0])), z)
      observations[0] = env.step(np.clip(actions, compiled.low, compiled.high))[
        0
      ]

  return Rival(run, _ENVPOOL_STEPS * _ENVPOOL_ENVS, dict(name=known[0]))
