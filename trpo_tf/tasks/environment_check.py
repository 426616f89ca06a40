"""Gymnasium's own check of an environment, before a run begins."""

import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.utils.env_checker import check_env

from trpo_tf.errors import UserError, cause
from trpo_tf.tasks import environment
from trpo_tf.tasks.closing import close

__all__ = ['check', 'check_range']

_LONGEST = 300  # characters of a warning
_COLORS = re.compile('\x1b' + r'\[\d+m')


def check(task_id: str, keywords: Mapping[str, Any] | None = None) -> list[str]:
  """Checks an environment that is made for this and closed afterwards.

  Args:
    task_id: an id that gymnasium.make takes.
    keywords: further arguments of gymnasium.make.

  Returns:
    Gymnasium's warnings, in one line each.

  Raises:
    UserError: the environment cannot be made, or it breaks a rule of Gymnasium.
  """
  env = environment.raw(task_id, keywords)
  try:
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter('always')
      # the checks left out make further environments, and may open windows
      check_env(env.unwrapped, skip_render_check=True, skip_close_check=True)
  except KeyboardInterrupt:
    raise
  except BaseException as error:  # a user's code may raise anything
    raise UserError(
      f'--task={task_id} fails the environment checker of Gymnasium, which '
      f'--check_env=false leaves out: {cause(error)}'
    ) from error
  finally:
    close(task_id, env)
  lines = dict.fromkeys(_one_line(str(warning.message)) for warning in caught)
  return [f'--task={task_id}: Gymnasium warns: {line}' for line in lines]


def check_range(task_id: str, low: np.ndarray, high: np.ndarray) -> list[str]:
  """Looks for a range of actions that a new policy hardly reaches.

  Args:
    task_id: an id that gymnasium.make takes.
    low: float64 [A], lower bounds of an action.
    high: float64 [A], upper bounds.

  Returns:
    A warning of the first such component, or nothing.
  """
  bounded = np.isfinite(low) & np.isfinite(high)
  return [
    f'--task={task_id}: component {i} of an action goes from {low[i]:g} to '
    f'{high[i]:g}, and a new policy acts around 0: --action_range=control '
    'makes -1 and 1 the ends of the range'
    for i in np.flatnonzero(bounded & ((low >= 0) | (high <= 0)))[:1]
  ]


def _one_line(text: str) -> str:
  text = ' '.join(_COLORS.sub('', text).split()).removeprefix('WARN: ')
  return text if len(text) <= _LONGEST else f'{text[:_LONGEST]}...'
