"""The Python side of the native sampler; only it imports the extension."""

from typing import Any

import mujoco
import numpy as np

from trpo_tf.errors import UserError
from trpo_tf.policies.gaussian import GaussianPolicy
from trpo_tf.policies.mlp import MLP, activation_number
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.actors import gaussian_log_normalizer
from trpo_tf.tasks import faults
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

# the causes where an expression of the task failed and the physics did not
OUTPUT_ONLY = ('non-finite output',)
_CAUSES = (
  *(mujoco.mjtWarning(i).name for i in range(mujoco.mjtWarning.mjNWARNING)),
  *OUTPUT_ONLY,
  'error',
)
# What helps where a step fails, by one of its causes; the first one counts.
_REMEDIES = {
  'error': 'give the model more memory, <size memory="..."/>',
  'mjWARN_CONTACTFULL': 'give the model more memory, <size memory="..."/>',
  'mjWARN_CNSTRFULL': 'give the model more memory, <size memory="..."/>',
  'mjWARN_BADCTRL': 'the controls are not finite: look for what sends them',
}


def _program_fields(compiled: CompiledTask) -> dict:
  """Returns the program with its fields resolved to offsets in mjData."""
  program = compiled.program
  code = program.code.copy()
  loads = code[:, 0] == OPS.index('load')
  offsets = np.array([_native.FIELDS[name] for name in program.fields])
  code[loads, 3] = offsets[code[loads, 3]]
  arrays = dict(
    vars(program),
    code=np.ascontiguousarray(code),
    constants=program.constants.tolist(),
  )
  del arrays['places']
  return arrays


def engine_setup(
  compiled: CompiledTask, policy: GaussianPolicy, controls: Controls
) -> dict[str, Any]:
  """Returns the extension's setup for simulating a task under a policy.

  Args:
    compiled: the task.
    policy: shape of the policies that act.
    controls: maps an action to what the simulator receives.

  Raises:
    UserError: the policy has other sizes.
  """
  network = policy.network
  if not isinstance(network, MLP):
    raise UserError(
      'native tasks run a multilayer perceptron (policies.mlp.MLP), not a '
      f'{type(network).__name__}'
    )
  sizes = compiled.observation_size, compiled.action_size
  if (network.input_size, network.output_size) != sizes:
    raise UserError(
      f'{compiled.task.name} has {sizes[0]} observations and {sizes[1]} '
      f'actions; the network has {network.input_size} inputs and '
      f'{network.output_size} outputs'
    )
  return dict(
    program=_program_fields(compiled),
    layer_sizes=[sizes[0], *network.hidden_sizes, sizes[1]],
    activation=activation_number(network.activation),
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
  """Makes a `Sampler` or a `Brancher` of the extension.

  Args:
    kind: 'Sampler' or 'Brancher'.
    compiled: the task.
    setup: the result of engine_setup.
    *sizes: slots and threads of a Sampler, or threads of a Brancher.

  Raises:
    UserError: the model cannot be cloned from a state row.
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
  """Returns the policies of a closed loop in the extension's form.

  Args:
    policy: shape of the policies.
    theta: float32 [n, P], their parameters.
    normalizer: frozen observation normaliser.
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
  """Returns the names of a failed step's causes."""
  return tuple(c for i, c in enumerate(_CAUSES) if bits >> i & 1)


def explain(
  compiled: CompiledTask, causes: tuple[str, ...], native: Any, simulation: int
) -> str:
  """Says which of a task's expressions failed in a step, in one line.

  Args:
    compiled: the task.
    causes: names of the step's causes.
    native: a `Sampler` or a `Brancher` of the extension.
    simulation: the simulation whose last step it was.

  Returns:
    The text; '' if the physics is to blame.
  """
  if causes != OUTPUT_ONLY:
    return ''
  return faults.explain(compiled, native.registers(simulation))


def remedy(
  causes: tuple[str, ...], policies: dict[str, Any], message: str = ''
) -> str:
  """Returns what helps where steps of a task fail.

  Args:
    causes: names of a failed step's causes.
    policies: what policy_arrays returned; empty if no policy acts.
    message: what is known of the step besides.
  """
  for name in ('theta', 'mean', 'inverse_deviation'):
    if not np.isfinite(policies.get(name, 0)).all():
      what = 'parameters' if name == 'theta' else 'normaliser numbers'
      return f"the policy's {what} are not finite: take an earlier checkpoint"
  if causes == OUTPUT_ONLY:
    return (
      f'the physics is sound, but {message}: bound the operands there with '
      'clip, minimum, maximum or where'
    )
  for cause, text in _REMEDIES.items():
    if cause in causes:
      return text
  return 'lower the time step or the actuator forces of the model'
