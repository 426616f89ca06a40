"""Starts Python programs that see the modules of this process and no others.

`python -m` looks for modules in the working directory first, which may be a
run directory of a stranger. A console script does not, so neither may what it
starts.
"""

import os
import sys

__all__ = ['command', 'environment']


def command(*arguments: str) -> list[str]:
  """Returns a command of the Python interpreter.

  Args:
    *arguments: of the interpreter, such as '-m' and a module.
  """
  return [sys.executable, '-P', *arguments]


def environment(**values: str) -> dict[str, str]:
  """Returns this process's environment with its module search path.

  Args:
    **values: further variables.
  """
  return os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)} | values
