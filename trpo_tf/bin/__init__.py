"""The programs: `python -m trpo_tf.bin.NAME --help`."""

import os
import signal
import sys

# TensorFlow reads this when it is imported, which every program does after this
# package. It then logs only errors, not how its CPU build could be compiled.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

# `python -m` imports this package before the program. Until the program handles
# Ctrl-C itself (flags.run), it ends the process without a traceback.
if sys.argv[0] == '-m':
  signal.signal(signal.SIGINT, signal.SIG_DFL)
