"""Clones Gymnasium's MuJoCo environments, an mjData by its bytes.

MuJoCo's Python package copies an mjData (mj_copyData) but gives its bytes only
in a pickle that holds the model as well; for Hopper, that is 680 KB and takes
1.4 ms to read. This module therefore reads and writes the memory itself, by the
struct layout that the same wheel publishes in mujoco.introspect. It reads what
mj_copyData copies: the fields of the struct, the buffer, the used part of the
arena (contacts and constraints) and where in it the arrays begin. It leaves out
the solver's per-iteration statistics and the timers, which nothing computes
with.
"""

import ctypes
import functools
import hashlib
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from mujoco.introspect import ast_nodes, structs

from trpo_tf.cloning import packing
from trpo_tf.errors import UserError

__all__ = ['DataMemory', 'MujocoBase']

_SCALARS = {
  'int': ctypes.c_int,
  'mjtBool': ctypes.c_bool,
  'mjtNum': ctypes.c_double,
  'mjtSize': ctypes.c_int64,
  'size_t': ctypes.c_size_t,
  'uint64_t': ctypes.c_uint64,
  'uintptr_t': ctypes.c_size_t,
}
# The first and last field of each run of fields that is copied.
_RUNS = (
  ('parena', 'parena'),
  ('maxuse_stack', 'maxuse_efc'),
  ('solver_niter', 'warning'),
  ('ncon', 'energy'),
)


def _ctype(node: Any) -> Any:
  if isinstance(node, ast_nodes.PointerType):
    return ctypes.c_void_p
  if isinstance(node, ast_nodes.ArrayType):
    size = int(np.prod(node.extents))
    return _ctype(node.inner_type) * size
  return _SCALARS.get(node.name) or _struct(node.name)


@functools.cache
def _struct(name: str) -> Any:
  fields = [(f.name, _ctype(f.type)) for f in structs.STRUCTS[name].fields]
  return type(name, (ctypes.Structure,), {'_fields_': fields})


def _memory(address: int, size: int) -> memoryview:
  return memoryview((ctypes.c_char * size).from_address(address)).cast('B')


class DataMemory:
  """The memory of one mjData."""

  def __init__(self, data: mujoco.MjData):
    """Finds the memory.

    Args:
      data: the mjData, which the caller keeps alive for as long as this is
        used.

    Raises:
      UserError: MuJoCo lays its memory out in an unexpected way.
    """
    layout = _struct('mjData')
    self._struct = layout.from_address(data._address)
    self._check_layout(data)
    start, end = layout.qpos.offset, layout.signature.offset
    self._runs = [
      _memory(
        data._address + getattr(layout, first).offset,
        getattr(layout, last).offset
        + getattr(layout, last).size
        - getattr(layout, first).offset,
      )
      for first, last in _RUNS
    ]
    self._pointers = np.frombuffer(
      _memory(data._address + start, end - start), np.uint64
    )
    self._buffer = _memory(self._struct.buffer, data.nbuffer)
    self._arena = _memory(self._struct.arena, data.narena)

  def _check_layout(self, data: mujoco.MjData) -> None:
    # These include the last scalar before the pointers, the first pointer and
    # the last field.
    if (
      self._struct.narena != data.narena
      or self._struct.nbuffer != data.nbuffer
      or self._struct.time != data.time
      or self._struct.qpos != data.qpos.ctypes.data
      or self._struct.signature != data.signature
    ):
      raise UserError(
        f'the layout of mjData in MuJoCo {mujoco.__version__} is not the one '
        'in its mujoco.introspect: install the version in constraints.txt'
      )

  def save(self) -> bytes:
    """Returns the state, which restores any mjData of the same model."""
    arena = np.uint64(self._struct.arena)
    offsets = self._pointers - arena
    is_null = self._pointers == 0
    # -2 marks a pointer into the buffer, which no restore changes; -1 is null.
    offsets[offsets >= np.uint64(len(self._arena))] = np.uint64(2**64 - 2)
    offsets[is_null] = np.uint64(2**64 - 1)
    return b''.join(
      (
        *self._runs,
        offsets.astype(np.int64).astype(np.int32).data,
        self._buffer,
        self._arena[: self._struct.parena],
      )
    )

  def load(self, state: bytes) -> None:
    """Puts the mjData into the saved `state`.

    Raises:
      ValueError: the state's size is not the one that its own fields imply.
    """
    view, at = memoryview(state), 0
    parts = [
      *self._runs,
      memoryview(bytearray(4 * self._pointers.size)),
      self._buffer,
    ]
    size = sum(len(part) for part in parts)
    used = int.from_bytes(view[: len(self._runs[0])], 'little')
    if len(view) != size + used or used > len(self._arena):
      raise ValueError(f'an mjData of {len(view)} bytes, not {size + used}')
    for part in parts:
      part[:] = view[at : at + len(part)]
      at += len(part)
    self._arena[:used] = view[at:]
    offsets = np.frombuffer(parts[-2], np.int32)
    inside = offsets >= 0
    self._pointers[inside] = np.uint64(self._struct.arena) + offsets[
      inside
    ].astype(np.uint64)
    self._pointers[offsets == -1] = 0


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


class MujocoBase:
  """The state of a Gymnasium MuJoCo environment without its wrappers.

  The state is the mjData and every attribute of the Python object that holds
  plain data. The model must not change after the constructor.
  """

  kind = 'mujoco'
  version = f'mujoco {mujoco.__version__}, gymnasium {gymnasium.__version__}'

  def __init__(self, env: MujocoEnv):
    """Prepares the environment's mjData for cloning.

    Raises:
      ValueError: the environment cannot be cloned; the message is a predicate
        of which its class is the subject.
    """
    if env.model.nplugin:  # opaque pointers
      raise ValueError('has a model with plugins, whose memory is their own')
    self._env = env
    self._attach()
    _check_storable(self._fields())
    image = np.empty(mujoco.mj_sizeModel(env.model), np.uint8)
    mujoco.mj_saveModel(env.model, None, image)
    self.model = hashlib.sha256(image.data).hexdigest()

  def _attach(self) -> None:
    self._data = self._env.data
    self._memory = DataMemory(self._data)

  def _fields(self) -> dict[str, Any]:
    return {k: v for k, v in vars(self._env).items() if k not in _INERT}

  def save(self) -> Any:
    """Returns the state as plain data."""
    if self._env.data is not self._data:
      self._attach()
    return self._fields(), self._memory.save()

  def load(self, state: Any) -> None:
    """Restores what `save` returned."""
    fields, data = state
    if self._env.data is not self._data:
      self._attach()
    self._memory.load(data)
    for name in self._fields().keys() - fields.keys():
      delattr(self._env, name)
    vars(self._env).update(fields)


def _check_storable(fields: dict[str, Any]) -> None:
  for name, value in fields.items():
    try:
      packing.pack(value)
    except TypeError as error:
      raise ValueError(
        f'keeps in .{name} what cannot be stored ({error})'
      ) from error
