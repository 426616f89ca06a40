"""Drawn command lines of every program end in an answer, and change nothing."""

import json
import subprocess
import sys

import fuzz_flags
import programs
import pytest

# calls of each program in the suite: 300 in all
_COUNTS = {
  'train': 115,
  'evaluate': 40,
  'plot': 40,
  'table': 30,
  'reproduce': 20,
  'sweep': 10,
  'bench': 15,
  'bench_vine': 15,
  'theory': 15,
}


def _fuzz(folder, seed, factor=1):
  """Runs drawn calls of every program; returns their findings."""
  world = folder / 'world'
  fuzz_flags.prepare(world)
  findings = {}
  for program, count in _COUNTS.items():
    done = subprocess.run(
      [
        sys.executable,
        fuzz_flags.__file__,
        *(program, str(seed), str(count * factor), str(world)),
      ],
      env=programs.environment(),
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    print(program, result['codes'], len(result['findings']), 'findings')
    if result['findings']:
      findings[program] = result['findings']
  return findings


@pytest.mark.slow
def test_drawn_calls(tmp_path):
  assert _fuzz(tmp_path, seed=0) == {}


@pytest.mark.fuzz
def test_thousands_of_drawn_calls(tmp_path):
  assert _fuzz(tmp_path, seed=1, factor=15) == {}
