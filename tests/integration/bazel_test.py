"""Bazel builds the extension that CMake builds, without a network."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
_NOT_INSTALLED = 69  # exit status of bazel/build_offline.sh

# Each extension is loaded in a process of its own: two in one process would
# register the same C++ types twice.
_DESCRIBE = """
import importlib.util, sys
import mujoco
spec = importlib.util.spec_from_file_location(
  "trpo_tf.sampling._native", sys.argv[1])
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)
print(native.MUJOCO_VERSION, sorted(native.OPS), sorted(dir(native)))
"""


def _describe(extension: pathlib.Path | str) -> str:
  """The MuJoCo version, the operations and the names of an extension."""
  return subprocess.run(
    [sys.executable, "-c", _DESCRIBE, str(extension)],
    check=True, capture_output=True, text=True).stdout


def test_bazel_builds_the_installed_extension():
  import trpo_tf.sampling._native as installed

  build = subprocess.run(
    [ROOT / "bazel" / "build_offline.sh", "build", "//csrc:_native.so"],
    env=os.environ | {"PYTHON_BIN": sys.executable},
    capture_output=True, text=True)
  if build.returncode == _NOT_INSTALLED:
    pytest.skip(build.stderr.strip())
  assert build.returncode == 0, build.stderr
  built = ROOT / "build" / "bazel-bin" / "csrc" / "_native.so"
  assert _describe(built) == _describe(installed.__file__)
