"""The number of TensorFlow's threads, set before its first operation."""

import tensorflow as tf

from trpo_tf.sampling.threads import thread_count


def configure_tensorflow(threads: int = 0) -> None:
  """Sets the threads that TensorFlow may use.

  Args:
    threads: number of threads; 0: all cores that this process may use.

  Raises:
    UserError: there are many more threads than cores.
  """
  count = thread_count('--tf_threads', threads)
  tf.config.threading.set_intra_op_parallelism_threads(count)
  tf.config.threading.set_inter_op_parallelism_threads(count)
