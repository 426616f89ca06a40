"""The programs: `python -m trpo_tf.bin.NAME --help`."""

import os

# TensorFlow reads this when it is imported, which every program does after this
# package. It then logs only errors, not how its CPU build could be compiled.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
