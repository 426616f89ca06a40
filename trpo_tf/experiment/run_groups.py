"""Tells runs apart by the settings that change their results."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from trpo_tf import config
from trpo_tf.errors import UserError
from trpo_tf.experiment import flagfiles, run_directory, saved_runs, tables

__all__ = ['Identity', 'identity', 'labels', 'refuse_twins', 'settings_of']

Identity = tuple[tuple[str, Any], ...]  # names and values of settings


def settings_of(
  path: str | os.PathLike[str], evaluation: tables.Evaluation
) -> Mapping[str, Any]:
  """Returns the settings of an evaluated run, value by flag name.

  Args:
    path: its directory. If it has no run.json, the task and the seed are all
      that is known.
    evaluation: its evaluation.
  """
  if os.path.exists(os.path.join(path, 'run.json')):
    return config.settings(saved_runs.read_config(path))
  return dict(task=evaluation['task'], seed=evaluation['seed'])


def identity(settings: Mapping[str, Any]) -> Identity:
  """Returns the settings that runs with different seeds share.

  Args:
    settings: value by flag name.
  """
  free = run_directory.FREE_SETTINGS | {'seed'}
  return tuple((k, v) for k, v in settings.items() if k not in free)


def labels(runs: Sequence[Mapping[str, Any]]) -> list[str]:
  """Says how each run differs from others of its task, beside the seed.

  Args:
    runs: settings of each run, by flag name.

  Returns:
    For each run, the settings that vary among the runs of its task, such as
    'gamma=0.9, max_kl=0.02'; '' if none does.
  """
  found: dict[str, dict[str, set]] = {}
  for settings in runs:
    values = found.setdefault(settings['task'], {})
    for name, value in identity(settings):
      values.setdefault(name, set()).add(value)
  return [
    ', '.join(
      f'{name}={flagfiles.flag_text(value)}'
      for name, value in identity(settings)
      if len(found[settings['task']][name]) > 1
    )
    for settings in runs
  ]


def refuse_twins(runs: Mapping[Any, Mapping[str, Any]], remedy: str) -> None:
  """Refuses runs that have the same seed and the same settings.

  Args:
    runs: settings by flag name, by the name of the run.
    remedy: what to do about it, for the error.

  Raises:
    UserError: there are such runs.
  """
  seen: dict[tuple, Any] = {}
  for name, settings in runs.items():
    twin = seen.setdefault((identity(settings), settings['seed']), name)
    if twin != name:
      raise UserError(
        f'{twin} and {name} have the same settings and seed '
        f'{settings["seed"]}: {remedy}'
      )
