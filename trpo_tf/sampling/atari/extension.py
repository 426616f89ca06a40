"""The C++ extension of the Atari samplers, or how to build it."""

try:
  import trpo_tf.sampling._atari as extension
except ImportError as error:
  raise ImportError(
    f'the Atari sampler cannot be loaded ({error}). Build it with: '
    'pip install -e .'
  ) from error

__all__ = ['extension']
