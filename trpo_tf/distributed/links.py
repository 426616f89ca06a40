"""Connections over which the processes of a run in shards call each other.

Ray starts the processes and knows which of them are alive, but calls do not go
through it: a fit of the value network is hundreds of short calls, and one over
a socket takes a fraction of the time (docs/results/scale.md).
"""

import contextlib
import os
import pickle
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing import AuthenticationError, connection
from typing import Any

__all__ = ['Address', 'Dead', 'Link', 'Server']

Address = tuple[str, int]  # host and port

_PATIENCE = 10.0  # seconds between two looks at a process that does not answer
_STANDSTILL = 60  # seconds in which a stranger or a message must move on


class Dead(Exception):
  """The other process died or is out of reach; the text says why."""


class Server:
  """Answers the calls of other processes as long as this one lives.

  Attributes:
    address: where it listens.
  """

  def __init__(self, handle: Callable[..., Any], host: str, key: bytes):
    """Begins to listen.

    Args:
      handle: called with what a message has, for one message at a time; its
        result or its exception is the answer.
      host: address of this machine.
      key: what a caller has to know.
    """
    self._handle, self._key, self._lock = handle, key, threading.Lock()
    self._listener = connection.Listener((host, 0), backlog=64)
    self.address: Address = self._listener.address
    threading.Thread(target=self._accept, daemon=True).start()

  def _accept(self) -> None:
    while True:
      try:
        caller = self._listener.accept()
      except OSError:  # it went away before, or there are too many
        time.sleep(0.01)
        continue
      threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

  def _serve(self, caller: connection.Connection) -> None:
    """Answers a caller until it ends, or does not know the key."""
    with contextlib.suppress(EOFError, OSError, AuthenticationError), caller:
      _prepare(caller)
      connection.deliver_challenge(caller, self._key)
      connection.answer_challenge(caller, self._key)
      _wait_for_ever(caller, socket.SO_RCVTIMEO, socket.SO_SNDTIMEO)
      while True:
        arguments = pickle.loads(caller.recv_bytes())
        with self._lock:
          answer = self._answer(arguments)
        caller.send_bytes(answer)

  def _answer(self, arguments: tuple[Any, ...]) -> bytes:
    try:
      return pickle.dumps((self._handle(*arguments), None))
    except Exception as error:
      error.add_note(f'Where it was raised:\n{traceback.format_exc()}')
      return pickle.dumps((None, error))


class Link:
  """A caller's connection to a Server."""

  def __init__(self, address: Address, key: bytes, death: Callable[[], str]):
    """Connects. A server that does not answer is found dead by `answer`.

    Args:
      address: of the server.
      key: the server's key.
      death: returns why the other process is dead, or '' if that is not known.
    """
    self._death = death
    self._connection: connection.Connection | None = None
    with contextlib.suppress(OSError, EOFError):
      sock = socket.create_connection(address, _STANDSTILL)
      sock.setblocking(True)
      end = connection.Connection(sock.detach())
      try:
        _prepare(end)
        connection.answer_challenge(end, key)
        connection.deliver_challenge(end, key)
        _wait_for_ever(end, socket.SO_RCVTIMEO)
      except BaseException:
        end.close()
        raise
      self._connection = end

  def send(self, message: bytes) -> None:
    """Starts a call.

    Args:
      message: the pickled arguments of the server's function.
    """
    if self._connection is not None:
      try:
        self._connection.send_bytes(message)
      except OSError:  # `answer` says it
        self.close()
        self._connection = None

  def answer(self, waiting: Callable[[], None] = lambda: None) -> Any:
    """Waits for the result of a call.

    Args:
      waiting: called every ten seconds until there is an answer.

    Raises:
      Dead: there will be none.
      Exception: the server's function raised it.
    """
    result, error = pickle.loads(self._received(waiting))
    if error is not None:
      raise error
    return result

  def close(self) -> None:
    """Ends the connection."""
    if self._connection is not None:
      self._connection.close()

  def _received(self, waiting: Callable[[], None]) -> bytes:
    try:
      if self._connection is None:
        raise EOFError
      while not self._connection.poll(_PATIENCE):
        if cause := self._death():
          raise Dead(cause)
        waiting()
      return self._connection.recv_bytes()
    except (EOFError, OSError):
      raise Dead(self._death() or 'its connection broke') from None


def _prepare(end: connection.Connection) -> None:
  """Sends short messages at once, and gives up on a peer that stands still."""
  _set(end, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
  for direction in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
    _set(end, socket.SOL_SOCKET, direction, _interval(_STANDSTILL))


def _wait_for_ever(end: connection.Connection, *directions: int) -> None:
  """Lets a peer that has shown the key take its time."""
  for direction in directions:
    _set(end, socket.SOL_SOCKET, direction, _interval(0))


def _interval(seconds: int) -> bytes:
  return struct.pack('ll', seconds, 0)  # a timeval; 0: for ever


def _set(
  end: connection.Connection, level: int, option: int, value: int | bytes
) -> None:
  with socket.socket(fileno=os.dup(end.fileno())) as sock:
    sock.setsockopt(level, option, value)
