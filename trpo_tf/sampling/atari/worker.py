"""A process that plays an Atari game: python -m trpo_tf.sampling.atari.worker.

The emulator's Python binding holds the interpreter's lock while it emulates,
so threads would gain nothing. The process is started by `atari_pool`, never
forked, and imports neither TensorFlow nor MuJoCo.
"""

import signal
import sys
from multiprocessing.connection import Connection

from trpo_tf.errors import UserError
from trpo_tf.sampling.atari import messages
from trpo_tf.sampling.atari.player import Player


def main() -> None:
  """Does the sampler's jobs until it is gone."""
  for number in (signal.SIGINT, signal.SIGTERM):  # the program's to handle
    signal.signal(number, signal.SIG_IGN)
  connection = Connection(int(sys.argv[1]))
  try:
    player = Player(connection.recv())
    while True:
      name, arguments = connection.recv()
      for argument in arguments:
        try:
          result = getattr(player, name)(argument)
        except UserError as error:  # a state that cannot be loaded
          result = error
        if name != 'set_parameters':
          messages.send(connection, result)
  except (EOFError, ConnectionError):
    pass


if __name__ == '__main__':
  main()
