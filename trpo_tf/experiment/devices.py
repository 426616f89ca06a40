"""Where TensorFlow computes, and with how many threads.

Both are set before its first operation, and hold for the whole process.
"""

import tensorflow as tf

from trpo_tf.errors import UserError
from trpo_tf.sampling.threads import thread_count

__all__ = ['configure_tensorflow', 'hide_gpus', 'require_gpu']


def hide_gpus() -> None:
  """Lets TensorFlow compute on the CPU alone."""
  tf.config.set_visible_devices([], 'GPU')


def require_gpu(flag: str) -> tf.config.PhysicalDevice:
  """Returns the first GPU.

  Args:
    flag: the flag that needs it, with its value.

  Raises:
    UserError: there is none.
  """
  gpus = tf.config.list_physical_devices('GPU')
  if not gpus:
    raise UserError(
      f'{flag}: TensorFlow finds no GPU here: install its libraries (pip '
      "install 'tensorflow[and-cuda]'), or leave the gpu out"
    )
  return gpus[0]


def configure_tensorflow(
  threads: int = 0, device: str = 'cpu', deterministic: bool = True
) -> None:
  """Sets what TensorFlow may use.

  A GPU multiplies in full float32 and not in TensorFloat-32, whose factors have
  10 bits: a policy would not give the outputs with which it was sampled.

  Args:
    threads: number of threads; 0: all cores that this process may use.
    device: 'cpu', or 'gpu' for the first one.
    deterministic: whether a GPU's operations give the same bytes every time.

  Raises:
    UserError: there are many more threads than cores, or there is no GPU.
    RuntimeError: TensorFlow has computed already.
  """
  count = thread_count('--tf_threads', threads)
  tf.config.threading.set_intra_op_parallelism_threads(count)
  tf.config.threading.set_inter_op_parallelism_threads(count)
  if device == 'cpu':
    hide_gpus()
    return
  gpu = require_gpu('--device=gpu')
  tf.config.set_visible_devices(gpu, 'GPU')
  tf.config.experimental.set_memory_growth(gpu, True)
  tf.config.experimental.enable_tensor_float_32_execution(False)
  if deterministic:
    tf.config.experimental.enable_op_determinism()
