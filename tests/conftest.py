"""Puts the helpers beside this file (oracle, worlds) on the import path.

The key that signs runs is made in a folder of the tests, not in the user's, and
Ray, which reads its token when it is imported, gets one of the tests.
TRPO_TF_EXTENSIONS names a folder from which the extensions are loaded instead
of the installed ones; `make sanitize` sets it.
"""

import importlib.util
import os
import pathlib
import secrets
import sys
import tempfile

sys.path.insert(0, os.path.dirname(__file__))

_STATE = tempfile.TemporaryDirectory(prefix='trpo_tf_state')
os.environ['XDG_STATE_HOME'] = _STATE.name
os.environ['RAY_AUTH_MODE'] = 'token'
os.environ['RAY_AUTH_TOKEN'] = secrets.token_hex(32)


def _load_extensions(folder: str) -> None:
  paths = [*pathlib.Path(folder).glob('_*.so')]
  assert len(paths) == 2, f'{folder} has no extensions'
  for path in paths:
    name = 'trpo_tf.sampling.' + path.name.partition('.')[0]
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec and spec.loader
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


if folder := os.environ.get('TRPO_TF_EXTENSIONS'):
  _load_extensions(folder)
