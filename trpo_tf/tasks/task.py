"""A task as data: a MuJoCo model, expressions and a reset distribution."""

import dataclasses
import functools
import hashlib
import os
import reprlib
import traceback
from collections.abc import Callable, Mapping

import mujoco
import numpy as np

from trpo_tf.errors import UserError, cause, quoted
from trpo_tf.tasks.actions import ActionSpace, Controls, continuous_actions
from trpo_tf.tasks.expression import (
  Expression,
  Operand,
  constant,
  fail,
)
from trpo_tf.tasks.model import load_model
from trpo_tf.tasks.model_image import model_image
from trpo_tf.tasks.program import Program, compile_program
from trpo_tf.tasks.simulation import Simulation

# (model, generator, n) -> qpos [n, nq], qvel [n, nv]
Reset = Callable[
  [mujoco.MjModel, np.random.Generator, int], tuple[np.ndarray, np.ndarray]
]


def _scalar(name: str, value: Operand) -> Expression:
  expression = constant(value)
  if expression.size != 1:
    fail(f'{name} has shape {expression.shape}; it must be one number')
  return expression


@dataclasses.dataclass(frozen=True)
class Definition:
  """The observation, reward and termination of a task after each env step.

  Attributes:
    observation: any shape; flattened when it is evaluated.
    reward: one element.
    terminated: one element; nonzero ends the episode.
    terms: parts of the reward by name, for reports; one element each.
  """

  observation: Expression
  reward: Expression
  terminated: Expression
  terms: Mapping[str, Expression]

  def __init__(
    self,
    observation: Operand,
    reward: Operand,
    terminated: Operand = 0.0,
    terms: Mapping[str, Operand] | None = None,
  ):
    """Makes expressions of the arguments, which may be plain numbers.

    Args:
      observation: any shape.
      reward: one element.
      terminated: one element; nonzero ends the episode.
      terms: parts of the reward by name, one element each.

    Raises:
      UserError: a reward, termination or term is not one number.
    """
    set_field = functools.partial(object.__setattr__, self)
    set_field('observation', constant(observation))
    set_field('reward', _scalar('reward', reward))
    set_field('terminated', _scalar('terminated', terminated))
    set_field(
      'terms', {name: _scalar(name, x) for name, x in (terms or {}).items()}
    )


_INTEGER, _PATH = int | np.integer, str | os.PathLike
_HIGHEST = {'frame_skip': 100_000, 'time_limit': 2**31 - 1}


@dataclasses.dataclass(frozen=True)
class Task:
  """A task of the native sampler.

  Attributes:
    name: name of the task in reports.
    model_path: path of the MJCF file.
    frame_skip: simulator steps of an env step.
    time_limit: env steps after which an episode is truncated.
    define: builds the expressions from the simulation's symbols.
    reset: draws n initial states at once.
    gymnasium_id: the Gymnasium environment it equals (gymnasium_v5.py says how
      exactly), if any.
  """

  name: str
  model_path: str
  frame_skip: int
  time_limit: int
  define: Callable[[Simulation], Definition]
  reset: Reset
  gymnasium_id: str = ''

  def __post_init__(self):
    """Raises UserError if an attribute is of a wrong type or out of range."""
    for name, good, wanted in (
      ('name', isinstance(self.name, str), 'a string'),
      ('model_path', isinstance(self.model_path, _PATH), 'a path'),
      ('frame_skip', isinstance(self.frame_skip, _INTEGER), 'an integer'),
      ('time_limit', isinstance(self.time_limit, _INTEGER), 'an integer'),
      ('define', callable(self.define), 'a function'),
      ('reset', callable(self.reset), 'a function'),
    ):
      if not good:
        kind = type(getattr(self, name)).__name__
        fail(f'the {name} of Task {self.name!r:.80} is a {kind}, not {wanted}')
    for name, high in _HIGHEST.items():
      value = getattr(self, name)
      if not 1 <= value <= high:
        fail(f'{self.name}: {name}={value} is outside [1, {high}]')


@dataclasses.dataclass(frozen=True)
class CompiledTask:
  """A task with its model loaded and its expressions compiled.

  Attributes:
    task: its definition.
    model: MuJoCo model, whose automatic reset after a divergence is disabled.
      Do not change it once there are simulations or snapshots of the task.
    program: the program that the native sampler evaluates.
    definition: the expressions.
    low, high: float64 [A], control range; infinite where unlimited.
  """

  task: Task
  model: mujoco.MjModel
  program: Program
  definition: Definition
  low: np.ndarray
  high: np.ndarray

  @property
  def observation_size(self) -> int:
    """Width O of an observation."""
    return self.program.observation_size

  @property
  def action_size(self) -> int:
    """Width A of an action: the number of the model's controls."""
    return self.model.nu

  @functools.cached_property
  def fingerprint(self) -> str:
    """Hash of the model, the task's program and the frame skip."""
    program = self.program
    digest = hashlib.sha256(
      repr(
        (int(self.task.frame_skip), program.fields, program.current)
      ).encode()
    )
    digest.update(model_image(self.model))
    for part in (program.code, program.constants):
      digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:32]

  def actions(
    self, action_range: str, clip: bool
  ) -> tuple[ActionSpace, Controls]:
    """Makes the action space of a policy and its map to controls.

    Args:
      action_range: 'raw', or 'control' for actions in [-1, 1].
      clip: whether controls are clipped to the control range.

    Returns:
      The action space, and the map to what the simulator receives.

    Raises:
      UserError: action_range is 'control' and an actuator has no limits.
    """
    return continuous_actions(
      self.task.name,
      self.low,
      self.high,
      action_range,
      clip,
      needed='a ctrlrange on every actuator',
    )

  def draw_resets(self, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draws initial states by the task's reset, which a user may have written.

    Args:
      rng: source of the draws.
      count: number of states.

    Returns:
      float64 [count, nq + nv], positions and velocities.

    Raises:
      UserError: the reset fails, or returns wrong shapes or a number that is
        not finite.
    """
    task, model = self.task, self.model
    try:
      qpos, qvel = map(np.asarray, task.reset(model, rng, count))
    except KeyboardInterrupt:
      raise
    except BaseException as error:  # the user's code may raise anything
      raise UserError(
        f'{task.name}: its reset failed: {cause(error)}'
      ) from error
    if qpos.dtype.kind not in 'biuf' or qvel.dtype.kind not in 'biuf':
      raise UserError(
        f'{task.name}: its reset returned numbers of types {qpos.dtype} and '
        f'{qvel.dtype}; qpos and qvel need float64'
      )
    expected = (count, model.nq), (count, model.nv)
    if (qpos.shape, qvel.shape) != expected:
      raise UserError(
        f'{task.name}: its reset(model, rng, {count}) returned shapes '
        f'{qpos.shape} and {qvel.shape}; qpos and qvel need {expected[0]} and '
        f'{expected[1]}'
      )
    rows = np.concatenate([qpos, qvel], axis=1, dtype=np.float64)
    if not np.isfinite(rows).all():
      raise UserError(f'{task.name}: its reset returned a NaN or an infinity')
    return rows

  @property
  def term_names(self) -> tuple[str, ...]:
    """Names of the reward's terms, in the order of the program's outputs."""
    return tuple(self.definition.terms)


def _define(task: Task, model: mujoco.MjModel) -> Definition:
  try:
    definition = task.define(Simulation(model, task.frame_skip))
  except (UserError, KeyboardInterrupt):
    raise
  except BaseException as error:  # the user's code may raise anything
    frames = list(traceback.extract_tb(error.__traceback__))
    frames = frames[1:] or frames  # without this function's own
    place = [f for f in frames if f.filename == frames[0].filename][-1]
    raise UserError(
      f'{place.filename}:{place.lineno}: {quoted(error)} (a task is made of '
      'the operations in docs/tasks.md)'
    ) from error
  if not isinstance(definition, Definition):
    raise UserError(
      f'{task.name}: its define returned {reprlib.repr(definition)}; return a '
      'Definition'
    )
  return definition


def compile_task(task: Task) -> CompiledTask:
  """Loads the model and compiles the expressions.

  Args:
    task: the task.

  Returns:
    The task as the samplers run it.

  Raises:
    UserError: the MJCF file cannot be read or an expression is malformed; the
      message is one line with the place and what to do.
  """
  model = load_model(task.model_path)
  definition = _define(task, model)
  try:
    program = compile_program(
      definition.observation,
      definition.reward,
      definition.terminated,
      tuple(definition.terms.values()),
      model.nu,
    )
  except RecursionError as error:
    raise UserError(
      f'{task.name}: its expressions are nested too deeply: a sum of many '
      'terms is total(concatenate(...))'
    ) from error
  limited = model.actuator_ctrllimited.astype(bool)
  low = np.where(limited, model.actuator_ctrlrange[:, 0], -np.inf)
  high = np.where(limited, model.actuator_ctrlrange[:, 1], np.inf)
  return CompiledTask(task, model, program, definition, low, high)


def uniform_reset(qpos: float, qvel: float) -> Reset:
  """Makes a reset that adds uniform noise to the pose and zero velocity.

  Args:
    qpos: bound of the noise on every position, in its own unit (m or rad).
    qvel: bound of the noise on every velocity, in m/s or rad/s.

  Returns:
    The reset.
  """
  return functools.partial(_noisy_reset, qpos=qpos, qvel=qvel, normal=False)


def normal_velocity_reset(qpos: float, qvel: float) -> Reset:
  """Makes a reset with uniform noise on the pose and normal velocities.

  Args:
    qpos: bound of the noise on every position, in its own unit (m or rad).
    qvel: standard deviation of every velocity, in m/s or rad/s.

  Returns:
    The reset.
  """
  return functools.partial(_noisy_reset, qpos=qpos, qvel=qvel, normal=True)


def _noisy_reset(model, rng, n, *, qpos, qvel, normal):
  positions = model.qpos0 + rng.uniform(-qpos, qpos, (n, model.nq))
  if normal:
    return positions, qvel * rng.standard_normal((n, model.nv))
  return positions, rng.uniform(-qvel, qvel, (n, model.nv))


def rejection_sample(
  draw: Callable[[int], np.ndarray],
  accept: Callable[[np.ndarray], np.ndarray],
  n: int,
) -> np.ndarray:
  """Draws n rows and draws the refused ones again until all are accepted.

  Args:
    draw: maps a count to float64 [count, d].
    accept: maps float64 [count, d] to bool [count].
    n: number of rows.

  Returns:
    float64 [n, d].
  """
  rows = draw(n)
  while (refused := np.flatnonzero(~accept(rows))).size:
    rows[refused] = draw(refused.size)
  return rows
