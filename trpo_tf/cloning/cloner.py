"""Exact cloning of Gymnasium environments: their state as a Snapshot and back.

These can be cloned, within any known wrappers:

* environments with two methods of their own for it (`Snapshots`);
* Gymnasium's MuJoCo environments and subclasses whose attributes are plain
  data;
* Atari games of ale_py;
* Gymnasium's classic control and toy text environments.

Everything else is refused. An environment is never copied or pickled, because
that would copy what it shares with others, and would fail late or not at all
where state lives outside Python.
"""

import copy
import hashlib
import re
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv

from trpo_tf import extras
from trpo_tf.cloning import forms, packing
from trpo_tf.cloning.ale import AleBase
from trpo_tf.cloning.bases import Base, FieldsBase, OwnBase, class_path
from trpo_tf.cloning.known import ENVIRONMENTS, WRAPPERS
from trpo_tf.cloning.mujoco import CannotClone, MujocoBase
from trpo_tf.cloning.snapshot import Snapshot
from trpo_tf.errors import UserError

__all__ = ['Cloner', 'Snapshots', 'cloner']

ale_py = extras.optional('ale_py', 'atari')


class Snapshots(Protocol):
  """The methods by which an environment or a wrapper is cloned.

  The bytes hold every part of the object, and of all that it wraps, that later
  steps or resets depend on: the simulator, counters, what the last step left
  for the next, and the random generators, np_random among them. After
  restore(data) the same actions give the same results bit for bit, in another
  instance or process, whatever was done in between. `trpo_tf.cloning.check`
  finds where that fails.

  A wrapper around an environment that can already be cloned can wrap
  `cloner(env, task_id)` and pickle its snapshot together with its own state.
  """

  def snapshot(self) -> bytes:
    """Returns the state."""

  def restore(self, data: bytes) -> None:
    """Puts the object into the state in which `snapshot` returned `data`."""


def cloner(
  env: gymnasium.Env, task_id: str, *, include_rng: bool = True
) -> 'Cloner':
  """Makes an environment whose snapshots can be taken and restored.

  Args:
    env: the environment, wrappers included.
    task_id: name of the task in error messages.
    include_rng: whether snapshots hold the state of the random generators. If
      so, branches of one state meet the same random events (common random
      numbers) and a run resumes exactly. If not, a restored environment keeps
      its generators; for independent branches, reset(seed=...) before restore.

  Returns:
    The Cloner of env; env itself if it is one already.

  Raises:
    UserError: it cannot be cloned; the message gives the reason and a remedy.
  """
  if isinstance(env, Cloner):
    return env
  layers: list[tuple[Any, tuple[str, ...]]] = []
  inner = env
  while isinstance(inner, gymnasium.Wrapper) and not _implements(inner):
    if type(inner) not in WRAPPERS:
      raise _refusal(task_id, inner)
    layers.append((inner, WRAPPERS[type(inner)]))
    inner = inner.env
  try:
    base = _base(inner, include_rng)
  except ValueError as error:
    raise _refusal(task_id, inner, str(error)) from error
  return Cloner(env, task_id, layers, base, include_rng)


def _refusal(task_id: str, env: Any, why: str = '') -> UserError:
  missing = [
    m
    for m in ('snapshot', 'restore')
    if not callable(getattr(type(env), m, None))
  ]
  why = why or f'has no {" and ".join(f"{m}()" for m in missing)}'
  return UserError(
    f'--task={task_id}: class {type(env).__name__} {why}: implement '
    'snapshot() and restore(), or use --sampler=single_path'
  )


def _implements(env: Any) -> bool:
  return all(
    callable(getattr(type(env), method, None))
    for method in ('snapshot', 'restore')
  )


def _base(env: Any, include_rng: bool) -> Base:
  if _implements(env):
    if not include_rng:
      raise ValueError(
        'decides itself whether a snapshot holds its random '
        'generators, so include_rng=False is not for it'
      )
    return OwnBase(env)
  if isinstance(env, MujocoEnv):
    return MujocoBase(env)
  if ale_py and type(env) is ale_py.AtariEnv:
    return AleBase(env, include_rng)
  if type(env) in ENVIRONMENTS:
    return FieldsBase(env, ENVIRONMENTS[type(env)])
  raise ValueError('')


_FORGERIES = AttributeError, LookupError, OverflowError, TypeError, ValueError


class Cloner(gymnasium.Wrapper):
  """An environment whose states can be taken and restored; made by `cloner`.

  The environment must be stepped and reset through the cloner, which keeps the
  latest observation. A snapshot holds it as the environment returned it, so it
  is never computed again.

  Attributes:
    includes_rng: whether snapshots hold the random generators.
  """

  def __init__(
    self,
    env: gymnasium.Env,
    task_id: str,
    layers: list[tuple[Any, tuple[str, ...]]],
    base: Base,
    include_rng: bool,
  ):
    """Wraps the environment.

    Args:
      env: the environment, wrappers included.
      task_id: name of the task in error messages.
      layers: its wrappers, outermost first, and their attributes to save.
      base: saves and loads what is inside these wrappers.
      include_rng: whether snapshots hold the random generators.
    """
    super().__init__(env)
    self._task_id, self._layers, self._base = task_id, layers, base
    # An environment that clones itself includes its own generator.
    self._has_rng = include_rng and base.kind != 'environment'
    self.includes_rng = include_rng
    self._observation: Any = None
    self._restored: bytes | None = None  # packed, if no step came after it
    self._running = False
    self._model = _digest(env, base.model, include_rng)

  def reset(self, **kwargs: Any) -> tuple[Any, dict]:
    """Resets the environment, as gymnasium.Env.reset does."""
    observation, info = self.env.reset(**kwargs)
    self._observation = _copied(observation)
    self._restored, self._running = None, True
    return observation, info

  def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
    """Takes one step, as gymnasium.Env.step does."""
    result = self.env.step(action)
    self._observation, self._restored = _copied(result[0]), None
    return result

  def snapshot(self) -> Snapshot:
    """Takes the state after the latest reset, step or restore.

    Raises:
      UserError: there was no reset or restore yet, or the environment has
        become one that cannot be cloned.
    """
    if not self._running:
      raise UserError(
        'an environment has no state to take a snapshot of '
        'before its first reset: reset it'
      )
    rng = (
      self.unwrapped.np_random.bit_generator.state if (self._has_rng) else None
    )
    try:
      state = self._base.save()
    except CannotClone as error:
      raise _refusal(self._task_id, self.unwrapped, str(error)) from error
    try:
      data = packing.pack([self._packed(), self._layer_values(), rng, state])
    except TypeError as error:
      why = f'has a state or an observation that cannot be stored ({error})'
      raise _refusal(self._task_id, self.unwrapped, why) from error
    return Snapshot(self._base.kind, self._base.version, self._model, data)

  def restore(self, snapshot: Snapshot) -> Any:
    """Puts the environment, whatever its state, into that of a snapshot.

    Args:
      snapshot: snapshot of this or an equal environment, from any process.

    Returns:
      A copy of the observation in that state.

    Raises:
      UserError: the snapshot is of another simulator, model or size, or
        damaged. The environment then needs another restore or a reset.
    """
    snapshot.check(
      self._base.kind,
      self._base.version,
      self._model,
      packing.packed_size(snapshot.data),
    )
    if not self._running:
      self._begin()
    self._running = False  # if this fails, until the next reset or restore
    try:
      observation, layers, rng, state = self._checked(snapshot.data)
      if self._has_rng:
        forms.restore_generator(self.unwrapped.np_random.bit_generator, rng)
      if self._base.kind != 'environment':
        self._base.load(state)
    except CannotClone as error:
      raise _refusal(self._task_id, self.unwrapped, str(error)) from error
    except _FORGERIES as error:
      raise UserError(
        f'the snapshot is damaged or forged ({error}): take a new one'
      ) from error
    if self._base.kind == 'environment':  # whose errors are its own
      self._base.load(state)
    for (wrapper, names), values in zip(self._layers, layers, strict=True):
      for name, value in zip(names, values, strict=True):
        setattr(wrapper, name, value)
    self._restored, self._running = observation, True
    return packing.unpack(observation)

  def _checked(self, data: bytes) -> list[Any]:
    """Unpacks what `snapshot` packed."""
    values = packing.unpack(data)
    observation, layers, _, _ = values
    packing.unpack(observation)
    for found, live in zip(layers, self._layer_values(), strict=True):
      for value, like in zip(found, live, strict=True):
        forms.check_form(value, like)
    return values

  def _layer_values(self) -> list[list[Any]]:
    return [
      [getattr(wrapper, name) for name in names]
      for wrapper, names in self._layers
    ]

  def _packed(self) -> bytes:
    if self._restored is not None:
      return self._restored
    return packing.pack(self._observation)

  def _begin(self) -> None:
    # Wrappers and simulators set some things up at their first reset only.
    if not self.includes_rng:
      raise UserError(
        'if a snapshot holds no random generators, the environment needs '
        'its own: call reset(seed=...) before the restore'
      )
    self.reset()


def _copied(observation: Any) -> Any:
  """Copies an observation, which the caller may change."""
  if isinstance(observation, np.ndarray):  # faster than deepcopy
    return observation.copy()
  return copy.deepcopy(observation)


def _simulated(keywords: dict[str, Any]) -> dict[str, Any]:
  """Leaves out what only says how pictures are drawn."""
  return {k: v for k, v in keywords.items() if k != 'render_mode'}


def _digest(env: gymnasium.Env, model: str, include_rng: bool) -> str:
  """Hashes everything that equal environments have in common."""
  parts = [model, str(include_rng)]
  while isinstance(env, gymnasium.Wrapper):
    parts.append(f'{class_path(env)} {getattr(env, "_saved_kwargs", {})!r}')
    env = env.env
  spec = env.spec
  given = spec and (spec.id, _simulated(spec.kwargs))
  parts.append(f'{class_path(env)} {given!r}')
  # gymnasium.make copies keywords, and a copied object has another address
  text = re.sub(r' at 0x[0-9a-f]+', '', '\n'.join(parts))
  return hashlib.sha256(text.encode()).hexdigest()[:16]
