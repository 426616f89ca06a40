"""Consent to run the Python code that run.json names.

The network of --policy is Python code, a file or a module. So is a task that is
a file (path/to/task.py:NAME) or an environment of a module that is imported for
it (module:Id-v0). A run directory from a stranger must not run such code
unasked, so a program that takes its name from run.json loads it only if this
user made the run on this host, or says that it is trusted.

A run that this user makes is signed: run.json holds an HMAC-SHA256 under a key
that only this user can read. It covers the settings, the names among them,
and, for a file, the SHA-256 of its content. The content is covered, not
its place: a run that was moved with its file is still trusted, and a file that
somebody with access to the directory has exchanged is not, nor one that was
edited since, which looks the same. What the file or module imports is found on
Python's own path and is not covered.

There is no signature where there is no home directory to keep the key in.
Nothing is lost then but convenience: the user is asked.
"""

import hmac
import json
import os
import pathlib
import secrets
import stat
import tempfile
from collections.abc import Mapping
from typing import Any

from trpo_tf.errors import UserError
from trpo_tf.tasks import code, registry

__all__ = ['contents', 'require', 'signature']

_KEY_SIZE = 32


def signature(settings: Mapping[str, Any]) -> str | None:
  """Signs a run that this user makes.

  Args:
    settings: value by flag name.

  Returns:
    64 hexadecimal digits; None if they name no Python code, or if the key or a
    file cannot be read.
  """
  named = _named(settings)
  if not named:
    return None
  key, found = _key(), [code.content(name) for name in named.values()]
  if key is None or None in found:
    return None
  text = json.dumps([settings, *found], sort_keys=True)
  return hmac.digest(key, text.encode(), 'sha256').hex()


def contents(settings: Mapping[str, Any]) -> dict[str, str]:
  """Returns the SHA-256 of each file of Python code that settings name."""
  found = {name: code.content(name) for name in _named(settings).values()}
  return {name: digest for name, digest in found.items() if digest}


def require(
  run_dir: pathlib.Path,
  settings: Mapping[str, Any],
  signed: str | None,
  trust_task: bool,
) -> None:
  """Checks that the task and the policy of a run may be loaded.

  Args:
    run_dir: directory of the run.
    settings: value by flag name, as run.json has them.
    signed: the signature in run.json; None: it has none.
    trust_task: whether the user trusts the code.

  Raises:
    UserError: there is Python code that this user is not known to trust.
  """
  named = _named(settings)
  if trust_task or not named:
    return
  expected = signature(settings)
  if signed and expected and hmac.compare_digest(signed, expected):
    return
  why = (
    'the signature there is not of this user and this state of the file'
    if signed
    else 'the run has no signature that shows that you made it here'
  )
  for name in named.values():
    if code.content(name) is None:
      raise UserError(
        f'{run_dir}/run.json names {name}, and there is no such file: a path '
        'there counts from the directory in which the run was started'
      )
  what = ' and '.join(f'a {kind}, {name},' for kind, name in named.items())
  raise UserError(
    f'{run_dir}/run.json names {what} that may run Python code, and {why}: '
    'look at that code, and add --trust_task if it may run'
  )


def _named(settings: Mapping[str, Any]) -> dict[str, str]:
  """Returns what settings name that is Python code: a task, a policy."""
  found, task = {}, settings.get('task', '')  # the defaults are no code
  if registry.is_code(task):
    found['task'] = task
  if settings.get('policy'):
    found['policy'] = settings['policy']
  return found


def _key() -> bytes | None:
  """Returns this user's key, which is made when it is first needed."""
  state = os.environ.get('XDG_STATE_HOME', '')
  if not os.path.isabs(state):  # as the XDG specification has it
    state = os.path.expanduser('~/.local/state')
  path = pathlib.Path(state) / 'trpo_tf' / 'key'
  if not path.is_absolute():
    return None
  try:
    if not path.exists():
      _make_key(path)
    with open(path, 'rb') as file:
      found = os.fstat(file.fileno())
      key = file.read()
  except OSError:
    return None
  others = stat.S_IRWXG | stat.S_IRWXO
  private = found.st_uid == os.getuid() and not found.st_mode & others
  return key if private and len(key) == _KEY_SIZE else None


def _make_key(path: pathlib.Path) -> None:
  """Puts a whole key in place, unless another process was faster."""
  path.parent.mkdir(parents=True, exist_ok=True)
  # a temporary file of this module has mode 0600
  with tempfile.NamedTemporaryFile(dir=path.parent) as file:
    file.write(secrets.token_bytes(_KEY_SIZE))
    file.flush()
    os.fsync(file.fileno())
    try:
      os.link(file.name, path)
    except FileExistsError:
      pass
