"""Trust region policy optimisation with a native MuJoCo sampler.

docs/python.md shows how to use the names of `__all__`. They are imported when
they are first used, so that the import of this package alone is cheap.
"""

import os
from typing import Any

# TensorFlow's other kernels take twice as long for convolutions and 1.4 times
# as long for dense layers; left to itself it chooses by the processor, and with
# it the bits of a result.
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
# TensorFlow then logs only errors, not how its CPU build could be compiled.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

_MODULES = {
  # trained policies and training
  'load_policy': 'experiment.trained',
  'train': 'api',
  'UserError': 'errors',
  # the step on your own function
  'CategoricalPolicy': 'policies.categorical',
  'FunctionNetwork': 'policies.function',
  'GaussianPolicy': 'policies.gaussian',
  'KerasNetwork': 'policies.function',
  'PathData': 'estimation.surrogate',
  'conjugate_gradient': 'optim.conjugate_gradient',
  'fisher_vector_product': 'api',
  'make_trust_region_step': 'api',
  # branches from cloned states
  'Brancher': 'sampling.native.branching',
  'FrozenPolicy': 'sampling.native.branching',
  'Snapshot': 'cloning.snapshot',
  'check_cloning': 'cloning.check',
  'cloner': 'cloning.cloner',
  'initial_snapshots': 'sampling.native.branching',
  'native_task': 'tasks.registry',
}
__all__ = list(_MODULES)
# these modules do without TensorFlow
_LIGHT = ('cloning.', 'errors', 'tasks.')


def __getattr__(name: str) -> Any:
  """Imports a name, or looks the version up, when it is asked for."""
  import importlib
  import importlib.metadata

  if name == '__version__':
    return importlib.metadata.version('trpo_tf')
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = _MODULES[name]
  if not module.startswith(_LIGHT):
    importlib.import_module('trpo_tf.experiment.quiet').import_tensorflow()
  found = getattr(importlib.import_module(f'trpo_tf.{module}'), name)
  globals()[name] = found  # the next time it is found without this function
  return found


def __dir__() -> list[str]:
  return [*globals(), *(name for name in _MODULES if name not in globals())]
