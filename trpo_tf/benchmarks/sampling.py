"""Speed of the native closed loop relative to its limit, the bare physics."""

from collections.abc import Callable

import numpy as np

from trpo_tf import seeding
from trpo_tf.benchmarks import bare_physics, timing
from trpo_tf.config import PolicyConfig
from trpo_tf.policies.gaussian import gaussian_policy
from trpo_tf.policies.normalizer import initial_normalizer
from trpo_tf.sampling.draws import ResetTable
from trpo_tf.sampling.native.slots import NativeSlots
from trpo_tf.seeding import Stream
from trpo_tf.tasks.registry import NATIVE_TASKS
from trpo_tf.tasks.task import compile_task


def against_physics(
  name: str, steps: int, num_slots: int, threads: int, pairs: int
) -> dict:
  """Times the closed loop and the physics of the same trajectories.

  The module bare_physics describes what both do. The closed loop also evaluates
  a 64-64 policy and the task, checks for divergence and records everything.

  Args:
    name: native task.
    steps: env steps of a timed call.
    num_slots: number of simulations.
    threads: number of threads; 0: all cores.
    pairs: number of alternating timings.

  Returns:
    task, env_steps_per_second of both, and native_over_physics, the ratio of
    speeds.
  """
  compiled = compile_task(NATIVE_TASKS[name])
  policy = gaussian_policy(
    PolicyConfig(initial_log_std=-0.5),
    compiled.observation_size,
    compiled.action_size,
  )
  slots = NativeSlots(
    compiled,
    num_slots,
    policy,
    compiled.actions('raw', clip=True)[1],
    threads,
  )
  capacity = steps // num_slots
  arrays = slots.new_arrays(capacity)
  rng = seeding.generator(0, Stream.ACTION_NOISE)
  theta = policy.initial_parameters(rng)
  arrays |= slots.policy_arrays(
    theta[None],
    np.zeros(num_slots, np.int32),
    initial_normalizer(compiled.observation_size),
    rng.standard_normal((num_slots, capacity, compiled.action_size)),
  )
  resets, start = ResetTable(compiled, 0), slots.state()

  def closed_loop() -> None:
    for counter in ('lengths', 'num_boundaries'):
      arrays[counter][:] = 0
    slots.rollout(arrays, resets)

  def from_start(function: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
      slots.restore(start)
      function()

    return run

  from_start(closed_loop)()
  most = int((slots.slots['episode'] - start['slot_episode']).max())
  replayed = dict(arrays)
  replayed['reset_rows'] = resets(start['slot_episode'], max(most, 1))
  physics = from_start(lambda: bare_physics.replay_slots(slots, replayed))
  times = timing.alternating([from_start(closed_loop), physics], pairs)
  total = int(arrays['lengths'].sum())
  return dict(
    task=name,
    threads=threads,
    native_env_steps_per_second=total / float(np.median(times[:, 0])),
    physics_env_steps_per_second=total / float(np.median(times[:, 1])),
    native_over_physics=timing.ratio(times[:, 1], times[:, 0]),
  )
