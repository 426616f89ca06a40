"""Puts the helpers beside this file (oracle, worlds) on the import path.

The key that signs runs is made in a folder of the tests, not in the user's, and
Ray, which reads its token when it is imported, gets one of the tests. No test
talks to a tracking service: W&B writes to the directory of the run, and MLflow
to a file of the tests.
The tests with the marker fuzz draw by --fuzz_seed, or else by a new seed.
TRPO_TF_EXTENSIONS names a folder from which the extensions are loaded instead
of the installed ones; `make sanitize` sets it.
"""

import importlib.util
import os
import pathlib
import secrets
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(__file__))

_STATE = tempfile.TemporaryDirectory(prefix='trpo_tf_state')
os.environ['XDG_STATE_HOME'] = _STATE.name
os.environ |= dict(
  WANDB_MODE='offline',
  WANDB_ERROR_REPORTING='false',
  MLFLOW_DISABLE_TELEMETRY='true',
  MLFLOW_TRACKING_URI=f'sqlite:///{_STATE.name}/mlflow.db',
)
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


def pytest_addoption(parser):
  """Adds the options of the tests with the marker fuzz."""
  group = parser.getgroup('fuzz')
  group.addoption(
    '--fuzz_seed',
    type=int,
    default=secrets.randbelow(10**9),
    help='seed of the tests with the marker fuzz, so that they draw again what '
    'they drew; by default a new one',
  )
  group.addoption(
    '--fuzz_json',
    type=pathlib.Path,
    help='file to which these tests add how many calls they made, and of what',
  )


@pytest.fixture
def fuzz(pytestconfig):
  """What a test with the marker fuzz draws by, and where it counts."""
  import fuzz_counts

  seed = pytestconfig.getoption('fuzz_seed')
  print(f'--fuzz_seed={seed}')  # shown if the test fails
  return fuzz_counts.Fuzz(seed, pytestconfig.getoption('fuzz_json'))


if folder := os.environ.get('TRPO_TF_EXTENSIONS'):
  _load_extensions(folder)
