"""Connections over which the processes of a run in shards call each other.

Ray starts the processes and knows which of them are alive, but calls do not go
through it: a fit of the value network is hundreds of short calls, and one over
a socket takes a fraction of the time (docs/results/scale.md).
"""

import contextlib
import os
import pickle
import socket
import threading
import traceback
from collections.abc import Callable
from multiprocessing import AuthenticationError, connection
from typing import Any

__all__ = ['Address', 'Dead', 'Link', 'Server']

Address = tuple[str, int]  # host and port

_PATIENCE = 10.0  # seconds between two looks at a process that does not answer


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
      except ConnectionError:  # it went away before
        continue
      threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

  def _serve(self, caller: connection.Connection) -> None:
    """Answers a caller until it ends, or does not know the key."""
    with contextlib.suppress(EOFError, OSError, AuthenticationError), caller:
      connection.deliver_challenge(caller, self._key)
      connection.answer_challenge(caller, self._key)
      _send_at_once(caller)
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
      self._connection = connection.Client(address, authkey=key)
      _send_at_once(self._connection)

  def send(self, message: bytes) -> None:
    """Starts a call.

    Args:
      message: the pickled arguments of the server's function.
    """
    if self._connection is not None:
      with contextlib.suppress(OSError):  # `answer` says it
        self._connection.send_bytes(message)

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


def _send_at_once(end: connection.Connection) -> None:
  """Keeps the system from collecting short messages for some milliseconds."""
  with socket.socket(fileno=os.dup(end.fileno())) as sock:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
