"""Checkpoints: the whole training state as one file, atomic and checksummed.

A state is a tree of plain values: nested dicts (string keys) and lists of
NumPy arrays and scalars, ints, floats, strings, bools and None. It comes back
bit for bit, with the same types.

tf.train.Checkpoint is not used: the state holds no TensorFlow variables (theta
is one flat array), and a TensorFlow checkpoint consists of an index and data
files, which no single rename can put in place.

A file is an .npz archive (the arrays, and the tree as JSON in the member
`tree`), followed by the SHA-256 of all bytes before it; `numpy.load` reads such
a file unchanged. It is written under another name, flushed to the disk and
renamed.

Every other name in the directory is somebody else's file: it is never read and
never deleted.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import re
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from trpo_tf import errors

__all__ = [
  'Checkpoint',
  'Damage',
  'load',
  'load_newest',
  'newest',
  'newest_iteration',
  'save',
  'write',
  'write_atomically',
]

_DIGEST_SIZE = hashlib.sha256().digest_size
_TRIES = 5  # to read a directory whose files a running training replaces
_ARRAY, _SCALAR = '__array__', '__scalar__'


class Damage(NamedTuple):
  """A checkpoint that was skipped, and why."""

  path: pathlib.Path
  reason: str

  def __str__(self) -> str:
    return f'{self.path.name} cannot be used ({self.reason})'


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """A state read from a file.

  Attributes:
    iteration: number under which it was saved.
    state: the tree of values.
    path: the file.
    damaged: newer files that were skipped, as they are damaged or do not fit.
  """

  iteration: int
  state: dict[str, Any]
  path: pathlib.Path
  damaged: tuple[Damage, ...] = ()


def save(
  directory: str | os.PathLike[str],
  iteration: int,
  state: dict[str, Any],
  keep: int,
) -> pathlib.Path:
  """Writes a state atomically and deletes all but the newest `keep`.

  A crash or a full disk at any moment leaves the earlier checkpoints as they
  were. Checkpoints of later iterations are deleted too: only those that
  `load_newest` skipped can be ahead of the run that saves.

  Args:
    directory: directory of the checkpoints; created if it is missing.
    iteration: number of the last finished iteration.
    state: the tree of values.
    keep: number of checkpoints to keep, including this one; at least 1.

  Returns:
    The path of the new checkpoint.

  Raises:
    ValueError: a value of a kind that a state cannot hold, or keep < 1.
    OSError: the file could not be written; no partial file is left.
  """
  if keep < 1:
    raise ValueError(f'keep={keep} checkpoints, need at least 1')
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  for partial in _own(directory, '.tmp'):  # of a killed process
    partial.unlink()
  path = directory / f'iteration_{iteration:08d}.npz'
  write(path, state)
  paths = _newest_first(directory)
  current = paths.index(path)
  for stale in paths[:current] + paths[current + keep :]:
    stale.unlink()
  return path


def load_newest(
  directory: str | os.PathLike[str],
  accept: Callable[[Checkpoint], None] | None = None,
) -> Checkpoint | None:
  """Reads the newest checkpoint that can be used.

  Args:
    directory: directory of the checkpoints.
    accept: raises ValueError, of which UserError is one, for a state that is
      whole but does not fit; it is then skipped like a damaged one. It may also
      take the state over. TaskError, which says nothing about the state, is not
      caught. None: any state will do.

  Returns:
    The checkpoint, with the newer ones that were skipped, or None if there is
    no checkpoint at all.

  Raises:
    UserError: there are checkpoints, but none can be used.
  """
  for _ in range(_TRIES):
    with contextlib.suppress(_DeletedError):
      if found := _load_newest(pathlib.Path(directory), accept):
        return found
  return None


class _DeletedError(Exception):
  """A running training deleted a file after its directory was listed."""


def _load_newest(
  directory: pathlib.Path, accept: Callable[[Checkpoint], None] | None
) -> Checkpoint | None:
  damaged: list[Damage] = []
  for path in _newest_first(directory):
    try:
      try:
        state = _read(path)
      except FileNotFoundError as error:
        raise _DeletedError from error
      saved = Checkpoint(_iteration(path), state, path, tuple(damaged))
      if state.get('iteration', saved.iteration) != saved.iteration:
        raise ValueError(f'it holds iteration {state["iteration"]}')
      if accept:
        accept(saved)
    except errors.TaskError:
      raise
    except ValueError as error:
      damaged.append(Damage(path, ' '.join(str(error).split())))
    else:
      return saved
  if damaged:
    raise errors.UserError(
      f'none of the {len(damaged)} checkpoints in {directory} can be used: the '
      f'newest, {damaged[0]}: put a copy back, or begin anew in another '
      'directory'
    )
  return None


def write(path: pathlib.Path, state: dict[str, Any]) -> None:
  """Writes a state atomically to a file of any name.

  Args:
    path: the file.
    state: the tree of values.

  Raises:
    ValueError: a value of a kind that a state cannot hold.
    OSError: the file could not be written; the old file is unchanged.
  """
  write_atomically(path, _encode(state))


def load(
  path: pathlib.Path, accept: Callable[[Checkpoint], None] | None = None
) -> Checkpoint:
  """Reads one checkpoint.

  Args:
    path: the file.
    accept: raises ValueError for a state that does not fit; see `load_newest`.

  Raises:
    UserError: there is no such file, or it cannot be used.
  """
  try:
    state = _read(path)
    saved = Checkpoint(state.get('iteration', 0), state, path)
    if accept:
      accept(saved)
  except (FileNotFoundError, IsADirectoryError):
    raise errors.UserError(f'there is no checkpoint {path}') from None
  except ValueError as error:
    damage = Damage(path, ' '.join(str(error).split()))
    raise errors.UserError(f'{damage}: choose another checkpoint') from None
  return saved


def newest(directory: str | os.PathLike[str]) -> pathlib.Path | None:
  """Returns the newest checkpoint, by its name; None if there is none."""
  return next(iter(_newest_first(pathlib.Path(directory))), None)


def newest_iteration(directory: str | os.PathLike[str]) -> int:
  """Returns the iteration of the newest checkpoint, by its name; 0 if none."""
  path = newest(directory)
  return _iteration(path) if path else 0


def write_atomically(path: pathlib.Path, content: bytes) -> None:
  """Replaces a file so that a reader or a crash sees the old or the new one.

  Args:
    path: the file; `path` + '.tmp' is used meanwhile.
    content: all of its new bytes.

  Raises:
    OSError: the file could not be written; the old file is unchanged and no
      partial file is left.
  """
  temporary = path.with_name(path.name + '.tmp')
  try:
    with errors.naming(path), open(temporary, 'wb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise
  # The rename is on the disk only after its directory is flushed too.
  descriptor = os.open(path.parent, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def _read(path: pathlib.Path) -> dict[str, Any]:
  return _decode(_verified(path.read_bytes()))


def _iteration(path: pathlib.Path) -> int:
  return int(path.stem.removeprefix('iteration_'))


def _own(directory: pathlib.Path, end: str = '') -> list[pathlib.Path]:
  """Lists the files with names of `save`, followed by `end`."""
  name = re.compile(rf'iteration_([0-9]{{8}}|[1-9][0-9]{{8,17}})\.npz{end}')
  return [
    path
    for path in directory.glob('iteration_*')
    if name.fullmatch(path.name) and path.is_file()
  ]


def _newest_first(directory: pathlib.Path) -> list[pathlib.Path]:
  return sorted(_own(directory), key=_iteration, reverse=True)


def _encode(state: dict[str, Any]) -> bytes:
  arrays: dict[str, np.ndarray] = {}
  text = json.dumps(_plain(state, 'state', arrays)).encode()
  buffer = io.BytesIO()
  np.savez(
    buffer, allow_pickle=False, tree=np.frombuffer(text, np.uint8), **arrays
  )
  body = buffer.getvalue()
  return body + hashlib.sha256(body).digest()


def _plain(value: Any, where: str, arrays: dict[str, np.ndarray]) -> Any:
  """Returns a value with names in the place of arrays, which join `arrays`."""
  if isinstance(value, dict) and all(isinstance(k, str) for k in value):
    return {k: _plain(v, f'{where}.{k}', arrays) for k, v in value.items()}
  if isinstance(value, list):
    return [_plain(v, f'{where}[{i}]', arrays) for i, v in enumerate(value)]
  if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
    name = f'array_{len(arrays)}'
    # Row-major always, so that equal states are equal files.
    arrays[name] = np.asarray(value, order='C')
    return {_ARRAY if isinstance(value, np.ndarray) else _SCALAR: name}
  if value is None or isinstance(value, bool | int | float | str):
    return value
  raise ValueError(
    f'{where} is a {type(value).__name__}: a checkpoint holds dicts with '
    'string keys, lists, arrays, numbers, strings, bools and None'
  )


def _verified(content: bytes) -> bytes:
  """Returns the archive of a file whose checksum is right."""
  body, digest = content[:-_DIGEST_SIZE], content[-_DIGEST_SIZE:]
  if hashlib.sha256(body).digest() != digest:
    raise ValueError('its checksum is wrong')
  return body


def _decode(body: bytes) -> dict[str, Any]:
  """Returns the state in an archive; raises ValueError if it holds none."""
  try:
    state = _tree(body)
  except Exception as error:  # of NumPy, zipfile or json: anybody can make one
    kind = type(error).__name__
    raise ValueError(f'it holds no state: {kind}: {error}') from error
  if not isinstance(state, dict):
    raise ValueError('it holds no state: not a dict')
  return state


def _tree(body: bytes) -> Any:
  with zipfile.ZipFile(io.BytesIO(body)) as file:
    if any(member.file_size > len(body) for member in file.infolist()):
      raise ValueError('compressed')  # it could fill the memory
  with np.load(io.BytesIO(body), allow_pickle=False) as archive:

    def value(node: dict[str, Any]) -> Any:
      if node.keys() == {_ARRAY}:
        return archive[node[_ARRAY]]
      if node.keys() == {_SCALAR}:
        return archive[node[_SCALAR]][()]
      return node

    return json.loads(archive['tree'].tobytes(), object_hook=value)
