"""Runs that are killed end with the bytes of runs that are not."""

import json
import pathlib
import subprocess
import sys

import pytest
from crash import kills


def _kill(kind, count, seed, folder):
  """In a process of its own, which forks before it computes anything."""
  found = folder / 'found.json'
  tool = pathlib.Path(kills.__file__)
  command = [sys.executable, tool, f'--kinds={kind}', f'--json={found}']
  subprocess.run([*command, f'--kills={count}', f'--seed={seed}'], check=True)
  (result,) = json.loads(found.read_text()).values()
  assert (result['kills'], result['equal']) == (count, count)


@pytest.mark.slow
@pytest.mark.parametrize('kind', kills.KINDS)
def test_a_kill(kind, tmp_path):
  _kill(kind, 1, 0, tmp_path)


@pytest.mark.crash
@pytest.mark.parametrize('kind', kills.KINDS)
def test_a_hundred_kills(kind, tmp_path):
  _kill(kind, 100, 1, tmp_path)
