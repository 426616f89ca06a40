"""Bazel builds the extensions that CMake builds, without a network."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
_NOT_INSTALLED = 69  # exit status of bazel/build_offline.sh

pytestmark = pytest.mark.slow

# Each file is loaded in a process of its own: two files of an extension in one
# process would register the same C++ types twice.
_DESCRIBE = """
import importlib.util, sys
import mujoco
spec = importlib.util.spec_from_file_location(*sys.argv[1:])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(*(getattr(module, name, "") for name in ("OPS", "FIELDS")))
print(*[(name, getattr(module, name).__doc__) for name in sorted(dir(module))])
"""


def _describe(module: str, extension: pathlib.Path | str) -> str:
  """The operations, fields, names and docs of an extension."""
  return subprocess.run(
    [sys.executable, '-c', _DESCRIBE, module, str(extension)],
    check=True,
    capture_output=True,
    text=True,
  ).stdout


@pytest.mark.parametrize('name', ['_native', '_atari'])
def test_bazel_builds_the_installed_extension(name):
  module = f'trpo_tf.sampling.{name}'
  installed = importlib.util.find_spec(module)
  build = subprocess.run(
    [ROOT / 'bazel' / 'build_offline.sh', 'build', f'//csrc:{name}.so'],
    env=os.environ | {'PYTHON_BIN': sys.executable},
    capture_output=True,
    text=True,
  )
  if build.returncode == _NOT_INSTALLED:
    pytest.skip(build.stderr.strip())
  assert build.returncode == 0, build.stderr
  built = ROOT / 'build' / 'bazel-bin' / 'csrc' / f'{name}.so'
  assert _describe(module, built) == _describe(module, installed.origin)
