"""Runs that are killed end with the bytes of runs that are not."""

import json
import pathlib
import subprocess
import sys

import pytest
from crash import crash


def _kill(kind, kills, seed, folder):
  """In a process of its own, which forks before it computes anything."""
  found = folder / 'found.json'
  tool = pathlib.Path(crash.__file__)
  command = [sys.executable, tool, f'--kinds={kind}', f'--json={found}']
  subprocess.run([*command, f'--kills={kills}', f'--seed={seed}'], check=True)
  (result,) = json.loads(found.read_text()).values()
  assert (result['kills'], result['equal']) == (kills, kills)


@pytest.mark.slow
@pytest.mark.parametrize('kind', crash.KINDS)
def test_five_kills(kind, tmp_path):
  _kill(kind, 5, 0, tmp_path)


@pytest.mark.crash
@pytest.mark.parametrize('kind', crash.KINDS)
def test_a_hundred_kills(kind, tmp_path):
  _kill(kind, 100, 1, tmp_path)
