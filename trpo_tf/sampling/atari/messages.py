"""Messages between a sampler and the processes that play for it.

Large arrays go past the pickle: in it they would be copied twice more on either
side, which on Pong is one in a hundred of all the time.
"""

import pickle
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

__all__ = ['receive', 'send']

_LARGE = 1 << 16  # bytes of an array that is worth a message of its own


def send(connection: Connection, value: Any) -> None:
  """Sends anything that can be pickled."""
  large: list[memoryview] = []

  def stays(buffer: pickle.PickleBuffer) -> bool:
    data = buffer.raw()
    if data.nbytes >= _LARGE:
      large.append(data)
    return data.nbytes < _LARGE

  pickled = pickle.dumps(value, protocol=5, buffer_callback=stays)
  connection.send((pickled, [data.nbytes for data in large]))
  for data in large:
    connection.send_bytes(data)


def receive(connection: Connection) -> Any:
  """What was sent.

  Raises:
    EOFError: the sender is gone.
    OSError: it went in the middle of a message.
  """
  pickled, sizes = connection.recv()
  large = [np.empty(size, np.uint8) for size in sizes]
  for data in large:
    connection.recv_bytes_into(data)
  return pickle.loads(pickled, buffers=large)
