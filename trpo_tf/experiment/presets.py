"""Presets: the flagfiles of configs/, which are installed with the package."""

import difflib
import functools
import pathlib
from collections.abc import Mapping

from trpo_tf.errors import UserError

__all__ = ['arguments', 'listed']

_INCLUDE = '--flagfile=configs/'


def arguments(names: str) -> list[str]:
  """Lists the flags of presets.

  Args:
    names: names with commas between, such as 'v5/hopper,v5/vine_short'; later
      presets override earlier ones. '' names none.

  Returns:
    Arguments of the program train.

  Raises:
    UserError: there is no such preset.
  """
  return [
    line
    for name in names.split(',')
    if name.strip()
    for line in _flags(name.strip())
  ]


def listed() -> Mapping[str, str]:
  """Returns the presets: what the first sentence of each says, by name."""
  found = {}
  for name, path in _paths().items():
    lines = path.read_text().splitlines()
    text = ' '.join(x.lstrip('# ') for x in lines if x.startswith('#'))
    found[name] = text.partition('. ')[0].rstrip('.')
  return found


def _flags(name: str) -> list[str]:
  paths = _paths()
  if name not in paths:
    close = difflib.get_close_matches(name, paths, 1)
    hint = f'did you mean {close[0]}? ' if close else ''
    raise UserError(
      f'--preset={name}: no such preset; {hint}train --list_presets '
      'lists them all'
    )
  found = []
  for line in paths[name].read_text().splitlines():
    if line.startswith(_INCLUDE):
      included = line.removeprefix(_INCLUDE).removesuffix('.flags')
      found += _flags(included)
    elif line.startswith('--'):
      found.append(line)
  return found


@functools.cache
def _paths() -> dict[str, pathlib.Path]:
  """Returns the files of the presets by name, in order."""
  package = pathlib.Path(__file__).parents[1]
  folders = package / 'configs', package.parent / 'configs'  # in a checkout
  folder = next((f for f in folders if f.is_dir()), folders[0])
  return {
    path.relative_to(folder).with_suffix('').as_posix(): path
    for path in sorted(folder.rglob('*.flags'))
  }
