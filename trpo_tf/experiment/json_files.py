"""Reads JSON files that a stranger or an accident may have written.

A TypedDict is the schema of an object: its required keys must be there, and
every key that it names must have the type that it gives. Other keys are kept
and not looked at, as a newer version may have written them.
"""

import json
import math
import os
import pathlib
import types
import typing
import unicodedata
from typing import Any, TypeVar

from trpo_tf.errors import UserError

__all__ = ['checked', 'has_type', 'is_text', 'read']

_Schema = TypeVar('_Schema')
_NAMES = {
  str: 'a text',
  int: 'an integer',
  float: 'a finite number',
  bool: 'true or false',
  dict: 'an object',
  list: 'a list',
  type(None): 'null',
}


def read(path: str | os.PathLike[str], remedy: str) -> Any:
  """Reads a JSON file.

  Args:
    path: the file.
    remedy: what to do if it is damaged, for the error.

  Returns:
    The value.

  Raises:
    UserError: the file is not JSON.
    FileNotFoundError: there is no such file.
  """
  try:
    return json.loads(pathlib.Path(path).read_bytes())
  except RecursionError:
    what = 'values are nested too deeply'
  except UnicodeDecodeError:
    what = 'it is no text'
  except ValueError as error:
    what = str(error)
  raise UserError(f'{path} is not JSON ({what}): {remedy}')


def checked(
  value: Any, schema: type[_Schema], path: str | os.PathLike[str], remedy: str
) -> _Schema:
  """Checks a value that was read against a schema.

  Args:
    value: the value.
    schema: a TypedDict of str, int, float, bool, None, Any, dict and list,
      unions of one of these with None, and further TypedDicts.
    path: the file, for the error.
    remedy: what to do if the value is wrong, for the error.

  Returns:
    The same value.

  Raises:
    UserError: a field is missing or has another type.
  """
  try:
    _check(value, schema, '')
  except ValueError as error:
    raise UserError(f'{path}: {error}: {remedy}') from None
  return value


def is_text(value: Any) -> bool:
  """Returns whether a value is a string without control characters."""
  return isinstance(value, str) and not any(
    unicodedata.category(c) in ('Cc', 'Cs') for c in value
  )


def _check(value: Any, kind: Any, where: str) -> None:
  """Raises ValueError unless a value has a type; where: its field."""
  if isinstance(kind, types.UnionType):  # of a type and None
    (kind,) = (k for k in typing.get_args(kind) if k is not type(None))
    if value is not None:
      _check(value, kind, where)
    return
  if kind is Any:
    return
  if typing.is_typeddict(kind):
    _check(value, dict, where)
    hints = typing.get_type_hints(kind)
    for name in sorted(kind.__required_keys__ - value.keys()):
      raise ValueError(f'{_join(where, name)} is missing')
    for name in hints.keys() & value.keys():
      _check(value[name], hints[name], _join(where, name))
    return
  outer, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
  if not has_type(value, outer):
    field = where or 'the whole'
    raise ValueError(f'{field} is not {_NAMES[outer]}')
  if outer is list and inner:
    for number, item in enumerate(value):
      _check(item, inner[0], f'{where}[{number}]')
  if outer is dict and inner:
    for name, item in value.items():
      _check(item, inner[1], _join(where, name))


def has_type(value: Any, kind: type) -> bool:
  """Returns whether a value from JSON is one of a Python type.

  Args:
    value: the value.
    kind: str, int (of 64 bits), float (a finite number), bool, dict or list.
  """
  if kind is float and type(value) is int:
    return abs(value) < 2**63
  if kind is float:
    return type(value) is float and math.isfinite(value)
  if kind is int:
    return type(value) is int and abs(value) < 2**63
  return type(value) is kind


def _join(where: str, name: str) -> str:
  return f'{where}.{name}' if where else name
