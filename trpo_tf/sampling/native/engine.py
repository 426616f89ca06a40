"""The native sampler's Python side: the only importer of the extension.

C++ draws no random numbers: noise rows and reset rows are its inputs, so a
rollout is a pure function of (snapshots, theta, normaliser, noise, resets).
"""

import os
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from trpo_tf.errors import UserError
from trpo_tf.policies.gaussian import GaussianPolicy
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.actors import gaussian_log_normalizer
from trpo_tf.sampling.batch import Divergence, End
from trpo_tf.tasks.actions import Controls
from trpo_tf.tasks.program import OPS
from trpo_tf.tasks.task import CompiledTask

try:
  import trpo_tf.sampling._native as _native
except ImportError as error:
  raise ImportError(
    f'the native sampler cannot be loaded ({error}). Build it with: '
    'pip install -e .'
  ) from error
if tuple(_native.OPS) != OPS:
  raise ImportError(
    'the native sampler is older than the Python code. '
    'Build it with: pip install -e .'
  )

_ACTIVATIONS = ('tanh', 'softplus')
_CAUSES = (
  *(mujoco.mjtWarning(i).name for i in range(mujoco.mjtWarning.mjNWARNING)),
  'non-finite output',
  'error',
)
# (slots, first episodes, count) -> float64 [S, count, nq + nv]
ResetRows = Callable[[np.ndarray, int], np.ndarray]


def default_threads() -> int:
  """Cores that this process may use."""
  return len(os.sched_getaffinity(0))


def _program_fields(compiled: CompiledTask) -> dict:
  """The program with its fields resolved to places in mjData."""
  program = compiled.program
  code = program.code.copy()
  loads = code[:, 0] == OPS.index('load')
  offsets = np.array([_native.FIELDS[name] for name in program.fields])
  code[loads, 3] = offsets[code[loads, 3]]
  return dict(
    vars(program),
    code=np.ascontiguousarray(code),
    constants=program.constants.tolist(),
  )


def engine_setup(
  compiled: CompiledTask, policy: GaussianPolicy, controls: Controls
) -> dict[str, Any]:
  """What is fixed for simulations of a task under a policy.

  Args:
    compiled: the task.
    policy: shape of the policies that act.
    controls: what the simulator receives for an action.

  Returns:
    The setup by the names that the extension knows.

  Raises:
    UserError: a policy of other sizes.
  """
  network = policy.network
  sizes = compiled.observation_size, compiled.action_size
  if (network.input_size, network.output_size) != sizes:
    raise UserError(
      f'{compiled.task.name} has {sizes[0]} observations and {sizes[1]} '
      f'actions; the network has {network.input_size} inputs and '
      f'{network.output_size} outputs'
    )
  return dict(
    program=_program_fields(compiled),
    layer_sizes=[
      network.input_size,
      *network.hidden_sizes,
      network.output_size,
    ],
    activation=_ACTIVATIONS.index(network.activation),
    frame_skip=compiled.task.frame_skip,
    time_limit=compiled.task.time_limit,
    clip_actions=controls.clip,
    low=controls.low.tolist(),
    high=controls.high.tolist(),
    scale=controls.scale.tolist(),
    offset=controls.offset.tolist(),
  )


def make_engine(
  kind: str, compiled: CompiledTask, setup: dict, *sizes: int
) -> Any:
  """A `Sampler` (slots, threads) or `Brancher` (threads) of the extension.

  Raises:
    UserError: a model that cannot be cloned from a state row.
  """
  try:
    return getattr(_native, kind)(compiled.model._address, setup, *sizes)
  except RuntimeError as error:
    raise UserError(
      f'{compiled.task.name}: the native sampler cannot run this model: {error}'
    ) from error


def policy_arrays(
  policy: GaussianPolicy, theta: np.ndarray, normalizer: Normalizer
) -> dict[str, Any]:
  """The policies of a closed loop, as the extension takes them.

  Args:
    policy: shape of the policies.
    theta: float32 [n, P], their parameters.
    normalizer: frozen observation normaliser.

  Returns:
    Arrays by the names that the extension knows.
  """
  log_std = policy.log_std(theta).astype(np.float64)
  return dict(
    theta=np.ascontiguousarray(theta, np.float32),
    deviations=np.exp(log_std),
    log_normalizers=gaussian_log_normalizer(log_std),
    mean=normalizer.mean32,
    inverse_deviation=normalizer.inv_std32,
    observation_clip=float(normalizer.clip),
  )


def causes(bits: int) -> tuple[str, ...]:
  """Names of what a failed step's bits say."""
  return tuple(c for i, c in enumerate(_CAUSES) if bits >> i & 1)


def _cut(ends: np.ndarray, last: int) -> None:
  """Marks a slot's last recorded step, unless an episode ended there."""
  if last >= 0 and not ends[last]:
    ends[last] = End.DIVERGED


class NativeSlots:
  """Simulations of one task that run a policy in a closed loop.

  The whole state of a slot is its MuJoCo row, the observation and the `prev`
  values as they were, the elapsed steps and the running return (`state`,
  `restore`).

  Attributes:
    compiled: the task.
    num_slots: simulations S.
  """

  def __init__(
    self,
    compiled: CompiledTask,
    num_slots: int,
    policy: GaussianPolicy,
    controls: Controls,
    threads: int = 0,
  ):
    """Makes the slots, each about to reset.

    Args:
      compiled: the task.
      num_slots: simulations.
      policy: shape of the policies that act.
      controls: what the simulator receives for an action.
      threads: 0: all available cores. The result does not depend on it.

    Raises:
      UserError: a model that cannot be cloned from a state row.
    """
    self._controls = controls
    setup = engine_setup(compiled, policy, controls)
    self._native = make_engine(
      'Sampler', compiled, setup, num_slots, threads or default_threads()
    )
    self.compiled = compiled
    self.num_slots = num_slots
    self._policy = policy

  @property
  def slots(self) -> np.ndarray:
    """Records [S] (csrc/rollout.h: Slot), live: a write takes effect."""
    return self._native.slots

  def state(self) -> dict[str, np.ndarray]:
    """Everything that the next rollout depends on, as copies."""
    native = self._native
    slots = {
      f'slot_{k}': native.slots[k].copy() for k in native.slots.dtype.names
    }
    return dict(
      slots,
      rows=native.rows.copy(),
      previous=native.previous.copy(),
      slot_observations=native.observations.copy(),
    )

  def restore(self, state: dict[str, np.ndarray]) -> None:
    """Continues from a `state` of a sampler of the same task and size.

    Raises:
      ValueError: shapes of another model or number of slots.
    """
    native = self._native
    views = {f'slot_{k}': native.slots[k] for k in native.slots.dtype.names}
    views |= dict(
      rows=native.rows,
      previous=native.previous,
      slot_observations=native.observations,
    )
    for name, view in views.items():
      if view.shape != state[name].shape:
        raise ValueError(
          f'{name} has shape {state[name].shape}; this sampler needs '
          f'{view.shape}: the state is of another model or number of slots'
        )
      view[...] = state[name]

  def new_arrays(self, capacity: int, details: bool = False) -> dict:
    """Zeroed records for `capacity` steps per slot.

    Args:
      capacity: T.
      details: also record every output of the task program in float64 (full
        observation, reward, terminated, terms) as task_outputs [S, T, K].
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
    return {k: np.zeros(shape, dtype) for k, (shape, dtype) in shapes.items()}

  def policy_arrays(
    self,
    theta: np.ndarray,
    policy_index: np.ndarray,
    normalizer: Normalizer,
    noise: np.ndarray,
  ) -> dict:
    """The inputs of a closed loop.

    Args:
      theta: float32 [n, P], network parameters then log deviations [A].
      policy_index: int32 [S], which policy each slot follows.
      normalizer: frozen observation normaliser.
      noise: float64 [S, T, A], standard normal; zeros act by the mean.
    """
    policies = policy_arrays(self._policy, theta, normalizer)
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
    """Fills the records; runs every slot to its capacity or stop.

    Args:
      arrays: `new_arrays`, and `policy_arrays` unless recorded actions are
        replayed; `lengths` gives the next step of every slot.
      reset_rows: initial states by slot, from its next episode on.
      min_steps: a slot stops at the first end of an episode from this step
        on; None: all run to the capacity.
      iteration: recorded with divergences.
      max_divergences: refuse to go on beyond.
      retry_noise: (slot, its failures so far) -> [A], the noise of the step
        that is recorded in place of a failed one: the same action may fail
        again for ever. None: the same noise.

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
        raise UserError(
          f'{self.compiled.task.name} diverged {len(found)} times in one batch '
          f'({", ".join(found[-1].causes)}): lower the time step or the '
          'actuator forces of the model'
        )

  def _divergence(self, arrays: dict, slot: int, iteration: int) -> Divergence:
    bits, step = int(arrays['failures'][slot]), int(arrays['lengths'][slot])
    record = self.slots[slot]
    begin = int(arrays['saved_steps'][slot])
    return Divergence(
      iteration=iteration,
      slot=slot,
      episode=int(record['episode']),
      step=int(record['elapsed']),
      causes=causes(bits),
      message=self._native.error(slot),
      state=arrays['saved_states'][slot].copy(),
      controls=self._controls(arrays['actions'][slot, begin : step + 1]),
    )
