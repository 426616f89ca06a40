"""A worker process of AsyncVectorEnv: the environments of several slots.

AsyncVectorEnv starts a process for each of its environments, steps all of them
at once, and hangs or hides the cause if it cannot pickle what one of them
raises. An environment of it is therefore a Group here: it holds those of
several slots, steps the slots that it is told to, and returns what they raise
as a value. It imports no TensorFlow.
"""

import contextlib
import os
import signal
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import async_vector_env
from gymnasium.vector.utils import batch_space

from trpo_tf.errors import RemoteError, UserError, quoted
from trpo_tf.sampling.batch import End
from trpo_tf.sampling.gym.environment import observe, send

__all__ = ['STOPS', 'Fault', 'Group', 'make_registered', 'serve']

STOPS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


class Fault(NamedTuple):
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
  def of(cls, slot: int, error: BaseException) -> 'Fault':
    """Describes an exception that is being handled.

    Args:
      slot: number of the slot within its group.
      error: the exception.
    """
    line = str(error) if isinstance(error, UserError) else quoted(error)
    interrupts = isinstance(error, KeyboardInterrupt)
    return cls(slot, line, traceback.format_exc(), interrupts)

  def error(self) -> BaseException:
    """Makes the exception that stands for it in this process."""
    if self.interrupts:
      return KeyboardInterrupt()
    return RemoteError(self.line, self.text)


class Group(gymnasium.Env):
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
      self.fault = Fault.of(0, error)

  def close(self) -> None:
    """Closes the environments; nobody is left to hear of a failure."""
    for env in self._envs:
      with contextlib.suppress(Exception):  # a user's code
        env.close()

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
        faults.append(Fault.of(slot, error))
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
        faults.append(Fault.of(slot, error))
    terminated, truncated = (
      ends & bit != 0 for bit in (End.TERMINATED, End.TRUNCATED)
    )
    return self._rows, rewards, terminated, truncated, {'faults': faults}


def make_registered(
  spec: Any, make: Callable[[], gymnasium.Env]
) -> gymnasium.Env:
  """Makes an environment that may have been registered by the program.

  Args:
    spec: how it was registered there; None if its module registers it.
    make: makes it.
  """
  if spec is not None:
    gymnasium.registry.setdefault(spec.id, spec)
  return make()


def serve(*arguments: Any) -> None:
  """Serves AsyncVectorEnv in a process until it is disconnected."""
  for number in STOPS:  # the program handles these
    signal.signal(number, signal.SIG_IGN)
  signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
  with contextlib.suppress(OSError):  # it cannot report its disconnection
    async_vector_env._async_worker(*arguments)
