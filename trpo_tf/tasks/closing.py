"""The end of a Gymnasium environment."""

import logging

import gymnasium

from trpo_tf.errors import quoted

__all__ = ['close']

_LOG = logging.getLogger('trpo_tf')


def close(task_id: str, env: gymnasium.Env) -> None:
  """Closes an environment; a failure is logged, as the work is done.

  Args:
    task_id: the task, which the message names.
    env: the environment.
  """
  try:
    env.close()
  except Exception as error:  # a user's code
    _LOG.warning('--task=%s: env.close failed (%s)', task_id, quoted(error))
