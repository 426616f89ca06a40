"""Simulations of a native task that run a policy in a closed loop.

C++ draws no random numbers. Noise rows and reset rows are its inputs, so a
rollout is a pure function of (states, theta, normaliser, noise, resets).
"""

import reprlib
from collections.abc import Callable

import mujoco
import numpy as np

from trpo_tf.cloning.history import Cursors
from trpo_tf.errors import UserError
from trpo_tf.policies.gaussian import GaussianPolicy
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.batch import Divergence, End
from trpo_tf.sampling.native import engine
from trpo_tf.sampling.sampler import check_arrays
from trpo_tf.sampling.threads import thread_count
from trpo_tf.tasks.actions import Controls
from trpo_tf.tasks.task import CompiledTask

__all__ = ['NativeSlots']

_MOST_EPISODES = 2**53  # of a slot

# (first episode of each slot, count) -> float64 [S, count, nq + nv]
ResetRows = Callable[[np.ndarray, int], np.ndarray]


def _cut(ends: np.ndarray, last: int) -> None:
  """Marks a slot's last recorded step, unless an episode ended there."""
  if last >= 0 and not ends[last]:
    ends[last] = End.DIVERGED


def _last_state(compiled: CompiledTask, last: Divergence) -> str:
  """Describes the state from which a step failed."""
  model = compiled.model
  data = mujoco.MjData(model)
  mujoco.mj_setState(
    model, data, last.state, mujoco.mjtState.mjSTATE_INTEGRATION
  )
  for controls in last.controls[:-1]:
    data.ctrl[:] = controls
    mujoco.mj_step(model, data, compiled.task.frame_skip)
  qpos, qvel = (reprlib.repr(x.tolist()) for x in (data.qpos, data.qvel))
  return f'the last step began at qpos={qpos}, qvel={qvel}'


class NativeSlots:
  """Simulations of one task that run a policy in a closed loop.

  The state of a slot (see `state` and `restore`) consists of its MuJoCo row,
  the latest observation and `prev` values, the elapsed steps and the running
  return.

  Attributes:
    compiled: the task.
    num_slots: number of simulations S.
  """

  def __init__(
    self,
    compiled: CompiledTask,
    num_slots: int,
    policy: GaussianPolicy,
    controls: Controls,
    threads: int = 0,
  ):
    """Makes the slots, which begin with a reset.

    Args:
      compiled: the task.
      num_slots: number of simulations S.
      policy: shape of the policies that act.
      controls: maps an action to what the simulator receives.
      threads: number of threads; 0: all available cores. Results do not change.

    Raises:
      UserError: the model cannot be cloned from a state row.
    """
    self._controls = controls
    setup = engine.engine_setup(compiled, policy, controls)
    threads = thread_count('--sampler_threads', threads)
    self._native = engine.make_engine(
      'Sampler', compiled, setup, num_slots, threads
    )
    self.compiled = compiled
    self.num_slots = num_slots
    self._policy = policy
    terms = len(compiled.term_names)
    self._term_sums = np.zeros((num_slots, terms))  # of running episodes

  @property
  def slots(self) -> np.ndarray:
    """Live records [S] (csrc/rollout.h: Slot); a write takes effect."""
    return self._native.slots

  def _views(self) -> dict[str, np.ndarray]:
    """Returns the live memory of all that the next rollout depends on."""
    native = self._native
    slots = {f'slot_{k}': native.slots[k] for k in native.slots.dtype.names}
    return dict(
      slots,
      rows=native.rows,
      previous=native.previous,
      slot_observations=native.observations,
      term_sums=self._term_sums,
    )

  def state(self) -> dict[str, np.ndarray]:
    """Returns copies of all that the next rollout depends on."""
    return {name: view.copy() for name, view in self._views().items()}

  def restore(self, state: dict[str, np.ndarray]) -> None:
    """Continues from a `state` of a sampler of the same task and size.

    Raises:
      ValueError: the state is of another model or number of slots, or holds
        impossible counters or cursors. The slots are unchanged.
    """
    views = self._views()
    state = {'term_sums': 0 * self._term_sums} | state  # as in older runs
    check_arrays(state, views)
    limit = state['slot_limit']
    for name, least, most in (
      ('limit', 1, self.compiled.task.time_limit),
      ('elapsed', 0, limit),
      ('episode', 0, _MOST_EPISODES),
      ('needs_reset', 0, 1),
    ):
      values = state[f'slot_{name}']
      if ((values < least) | (values > most)).any():
        raise ValueError(f'slot_{name} is out of range')
    if not Cursors(self.compiled.model).valid_states(state['rows']).all():
      raise ValueError('rows hold a wrong place in a history of delays')
    for name, view in views.items():
      view[...] = state[name]

  def new_arrays(self, capacity: int, details: bool = False) -> dict:
    """Makes zeroed records for `capacity` steps per slot.

    Args:
      capacity: T.
      details: whether to record every output of the task program (observation,
        reward, terminated, terms) too, as task_outputs float64 [S, T, K].
    """
    S, T = self.num_slots, capacity
    program = self.compiled.program
    O, A = program.observation_size, self.compiled.action_size
    B = T // self.compiled.task.time_limit + 2
    shapes = dict(
      observations=((S, T, O), np.float32),
      actions=((S, T, A), np.float64),
      outputs=((S, T, A), np.float32),
      log_probs=((S, T), np.float32),
      rewards=((S, T), np.float64),
      ends=((S, T), np.uint8),
      timesteps=((S, T), np.int32),
      episode_returns=((S, T), np.float64),
      episode_terms=((S, T, self._term_sums.shape[1]), np.float64),
      boundary_observations=((S, B, O), np.float32),
      boundary_steps=((S, B), np.int32),
      num_boundaries=((S,), np.int32),
      last_observations=((S, O), np.float32),
      lengths=((S,), np.int32),
      resets_used=((S,), np.int32),
      failures=((S,), np.int32),
      saved_states=((S, self._native.rows.shape[1]), np.float64),
      saved_steps=((S,), np.int32),
    )
    if details:
      shapes['task_outputs'] = ((S, T, program.num_outputs), np.float64)
    arrays = {k: np.zeros(shape, kind) for k, (shape, kind) in shapes.items()}
    return dict(arrays, term_sums=self._term_sums)

  def policy_arrays(
    self,
    theta: np.ndarray,
    policy_index: np.ndarray,
    normalizer: Normalizer,
    noise: np.ndarray,
  ) -> dict:
    """Returns the inputs of a closed loop.

    Args:
      theta: float32 [n, P], network parameters then log deviations [A].
      policy_index: int32 [S], which policy each slot follows.
      normalizer: frozen observation normaliser.
      noise: float64 [S, T, A], standard normal; zeros act by the mean.
    """
    policies = engine.policy_arrays(self._policy, theta, normalizer)
    return dict(policies, policy_index=policy_index, noise=noise)

  def rollout(
    self,
    arrays: dict,
    reset_rows: ResetRows,
    *,
    min_steps: int | None = None,
    iteration: int = 0,
    max_divergences: int = 1000,
    retry_noise: Callable[[int, int], np.ndarray] | None = None,
  ) -> list[Divergence]:
    """Runs every slot to its capacity or stop, and fills the records.

    Args:
      arrays: `new_arrays`, and `policy_arrays` unless recorded actions are
        replayed; `lengths` gives the next step of every slot.
      reset_rows: initial states by slot, from its next episode on.
      min_steps: a slot stops at the first end of an episode from this step
        on; None: all run to the capacity.
      iteration: recorded with divergences.
      max_divergences: more divergences than this are an error.
      retry_noise: (slot, its failures so far) -> [A], the noise of the step
        that replaces a failed one, as the same action might fail forever.
        None: the same noise.

    Returns:
      The divergences, in order of slot within each pass.

    Raises:
      UserError: the task diverges more often than `max_divergences`.
    """
    capacity = arrays['rewards'].shape[1]
    stop = capacity if min_steps is None else min_steps
    slots, lengths = self.slots, arrays['lengths']
    count = max(2, capacity // 8)
    found: list[Divergence] = []
    failures = np.zeros(self.num_slots, int)
    while True:
      running = (lengths < capacity) & ~(
        (lengths >= stop) & (slots['needs_reset'] == 1)
      )
      ids = np.flatnonzero(running)
      if not ids.size:
        return found
      arrays['resets_used'][:] = 0
      arrays['reset_rows'] = reset_rows(slots['episode'], count)
      self._native.run(ids.tolist(), arrays | dict(min_steps=stop))
      for slot in ids[arrays['failures'][ids] != 0]:
        found.append(self._divergence(arrays, int(slot), iteration))
        failures[slot] += 1
        if retry_noise:
          noise = retry_noise(int(slot), int(failures[slot]))
          arrays['noise'][slot, lengths[slot]] = noise
        _cut(arrays['ends'][slot], lengths[slot] - 1)
      if len(found) > max_divergences:
        causes = found[-1].causes
        remedy = engine.remedy(causes, arrays, found[-1].message)
        text = (
          f'{self.compiled.task.name} diverged {len(found)} times in one batch '
          f'({", ".join(causes)}): {remedy}'
        )
        if causes == engine.OUTPUT_ONLY:
          text += f' ({_last_state(self.compiled, found[-1])})'
        raise UserError(text)

  def _divergence(self, arrays: dict, slot: int, iteration: int) -> Divergence:
    bits, step = int(arrays['failures'][slot]), int(arrays['lengths'][slot])
    record, causes = self.slots[slot], engine.causes(bits)
    fault = engine.explain(self.compiled, causes, self._native, slot)
    begin = int(arrays['saved_steps'][slot])
    return Divergence(
      iteration=iteration,
      slot=slot,
      episode=int(record['episode']),
      step=int(record['elapsed']),
      causes=causes,
      message=self._native.error(slot) or fault,
      state=arrays['saved_states'][slot].copy(),
      controls=self._controls(arrays['actions'][slot, begin : step + 1]),
    )
