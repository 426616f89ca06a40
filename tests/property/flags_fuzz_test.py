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
  'table': 15,
  'compare': 15,
  'reproduce': 20,
  'sweep': 10,
  'bench': 15,
  'bench_vine': 15,
  'theory': 15,
}


def _fuzz(folder, seed, factor=1):
  """Runs drawn calls of every program; yields its name and how they ended."""
  world = folder / 'world'
  fuzz_flags.prepare(world)
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
    yield program, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_drawn_calls(tmp_path):
  for program, result in _fuzz(tmp_path, seed=0):
    assert not result['findings'], program


@pytest.mark.fuzz
@pytest.mark.parametrize('part', range(5))
def test_thousands_of_drawn_calls(tmp_path, fuzz, part):
  (seed,) = fuzz.seeds(part, 1)
  found = []
  for program, result in _fuzz(tmp_path, seed, factor=3):
    codes, findings = result['codes'], result['findings']
    fuzz.count(
      f'command lines of {program}',
      f'{seed}',
      calls=sum(codes.values()),
      refused=codes.get('2', 0),
      findings=len(findings),
    )
    found += findings
  assert not found
