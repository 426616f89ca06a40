"""Trust region policy optimisation with a native MuJoCo sampler."""

import os

# TensorFlow's other kernels take twice as long for convolutions and 1.4 times
# as long for dense layers; left to itself it chooses by the processor, and with
# it the bits of a result.
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
