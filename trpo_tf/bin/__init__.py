"""The programs: `python -m trpo_tf.bin.NAME --help`."""

import os

# Read by TensorFlow when it is imported, which every program does after this
# package: only errors, not what its CPU build could have been compiled with.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
