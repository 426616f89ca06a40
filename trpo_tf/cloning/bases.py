"""What is inside the wrappers of a cloner: environments without them."""

import importlib.metadata
from typing import Any, Protocol

import gymnasium

__all__ = ['Base', 'FieldsBase', 'OwnBase', 'class_path']


class Base(Protocol):
  """Saves and loads an environment without its wrappers, as plain data."""

  kind: str
  version: str
  model: str

  def save(self) -> Any:
    """Returns the state."""

  def load(self, state: Any) -> None:
    """Restores what `save` returned."""


class OwnBase:
  """An environment or wrapper that clones itself and all that it wraps."""

  kind, model = 'environment', ''

  def __init__(self, env: Any):
    """Keeps the environment.

    Args:
      env: the environment, or a wrapper, with snapshot() and restore().
    """
    self._env = env
    package = type(env).__module__.partition('.')[0]
    try:
      version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      version = getattr(type(env), '__version__', 'unversioned')
    self.version = f'{class_path(env)} {version}'

  def save(self) -> bytes:
    """Returns what the environment's own method gives."""
    return self._env.snapshot()

  def load(self, state: bytes) -> None:
    """Restores what `save` returned."""
    self._env.restore(state)


class FieldsBase:
  """An environment whose state is known attributes of plain data."""

  kind, model = 'gymnasium', ''
  version = f'gymnasium {gymnasium.__version__}'

  def __init__(self, env: gymnasium.Env, names: tuple[str, ...]):
    """Keeps the environment.

    Args:
      env: the environment without wrappers.
      names: its attributes that are its state.
    """
    self._env, self._names = env, names

  def save(self) -> list[Any]:
    """Returns the attributes."""
    return [getattr(self._env, name) for name in self._names]

  def load(self, state: list[Any]) -> None:
    """Restores what `save` returned."""
    for name, value in zip(self._names, state, strict=True):
      setattr(self._env, name, value)


def class_path(env: Any) -> str:
  """Returns the module and the name of an object's class."""
  return f'{type(env).__module__}.{type(env).__qualname__}'
