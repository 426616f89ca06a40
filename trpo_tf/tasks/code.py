"""Python code of the user's own that a flag names: a file or a module."""

import hashlib
import importlib
import os
import pathlib
import runpy
import traceback
from types import ModuleType
from typing import Any

from trpo_tf.errors import UserError, cause, quoted

__all__ = ['content', 'file_of', 'import_module', 'run_file']


def file_of(name: str) -> str | None:
  """Returns the file in path/to/file.py:NAME; None if there is none."""
  path, _, _ = name.rpartition(':')
  return path if path.endswith('.py') else None


def content(name: str) -> str | None:
  """Returns the SHA-256 of the file that a name says.

  Returns:
    64 hexadecimal digits; '' for a module; None if the file cannot be read.
  """
  path = file_of(name)
  if path is None:
    return ''
  try:
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
  except OSError:
    return None


def run_file(flag: str, path: str) -> dict[str, Any]:
  """Runs a Python file.

  Args:
    flag: what names the file, with which error messages begin.
    path: the file.

  Returns:
    What it defines, by name.

  Raises:
    UserError: there is no such file, or it raised an exception.
  """
  if not os.path.isfile(path):
    raise UserError(f'{flag}: {path}: no such file')
  try:
    return runpy.run_path(path)
  except (UserError, KeyboardInterrupt):
    raise
  except BaseException as error:  # the user's code may raise anything
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f':{f.lineno}' for f in frames if f.filename == path]
    place = path + ''.join(lines[-1:])  # a SyntaxError names its line itself
    raise UserError(f'{flag}: {place}: {quoted(error)}') from error


def import_module(flag: str, module: str) -> ModuleType:
  """Imports a module.

  Args:
    flag: what names the module, with which error messages begin.
    module: its name.

  Raises:
    UserError: it cannot be imported.
  """
  try:
    return importlib.import_module(module)
  except KeyboardInterrupt:
    raise
  except BaseException as error:  # the user's code may raise anything
    hint = ''
    if getattr(error, 'name', None) == module.partition('.')[0]:
      hint = '; add its folder to PYTHONPATH'
    raise UserError(
      f'{flag}: {module} cannot be imported: {cause(error)}{hint}'
    ) from error
