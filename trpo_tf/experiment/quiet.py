"""The import of TensorFlow without the messages that it prints."""

import os
import sys
import tempfile

__all__ = ['import_tensorflow']


def import_tensorflow() -> None:
  """Imports TensorFlow without its messages about missing GPUs.

  No setting of TensorFlow 2.21 silences all of them (tensorflow#100442), and
  they would bury the program's own messages. They are shown if the import
  fails. Nothing is done if TensorFlow is imported already.
  """
  if 'tensorflow' in sys.modules:
    return
  sys.stderr.flush()
  terminal = os.dup(2)
  with tempfile.TemporaryFile() as messages:
    os.dup2(messages.fileno(), 2)
    try:
      import tensorflow as tf

      tf.config.list_physical_devices()  # looks for GPUs
    except Exception:
      messages.seek(0)
      os.write(terminal, messages.read())
      raise
    finally:
      os.dup2(terminal, 2)
      os.close(terminal)
