"""Environments in worker processes, stepped by Gymnasium's AsyncVectorEnv.

Each process has a Group of slots. Seeds and actions come from the sampler, so
results are those of one process.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import connection, resource_tracker, util
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.utils import CloudpickleWrapper

from trpo_tf.errors import TaskError, UserError, cause, quoted
from trpo_tf.sampling.gym.group import (
  STOPS,
  Fault,
  Group,
  make_registered,
  serve,
)

__all__ = ['Workers']

_PATIENCE = 10.0  # seconds in which a process must end once disconnected


class _Remote(gymnasium.Env):
  """The environment of a slot, which a worker process holds."""

  def __init__(self, workers: 'Workers', slot: int):
    self._workers, self._slot = workers, slot

  def reset(self, *, seed=None, options=None):
    """Returns what `Workers.reset` found, or resets this slot alone."""
    del options
    assert seed is not None
    return self._workers.take(
      self._slot, lambda: self._workers.reset({self._slot: seed})
    )

  def step(self, action):
    """Returns what `Workers.step` found, or steps this slot alone."""
    return self._workers.take(
      self._slot, lambda: self._workers.step({self._slot: action})
    )


class Workers:
  """Processes that hold the environments of all slots."""

  def __init__(
    self,
    task: str,
    make: Callable[[], gymnasium.Env],
    row: spaces.Box,
    actions: gymnasium.Space,
    slots: int,
    processes: int,
  ):
    """Starts the processes.

    Args:
      task: the task's id.
      make: makes an environment; it can be pickled.
      row: space of an observation, as the sampler keeps it.
      actions: action space of an environment.
      slots: number S of slots.
      processes: number of processes; results do not depend on it.

    Raises:
      UserError: an environment cannot be made or sent, or a process ended.
    """
    self._task, self._actions = task, actions
    size = -(-slots // processes)
    self._shape = -(-slots // size), size
    make = functools.partial(
      make_registered, gymnasium.registry.get(task), make
    )
    _check_pickle(task, make)
    self._found: dict[int, Any] = {}
    groups = [
      functools.partial(
        Group, make, min(size, slots - s), row, actions, size, os.getpid()
      )
      for s in range(0, slots, size)
    ]
    with self._watched(), _starting():
      self._vector = AsyncVectorEnv(
        groups,
        copy=False,
        context='spawn',  # a fork would copy the locks of TensorFlow's threads
        worker=serve,
        autoreset_mode=AutoresetMode.DISABLED,
      )
    # multiprocessing ends daemons by a signal that the workers ignore
    self.close = util.Finalize(self, _end, (self._vector,), exitpriority=1)
    rows = self._vector.observations
    self._rows = rows.reshape(-1, *rows.shape[2:])
    with self._watched():
      faults = self._vector.get_attr('fault')
    for fault in filter(None, faults):
      self.close()
      raise UserError(fault.line) from fault.error()

  @property
  def process_ids(self) -> list[int]:
    """Process ids of the workers."""
    return [p.pid for p in self._vector.processes if p.pid]

  def env(self, slot: int) -> gymnasium.Env:
    """Returns the environment of a slot, which returns what was found there."""
    return _Remote(self, slot)

  def reset(self, seeds: Mapping[int, int]) -> None:
    """Resets some slots; their environments then return what it gave.

    Args:
      seeds: seeds by slot.
    """
    each = np.full(self._shape, None, object)
    each.flat[[*seeds]] = [*seeds.values()]
    handed_on: Any = each.tolist()  # to each group its list
    with self._watched():
      _, found = self._vector.reset(seed=handed_on)
    self._keep({slot: (self._rows[slot], {}) for slot in seeds}, found)

  def step(self, actions: Mapping[int, np.ndarray]) -> None:
    """Steps some slots; their environments then return what it gave.

    Args:
      actions: actions by slot, in the environment's own form.
    """
    space, chosen = self._actions, np.zeros(self._shape, bool)
    sent = np.zeros((*self._shape, *(space.shape or ())), space.dtype)
    for slot, action in actions.items():
      where = divmod(slot, self._shape[1])
      chosen[where], sent[where] = True, action
    with self._watched():
      _, *results, found = self._vector.step((chosen, sent))
    rewards, terminated, truncated = (column.ravel() for column in results)
    self._keep(
      {
        s: (self._rows[s], rewards[s], terminated[s], truncated[s], {})
        for s in actions
      },
      found,
    )

  def take(self, slot: int, find: Callable[[], None]) -> Any:
    """Returns what was found for a slot, once; raises what was raised.

    Args:
      slot: number of the slot.
      find: finds it, if nothing was found yet.
    """
    if slot not in self._found:
      find()
    found = self._found.pop(slot)
    if isinstance(found, Fault):
      raise found.error()
    return found

  def _keep(self, found: dict[int, Any], infos: dict[str, Any]) -> None:
    self._found = found
    for group, faults in enumerate(infos['faults']):
      first = group * self._shape[1]
      self._found |= {first + fault.slot: fault for fault in faults}

  @contextlib.contextmanager
  def _watched(self) -> Iterator[None]:
    """Turns the end of a worker into a line that says how it ended."""
    try:
      yield
    except (EOFError, OSError) as error:
      processes = self._vector.processes if hasattr(self, '_vector') else []
      how = _death(processes) or f'a worker process ended ({quoted(error)})'
      raise TaskError(
        f'--task={self._task}: {how}; if memory was short, take a smaller '
        '--env_workers; the same command continues'
      ) from error


def _check_pickle(task: str, make: Callable[[], gymnasium.Env]) -> None:
  """Raises UserError if AsyncVectorEnv cannot send `make` to a process."""
  try:
    CloudpickleWrapper(make).__getstate__()
  except Exception as error:
    raise UserError(
      f'--env_workers: --task={task} cannot be sent to a process '
      f'({cause(error)}): register it in a module, --task=module:Id-v0'
    ) from error


def _death(processes: Sequence[Any]) -> str:
  """Says which process has ended, and how; '' if none does."""
  ended = connection.wait([p.sentinel for p in processes], _PATIENCE)
  for process in processes:
    if process.sentinel in ended:
      process.join()
      code = process.exitcode
      how = (
        f'was killed by {signal.Signals(-code).name}'
        if code < 0
        else f'exited with code {code}'
      )
      return f'worker process {process.pid} {how}'
  return ''


@contextlib.contextmanager
def _starting() -> Iterator[None]:
  """Starts processes without the program, and leaves none if that fails.

  A process of multiprocessing imports the program that started it, and with it
  TensorFlow. It also looks for modules in the working directory first. Until it
  serves, Ctrl-C would end it, so the signals wait.
  """
  resource_tracker.ensure_running()  # whose start would unblock the signals
  before = set(multiprocessing.active_children())
  program = sys.modules['__main__']
  sys.modules['__main__'] = types.ModuleType('__main__')
  safe = os.environ.get('PYTHONSAFEPATH')
  os.environ['PYTHONSAFEPATH'] = '1'
  mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # children inherit it
  try:
    yield
  except BaseException:
    for process in set(multiprocessing.active_children()) - before:
      process.kill()
      process.join()
    raise
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    sys.modules['__main__'] = program
    if safe is None:
      del os.environ['PYTHONSAFEPATH']
    else:
      os.environ['PYTHONSAFEPATH'] = safe


def _end(vector: AsyncVectorEnv) -> None:
  """Ends the processes: they are disconnected, and killed if they go on."""
  vector.closed = True  # its own end would wait for pending steps
  for pipe in vector.parent_pipes:
    if pipe:
      pipe.close()
  for process in vector.processes:
    process.join(_PATIENCE)
    if process.is_alive():
      process.kill()
      process.join()
