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
"""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
from typing import Any

import numpy as np

from trpo_tf import errors

__all__ = ['Checkpoint', 'load_newest', 'save', 'write_atomically']

_DIGEST_SIZE = hashlib.sha256().digest_size
_ARRAY, _SCALAR = '__array__', '__scalar__'


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """A state read from a file.

  Attributes:
    iteration: number under which it was saved.
    state: the tree of values.
    path: the file.
    damaged: newer files that failed their checksum and were skipped.
  """

  iteration: int
  state: dict[str, Any]
  path: pathlib.Path
  damaged: tuple[pathlib.Path, ...] = ()


def save(
  directory: str | os.PathLike[str],
  iteration: int,
  state: dict[str, Any],
  keep: int,
) -> pathlib.Path:
  """Writes a state atomically and deletes all but the newest `keep`.

  A crash or a full disk at any moment leaves the earlier checkpoints as they
  were. Files of later iterations are deleted too: only damaged ones, which
  `load_newest` skipped, can be ahead of the run that saves.

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
  for partial in directory.glob('iteration_*.npz.tmp'):  # of a killed process
    partial.unlink()
  path = directory / f'iteration_{iteration:08d}.npz'
  write_atomically(path, _encode(state))
  paths = _newest_first(directory)
  current = paths.index(path)
  for stale in paths[:current] + paths[current + keep :]:
    stale.unlink()
  return path


def load_newest(directory: str | os.PathLike[str]) -> Checkpoint | None:
  """Reads the newest intact checkpoint.

  Args:
    directory: directory of the checkpoints.

  Returns:
    The checkpoint, with the damaged files that were skipped, or None if there
    is no checkpoint at all.

  Raises:
    UserError: there are checkpoints, but all are damaged.
  """
  paths = _newest_first(pathlib.Path(directory))
  damaged: list[pathlib.Path] = []
  for path in paths:
    content = path.read_bytes()
    body, digest = content[:-_DIGEST_SIZE], content[-_DIGEST_SIZE:]
    if hashlib.sha256(body).digest() == digest:
      return Checkpoint(_iteration(path), _decode(body), path, tuple(damaged))
    damaged.append(path)
  if damaged:
    raise errors.UserError(
      f'all {len(damaged)} checkpoints in {directory} are damaged: move the '
      'directory of the run away and start again'
    )
  return None


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
    with open(temporary, 'wb') as file:
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


def _iteration(path: pathlib.Path) -> int:
  return int(path.stem.removeprefix('iteration_'))


def _newest_first(directory: pathlib.Path) -> list[pathlib.Path]:
  return sorted(directory.glob('iteration_*.npz'), key=_iteration, reverse=True)


def _encode(state: dict[str, Any]) -> bytes:
  arrays: dict[str, np.ndarray] = {}

  def tree(value: Any, where: str) -> Any:
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
      return {k: tree(v, f'{where}.{k}') for k, v in value.items()}
    if isinstance(value, list):
      return [tree(v, f'{where}[{i}]') for i, v in enumerate(value)]
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

  text = json.dumps(tree(state, 'state')).encode()
  buffer = io.BytesIO()
  np.savez(
    buffer, allow_pickle=False, tree=np.frombuffer(text, np.uint8), **arrays
  )
  body = buffer.getvalue()
  return body + hashlib.sha256(body).digest()


def _decode(body: bytes) -> dict[str, Any]:
  with np.load(io.BytesIO(body), allow_pickle=False) as archive:

    def value(node: dict[str, Any]) -> Any:
      if node.keys() == {_ARRAY}:
        return archive[node[_ARRAY]]
      if node.keys() == {_SCALAR}:
        return archive[node[_SCALAR]][()]
      return node

    return json.loads(archive['tree'].tobytes(), object_hook=value)
