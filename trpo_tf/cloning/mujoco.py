"""Clones Gymnasium's MuJoCo environments, an mjData by its numbers.

mj_step begins with the simulator's state (mjSTATE_INTEGRATION), but an
environment may read what the step before left: positions of bodies, forces,
sensors. So a state holds all of mjData's floating-point arrays and flags, and
none of them is computed again.

It holds no pointer, counter or index but the cursors of delays, which are
checked, so bytes from a stranger may lead the simulation astray but not the
memory. What is left out are the arena (contacts and constraints) and the
integer arrays of the buffer (the sparsity of moments and tendons). mj_step
writes them before it reads them, so a restore clears them by mj_resetData.
Where bodies may sleep this does not hold, and such models are refused.
"""

import collections
import ctypes
import hashlib
import operator
import re
from collections.abc import Iterable, Iterator
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from mujoco.introspect import structs

from trpo_tf.cloning import packing
from trpo_tf.cloning.history import Cursors
from trpo_tf.tasks.model_image import field_names, model_image

__all__ = ['CannotClone', 'DataNumbers', 'MujocoBase']


class CannotClone(ValueError):
  """Why an environment cannot be cloned, a predicate of its class."""


def _fields() -> list[str]:
  """Returns the names of the buffer's arrays that hold no index."""
  fields = structs.STRUCTS['mjData'].fields
  names = [field.name for field in fields]
  buffer = fields[names.index('qpos') : names.index('contact')]
  return [
    field.name
    for field in buffer
    if getattr(field.type.inner_type, 'name', '') in ('mjtNum', 'mjtBool')
    or field.name == 'flexvert_conage'  # an age
  ]


_FIELDS = _fields()


class DataNumbers:
  """The numbers of one mjData."""

  def __init__(self, model: mujoco.MjModel, data: mujoco.MjData):
    """Finds the numbers.

    Args:
      model: the model.
      data: the mjData.
    """
    self._model, self._data = model, data
    arrays = [getattr(data, name) for name in ('energy', *_FIELDS)]
    flat = [array.reshape(-1) for array in arrays if array.size]
    self._floats = [array for array in flat if array.dtype == np.float64]
    self._others = [array for array in flat if array.dtype != np.float64]
    sizes = [1, *(array.size for array in self._floats)]
    self._ends = np.cumsum(sizes).tolist()
    self._size = 8 * self._ends[-1] + sum(a.nbytes for a in self._others)
    self._cursors = Cursors(model)

  @property
  def arrays(self) -> list[np.ndarray]:
    """The numbers as views of the mjData."""
    return [*self._floats, *self._others]

  def save(self) -> bytes:
    """Returns the state, which restores any mjData of the same model."""
    time = np.float64(self._data.time).tobytes()
    return b''.join((time, *self._floats, *self._others))

  def load(self, state: bytes) -> None:
    """Puts the mjData into the saved `state`.

    Raises:
      ValueError: the state is of another size, or a cursor of its history is
        wrong. The mjData is then that of a reset.
    """
    if len(state) != self._size:
      raise ValueError(f'an mjData of {len(state)} bytes, not {self._size}')
    mujoco.mj_resetData(self._model, self._data)
    at = self._ends[-1]
    numbers = np.frombuffer(state, count=at)
    self._data.time = numbers[0]
    for array, begin, end in zip(
      self._floats, self._ends, self._ends[1:], strict=False
    ):
      array[:] = numbers[begin:end]
    at *= 8
    for array in self._others:
      part = np.frombuffer(state, array.dtype, array.size, at)
      array[:] = part != 0 if array.itemsize == 1 else part
      at += array.nbytes
    if not self._cursors.valid(self._data.history):
      mujoco.mj_resetData(self._model, self._data)
      raise ValueError('a wrong place in a history of delays')


# Attributes that the constructor sets and no step changes, or that only draw
# pictures.
_INERT = frozenset(
  (
    '_ezpickle_args',
    '_ezpickle_kwargs',
    '_np_random',
    '_np_random_seed',
    'action_space',
    'camera_id',
    'camera_name',
    'data',
    'frame_skip',  # a forged one would step forever
    'fullpath',
    'height',
    'metadata',
    'model',
    'mujoco_renderer',
    'observation_space',
    'observation_structure',
    'render_mode',
    'spec',
    'width',
  )
)


_ALIGNMENT = 64  # bytes, of an array in an mjModel

# What an attribute may hold without another object behind it.
_NUMBERS = (bool, int, float, complex, str, bytes, np.generic, type(None))


class MujocoBase:
  """The state of a Gymnasium MuJoCo environment without its wrappers.

  The state is the numbers of the mjData and every attribute of the Python
  object that holds plain data. The model must not change, which is checked, and
  a step must not read contacts or constraints of the step before.
  """

  kind = 'mujoco'
  version = f'mujoco {mujoco.__version__}, gymnasium {gymnasium.__version__}'

  def __init__(self, env: MujocoEnv):
    """Prepares the environment's mjData for cloning.

    Raises:
      CannotClone: the reason.
    """
    if env.model.nplugin:  # opaque pointers
      raise CannotClone('has a model with plugins, whose memory is their own')
    if env.model.opt.enableflags & mujoco.mjtEnableBit.mjENBL_SLEEP:
      raise CannotClone('has a model whose bodies sleep, which is not stored')
    self._env = env
    self._attach()
    self._checked: list[int] = []
    self._check_fields(self._fields())
    self._constants = _Constants(env)
    self.model = hashlib.sha256(model_image(env.model)).hexdigest()

  def _attach(self) -> None:
    self._data = self._env.data
    self._numbers = DataNumbers(self._env.model, self._data)

  def _fields(self) -> dict[str, Any]:
    return {k: v for k, v in vars(self._env).items() if k not in _INERT}

  def _check_fields(self, fields: dict[str, Any]) -> None:
    """Checks the attributes if one of them is another object than before."""
    objects = [id(v) for v in fields.values() if not isinstance(v, _NUMBERS)]
    if objects != self._checked:
      _check_storable(fields)
      _check_separate(fields, self._numbers.arrays)
      self._checked = objects

  def save(self) -> Any:
    """Returns the state as plain data.

    Raises:
      CannotClone: the environment has changed its model or frame skip, or made
        an attribute that cannot be stored.
    """
    if self._env.data is not self._data:
      self._attach()
    self._constants.check()
    fields = self._fields()
    self._check_fields(fields)
    return fields, self._numbers.save()

  def load(self, state: Any) -> None:
    """Restores what `save` returned.

    Raises:
      CannotClone: the environment has changed its model.
      ValueError: it is not a state of this environment.
    """
    self._constants.check()
    fields, data = state
    for name in fields:
      if name in _INERT or callable(getattr(type(self._env), name, None)):
        raise ValueError(f'an attribute {name}')
    if self._env.data is not self._data:
      self._attach()
    self._numbers.load(data)
    for name in self._fields().keys() - fields.keys():
      delattr(self._env, name)
    vars(self._env).update(fields)


_OPTION_ARRAYS = field_names('mjOption', arrays=True)
_OPTIONS = operator.attrgetter(*field_names('mjOption', arrays=False))
# These arrays of an mjModel only draw pictures.
_DRAWN = re.compile(
  '(tex|mat|light|skin)_|.*_(rgba|matid|castshadow|texcoord)$'
)
_TEXTS = 'buffer', 'names', 'paths', 'text_data'
_MODEL_ARRAYS = [
  name
  for name in field_names('mjModel', arrays=True)
  if name not in _TEXTS and not _DRAWN.match(name)
]


class _Constants:
  """What must not change: the frame skip, and a model's options and physics."""

  def __init__(self, env: MujocoEnv):
    """Keeps a copy of the numbers."""
    self._env, self._model = env, env.model
    self._arrays = _pieces([getattr(self._model, n) for n in _MODEL_ARRAYS])
    self._arrays += [getattr(self._model.opt, name) for name in _OPTION_ARRAYS]
    self._before = self._values()

  def _values(self) -> tuple[Any, ...]:
    options = _OPTIONS(self._model.opt)
    return self._env.frame_skip, options, b''.join(self._arrays)

  def check(self) -> None:
    """Raises CannotClone if the numbers have changed since the constructor."""
    if self._env.model is not self._model or self._values() != self._before:
      raise CannotClone(
        'changes its model or frame_skip after its constructor, which '
        'snapshots do not hold'
      )


def _pieces(arrays: Iterable[Any]) -> list[Any]:
  """Joins the arrays of a model to few pieces of memory, which compare faster.

  An mjModel has all of its arrays in one block, in which nothing but padding
  lies between two of them.
  """
  found = [a for a in arrays if isinstance(a, np.ndarray) and a.size]
  found.sort(key=lambda array: array.ctypes.data)
  spans: list[list[int]] = []
  for array in found:
    begin, end = array.ctypes.data, array.ctypes.data + array.nbytes
    if spans and begin - spans[-1][1] < _ALIGNMENT:
      spans[-1][1] = end
    else:
      spans.append([begin, end])
  return [
    (ctypes.c_char * (end - begin)).from_address(begin) for begin, end in spans
  ]


def _check_storable(fields: dict[str, Any]) -> None:
  for name, value in fields.items():
    try:
      packing.pack(value)
    except (TypeError, RecursionError) as error:
      why = error if isinstance(error, TypeError) else 'it is in itself'
      raise CannotClone(
        f'keeps in .{name} what cannot be stored ({why})'
      ) from error


def _check_separate(fields: dict[str, Any], data: list[np.ndarray]) -> None:
  """Raises CannotClone if a restore would part what is one object."""
  seen: list[tuple[str, Any]] = []
  for name, value in fields.items():
    for part in _parts(value):
      array = isinstance(part, np.ndarray)
      if array and any(np.may_share_memory(part, other) for other in data):
        raise CannotClone(
          f'keeps in .{name} a view of mjData, which a restore would cut off: '
          'read it from .data'
        )
      for other, before in seen:
        if part is before or (
          array
          and isinstance(before, np.ndarray)
          and np.may_share_memory(part, before)
        ):
          kind = 'array' if array else type(part).__name__
          raise CannotClone(
            f'keeps the same {kind} in .{other} and .{name}, which a restore '
            'would make two'
          )
      seen.append((name, part))


def _parts(value: Any) -> Iterator[Any]:
  """Yields the arrays and the containers that can change in nested values."""
  if isinstance(value, np.ndarray | dict | list | collections.deque):
    yield value
  if isinstance(value, dict | list | tuple | collections.deque):
    for part in value.values() if isinstance(value, dict) else value:
      yield from _parts(part)
