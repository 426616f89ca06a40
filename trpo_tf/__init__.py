"""Trust region policy optimisation with a native MuJoCo sampler."""

import os

# TensorFlow's other kernels take twice as long for convolutions and 1.4 times
# as long for dense layers; left to itself it chooses by the processor, and with
# it the bits of a result.
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')


def __getattr__(name: str) -> str:
  """Looks the version up when it is asked for; the import stays cheap."""
  if name != '__version__':
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  import importlib.metadata

  return importlib.metadata.version('trpo_tf')
