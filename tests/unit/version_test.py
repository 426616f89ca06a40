"""The package knows its version."""

import pathlib
import tomllib

import pytest

import trpo_tf

_ROOT = pathlib.Path(__file__).parents[2]


def test_version_is_that_of_pyproject():
  project = tomllib.loads((_ROOT / 'pyproject.toml').read_text())['project']
  assert trpo_tf.__version__ == project['version']


def test_there_is_no_other_attribute():
  with pytest.raises(AttributeError, match="'versions'"):
    trpo_tf.versions  # noqa: B018
