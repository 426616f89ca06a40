"""Messages between a sampler and the processes that play for it.

Large arrays are sent outside the pickle. Inside it they would be copied twice
more on either side, which takes one percent of the time on Pong.
"""

import pickle
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

__all__ = ['receive', 'send']

_LARGE = 1 << 16  # bytes from which an array is sent as its own message


def send(connection: Connection, value: Any) -> None:
  """Sends a message.

  Args:
    connection: connection to the receiver.
    value: anything that can be pickled.
  """
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
  """Receives a message of `send`.

  Raises:
    EOFError: the sender has ended.
    OSError: the sender ended in the middle of a message.
  """
  pickled, sizes = connection.recv()
  large = [np.empty(size, np.uint8) for size in sizes]
  for data in large:
    connection.recv_bytes_into(data)
  return pickle.loads(pickled, buffers=large)
