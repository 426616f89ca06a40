"""The console scripts: trpo-train is `python -m trpo_tf.bin.train`, and so on.

pyproject.toml lists them.
"""

import functools
import runpy
import signal
from collections.abc import Callable


def __getattr__(name: str) -> Callable[[], None]:
  """Returns the function that runs a program."""
  if name.startswith('_'):
    raise AttributeError(name)
  return functools.partial(_run, f'trpo_tf.bin.{name}')


def _run(module: str) -> None:
  # as in trpo_tf.bin, which does not know that a program starts
  signal.signal(signal.SIGINT, signal.SIG_DFL)
  runpy.run_module(module, run_name='__main__', alter_sys=True)
