"""Settings as the text of flags and of an absl flagfile."""

from typing import Any

from trpo_tf import config as config_lib
from trpo_tf.errors import UserError

__all__ = ['flag_text', 'flagfile']


def flagfile(config: config_lib.ExperimentConfig) -> str:
  """Writes all settings as an absl flagfile.

  Args:
    config: the settings.

  Returns:
    The text, which parses to the same settings.

  Raises:
    UserError: a string that a line of a flagfile cannot hold.
  """
  lines = [
    '# All settings of this run. To repeat it:',
    '#   python -m trpo_tf.bin.train --flagfile=THIS_FILE --run_dir=NEW_DIR',
  ]
  for name, value in config_lib.settings(config).items():
    line = f'--{name}={flag_text(value)}'
    try:
      line.encode()
    except UnicodeEncodeError:
      raise UserError(f'--{name}={value!r}: write it in UTF-8') from None
    if line != line.rstrip() or len(line.splitlines()) != 1:
      raise UserError(
        f'--{name}={value!r}: no line breaks, and no spaces at the end'
      )
    lines.append(line)
  return '\n'.join(lines) + '\n'


def flag_text(value: Any) -> str:
  """Formats the value of a setting for a flag, such as true, 64,64 or 0.01."""
  if isinstance(value, bool):
    return str(value).lower()
  if isinstance(value, tuple):
    return ','.join(map(str, value))
  return str(value)
