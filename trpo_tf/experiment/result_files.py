"""Files of results: JSON, and a check that they can be written."""

import json
import math
import os
import pathlib
from typing import Any

from trpo_tf.errors import UserError
from trpo_tf.experiment import checkpoint

__all__ = ['require_json', 'require_writable', 'write_json']


def require_json(path: str) -> pathlib.Path:
  """Checks --json before the work that the numbers take.

  Args:
    path: its value.

  Returns:
    The path, whose directory is there.

  Raises:
    UserError: it does not end in .json.
    OSError: it cannot be written.
  """
  if not path.endswith('.json'):
    raise UserError(f'--json={path}: end it in .json')
  require_writable(path)
  return pathlib.Path(path)


def require_writable(path: str | os.PathLike[str]) -> None:
  """Checks that a file can be written, before the work that it takes.

  Args:
    path: the file, which is left as it is; its directory is made.

  Raises:
    OSError: it cannot be written.
  """
  file = pathlib.Path(os.path.realpath(path))  # a link to nothing stays
  file.parent.mkdir(parents=True, exist_ok=True)
  is_new = not file.exists()
  with open(file, 'ab'):
    pass
  if is_new:
    file.unlink()


def write_json(path: str | os.PathLike[str], value: Any) -> None:
  """Writes results atomically; a number that is not finite becomes null.

  Args:
    path: the file; its directory is made.
    value: dicts, lists, tuples, numbers, strings, bools and None.

  Raises:
    OSError: it cannot be written; an older file is as it was.
  """
  file = pathlib.Path(path)
  file.parent.mkdir(parents=True, exist_ok=True)
  text = json.dumps(_finite(value), indent=2, allow_nan=False) + '\n'
  checkpoint.write_atomically(file, text.encode())


def _finite(value: Any) -> Any:
  if isinstance(value, dict):
    return {name: _finite(item) for name, item in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
