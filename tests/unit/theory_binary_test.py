"""python -m trpo_tf.bin.theory, with little to do."""

import json
import subprocess
import sys

import numpy as np
import pytest

from trpo_tf.theory import search

pytestmark = pytest.mark.slow


def run(*flags):
  return subprocess.run(
    [sys.executable, '-m', 'trpo_tf.bin.theory', *flags],
    capture_output=True,
    text=True,
    check=False,
  )


def test_prints_draws_and_stores(tmp_path):
  out = tmp_path / 'deep' / 'er'
  done = run(f'--out_dir={out}', '--iterations=10', '--starts=1')
  assert done.returncode == 0, done.stderr
  for word in (
    'chain',
    'grid',
    'corridor',
    'CPI',
    'Algorithm 1',
    'mean KL',
    'eq. 9',
  ):
    assert word in done.stdout
  assert (out / 'theory.png').read_bytes()[:4] == b'\x89PNG'
  stored = json.loads((out / 'tightest.json').read_text())
  assert [each['bound'] for each in stored] == list(search.BOUNDS)
  assert all(
    0 < search.ratio(search.from_dict(each)) <= 1 + 1e-9 for each in stored
  )
  assert np.isfinite([each['ratio'] for each in stored]).all()


def test_refuses_what_it_cannot_do(tmp_path):
  done = run(f'--out_dir={tmp_path}', '--delta=0')
  assert done.returncode == 2
  assert len(done.stderr.splitlines()) == 1 and 'delta' in done.stderr
