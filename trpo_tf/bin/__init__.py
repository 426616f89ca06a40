"""The programs: `python -m trpo_tf.bin.NAME --help`."""

import signal
import sys

# `python -m` imports this package before the program. Until the program handles
# Ctrl-C itself (flags.run), it ends the process without a traceback.
if sys.argv[0] == '-m':
  signal.signal(signal.SIGINT, signal.SIG_DFL)
