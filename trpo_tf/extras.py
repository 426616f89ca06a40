"""Packages that only some commands need, and the extras that install them."""

import importlib
import importlib.util
from typing import Any, NoReturn

from trpo_tf.errors import UserError

__all__ = ['optional', 'require']


def optional(package: str, extra: str) -> Any:
  """Imports a package of an extra.

  Args:
    package: name of the module.
    extra: the extra that installs it.

  Returns:
    The module; a stand-in if it is not installed, which is false and raises
    UserError where it is used.
  """
  if _installed(package):
    return importlib.import_module(package)
  return _Missing(package, extra)


def require(package: str, extra: str, user: str) -> None:
  """Raises UserError if a package of an extra is not installed.

  Args:
    package: name of the module.
    extra: the extra that installs it.
    user: what needs it, such as a flag.
  """
  if not _installed(package):
    _refuse(package, extra, user)


def _installed(package: str) -> bool:
  return importlib.util.find_spec(package.partition('.')[0]) is not None


def _refuse(package: str, extra: str, user: str) -> NoReturn:
  raise UserError(
    f"{user} needs the package {package}: pip install 'trpo_tf[{extra}]'"
  )


class _Missing:
  def __init__(self, package: str, extra: str):
    self._package, self._extra = package, extra

  def __bool__(self) -> bool:
    return False

  def __getattr__(self, name: str) -> NoReturn:
    if name.startswith('__'):  # as Python itself asks for
      raise AttributeError(name)
    _refuse(self._package, self._extra, f'{self._package}.{name}')
