"""The number of threads and processes, within what the machine can use."""

import os

from trpo_tf.errors import UserError

__all__ = ['available_cores', 'thread_count']

# More threads than this on each core only take memory.
_PER_CORE = 16


def available_cores() -> int:
  """Returns the number of cores that this process may use."""
  return len(os.sched_getaffinity(0))


def thread_count(flag: str, threads: int) -> int:
  """Returns the number of threads that a flag asks for.

  The bound depends on the machine, so it is checked where threads are started
  and not among the settings: a run directory can move to another machine.

  Args:
    flag: name of the flag, such as '--sampler_threads'.
    threads: its value; 0: one thread per available core.

  Raises:
    UserError: there are many more threads than cores.
  """
  cores = available_cores()
  if threads > _PER_CORE * cores:
    raise UserError(
      f'{flag}={threads} is too many for {cores} core{"s" * (cores > 1)}: take '
      f'at most {_PER_CORE * cores}, or 0 for one per core'
    )
  return threads or cores
