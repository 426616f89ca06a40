"""The number of TensorFlow's threads, set before its first operation."""

import os

import tensorflow as tf


def configure_tensorflow(threads: int = 0) -> None:
  """Sets the threads that TensorFlow may use.

  Args:
    threads: number of threads; 0: all cores that this process may use.
  """
  count = threads or len(os.sched_getaffinity(0))
  tf.config.threading.set_intra_op_parallelism_threads(count)
  tf.config.threading.set_inter_op_parallelism_threads(count)
