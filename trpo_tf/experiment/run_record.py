"""The file run.json: what a run is, and the sessions that trained it."""

import json
import pathlib
import re
import uuid
from collections.abc import Mapping
from typing import Any, NotRequired

from trpo_tf import config as config_lib
from trpo_tf.errors import UserError
from trpo_tf.experiment import json_files, provenance

__all__ = ['RunRecord', 'read', 'settings_of']

_FORMAT = 'trpo_tf run 1'
_ID = re.compile('[0-9a-f]{32}')
_REMEDY = 'put a copy of the file back, or use another directory'


class RunRecord(provenance.Session):
  """The content of run.json; the session is that which made the run.

  Attributes:
    format: name and version of this format.
    id: 32 hexadecimal digits, by which tracking services know the run; runs of
      older versions have none.
    settings: value by flag name, as the run was last started.
    resumes: the sessions that continued the run.
    resolved: what the settings resolve to, if they do not say everything.
    signature: see trust.py; only in runs whose task is Python code.
  """

  format: str
  id: NotRequired[str]
  settings: dict[str, Any]
  resumes: list[provenance.Session]
  resolved: NotRequired[dict[str, Any]]
  signature: NotRequired[str | None]


def new(settings: Mapping[str, Any], session: provenance.Session) -> RunRecord:
  """Makes the record of a run that begins.

  Args:
    settings: value by flag name.
    session: the session that begins it.
  """
  return RunRecord(
    **session,
    format=_FORMAT,
    id=new_id(),
    settings=dict(settings),
    resumes=[],
  )


def new_id() -> str:
  """Draws an id that no other run has."""
  return uuid.uuid4().hex


def read(run_dir: pathlib.Path) -> RunRecord | None:
  """Reads and checks the run.json of a directory.

  Args:
    run_dir: the directory.

  Returns:
    The record; None if the directory has none of this format.

  Raises:
    UserError: the file is damaged; the message names the field.
  """
  path = run_dir / 'run.json'
  try:
    found = json_files.read(path, _REMEDY)
  except FileNotFoundError:
    return None
  if not isinstance(found, dict) or found.get('format') != _FORMAT:
    return None
  record = json_files.checked(found, RunRecord, path, _REMEDY)
  if not _ID.fullmatch(record.get('id', new_id())):
    raise UserError(f'{path}: id is not 32 hexadecimal digits: {_REMEDY}')
  return record


def settings_of(
  record: RunRecord, run_dir: pathlib.Path
) -> config_lib.ExperimentConfig:
  """Builds the settings of a run from its record.

  Args:
    record: the record.
    run_dir: the directory that it was read from, for the error.

  Raises:
    UserError: a setting is unknown, has another type or is out of range.
  """
  defaults = config_lib.settings(config_lib.ExperimentConfig())
  path, values = run_dir / 'run.json', {}
  for name, value in record['settings'].items():
    default = defaults.get(name)
    if isinstance(value, list):
      value = tuple(value)
    if name in defaults and not _like(value, default):
      raise UserError(
        f'{path}: settings.{name} is {json.dumps(value)[:40]}, not a value '
        f'like {json.dumps(default)}: {_REMEDY}'
      )
    values[name] = value
  try:
    return config_lib.from_settings(values)
  except ValueError as error:
    raise UserError(
      f'{path} is damaged or was written by another version of trpo_tf: {error}'
    ) from None


def _like(value: Any, default: Any) -> bool:
  """Returns whether the value of a setting has the type of its default."""
  if isinstance(default, tuple):
    return isinstance(value, tuple) and all(_like(item, 0) for item in value)
  if isinstance(default, str):
    return json_files.is_text(value)
  return json_files.has_type(value, type(default))
