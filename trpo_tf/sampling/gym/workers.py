"""Environments in worker processes, stepped by Gymnasium's AsyncVectorEnv.

AsyncVectorEnv starts a process for each of its environments, steps all of them
at once, and hangs or hides the cause if it cannot pickle what one of them
raises. An environment of it is therefore a _Group here: it holds those of
several slots, steps the slots that it is told to, and returns what they raise
as a value. Seeds and actions come from the sampler, so results are those of one
process.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import connection, util
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, async_vector_env
from gymnasium.vector.utils import batch_space

from trpo_tf.errors import RemoteError, UserError, quoted
from trpo_tf.sampling.batch import End
from trpo_tf.sampling.gym.environment import observe, send

__all__ = ['Workers']

_PATIENCE = 10.0  # seconds in which a process must end once disconnected


class _Fault(NamedTuple):
  """What the environment of a slot raised.

  Attributes:
    slot: number of the slot within its group.
    line: the exception in one line.
    text: its traceback.
    interrupts: whether it is a KeyboardInterrupt.
  """

  slot: int
  line: str
  text: str
  interrupts: bool

  @classmethod
  def of(cls, slot: int, error: BaseException) -> '_Fault':
    """Describes an exception that is being handled."""
    line = str(error) if isinstance(error, UserError) else quoted(error)
    interrupts = isinstance(error, KeyboardInterrupt)
    return cls(slot, line, traceback.format_exc(), interrupts)

  def error(self) -> BaseException:
    """Makes the exception that stands for it in this process."""
    if self.interrupts:
      return KeyboardInterrupt()
    return RemoteError(self.line, self.text)


class _Group(gymnasium.Env):
  """The environments of up to G slots, as one environment of AsyncVectorEnv.

  A seed is a list of G seeds; None leaves a slot as it is. An action is a pair:
  which slots step, bool [G], and their actions [G, ...].

  Attributes:
    fault: what the constructor of an environment raised; None for nothing.
  """

  def __init__(
    self,
    make: Callable[[], gymnasium.Env],
    count: int,
    row: spaces.Box,
    actions: gymnasium.Space,
    size: int,
    program: int,
  ):
    """Makes the environments, unless it is the program that asks.

    Args:
      make: makes an environment.
      count: number of environments.
      row: space of an observation, as the sampler keeps it.
      actions: action space of an environment.
      size: G.
      program: process of the sampler. AsyncVectorEnv makes a group there to see
        its spaces.
    """
    self.observation_space = batch_space(row, size)
    self.action_space = spaces.Tuple(
      [spaces.MultiBinary(size), batch_space(actions, size)]
    )
    self._rows = np.zeros((size, *row.shape), row.dtype)
    self._envs, self.fault = list[gymnasium.Env](), None
    if os.getpid() == program:
      return
    try:
      self._envs += [make() for _ in range(count)]
    except BaseException as error:  # a user's code
      self.fault = _Fault.of(0, error)

  def reset(self, *, seed=None, options=None):
    """Resets the slots that have a seed; see gymnasium.Env."""
    del options
    faults = []
    for slot, one in enumerate(seed):
      if one is None:
        continue
      try:
        observation, _ = self._envs[slot].reset(seed=one)
        observe(observation, self._rows[slot])
      except BaseException as error:  # a user's code
        faults.append(_Fault.of(slot, error))
    return self._rows, {'faults': faults}

  def step(self, action):
    """Steps the chosen slots; rewards and ends are arrays [G]."""
    chosen, actions = action
    rewards, ends = np.zeros(len(chosen)), np.zeros(len(chosen), np.uint8)
    faults = []
    for slot in map(int, np.flatnonzero(chosen)):
      env, row = self._envs[slot], self._rows[slot]
      try:
        rewards[slot], ends[slot] = send(env, actions[slot], row)
      except BaseException as error:  # a user's code
        faults.append(_Fault.of(slot, error))
    terminated, truncated = (
      ends & bit != 0 for bit in (End.TERMINATED, End.TRUNCATED)
    )
    return self._rows, rewards, terminated, truncated, {'faults': faults}


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
      UserError: an environment cannot be made, or a process ended.
    """
    self._task, self._actions = task, actions
    size = -(-slots // processes)
    self._shape = -(-slots // size), size
    make = functools.partial(_make, gymnasium.registry.get(task), make)
    self._found: dict[int, Any] = {}
    groups = [
      functools.partial(
        _Group, make, min(size, slots - s), row, actions, size, os.getpid()
      )
      for s in range(0, slots, size)
    ]
    with self._watched(), _starting():
      self._vector = AsyncVectorEnv(
        groups,
        copy=False,
        context='spawn',  # a fork would copy the locks of TensorFlow's threads
        worker=_work,
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
    if isinstance(found, _Fault):
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
      raise UserError(
        f'--task={self._task}: {how}; if memory was short, take a smaller '
        '--env_workers; the same command continues'
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


def _make(spec: Any, make: Callable[[], gymnasium.Env]) -> gymnasium.Env:
  """Makes an environment that may have been registered by the program.

  Args:
    spec: how it was registered there; None if its module registers it.
    make: makes it.
  """
  if spec is not None:
    gymnasium.registry.setdefault(spec.id, spec)
  return make()


def _work(*arguments: Any) -> None:
  """Serves AsyncVectorEnv in a process until it is disconnected."""
  for number in (signal.SIGINT, signal.SIGTERM):  # the program handles these
    signal.signal(number, signal.SIG_IGN)
  with contextlib.suppress(OSError):  # it cannot report its disconnection
    async_vector_env._async_worker(*arguments)


@contextlib.contextmanager
def _starting() -> Iterator[None]:
  """Starts processes without the program, and leaves none if that fails.

  A process of multiprocessing imports the program that started it, and with it
  TensorFlow.
  """
  before = set(multiprocessing.active_children())
  program = sys.modules['__main__']
  sys.modules['__main__'] = types.ModuleType('__main__')
  try:
    yield
  except BaseException:
    for process in set(multiprocessing.active_children()) - before:
      process.kill()
      process.join()
    raise
  finally:
    sys.modules['__main__'] = program


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
