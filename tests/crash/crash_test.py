"""Runs that are killed end with the bytes of runs that are not."""

import json
import pathlib
import subprocess
import sys
import time

import programs
import pytest
from crash import kills, worker_memory

from trpo_tf.experiment import progress


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


@pytest.mark.slow
def test_the_memory_of_a_training_and_its_workers_is_logged(tmp_path):
  run, log = tmp_path / 'run', tmp_path / 'log.json'
  flags = '--env_workers=2', '--total_iterations=10000', f'--run_dir={run}'
  training = programs.start(
    'train', *programs.TINY, '--task=CartPole-v1', *flags
  )
  end = time.monotonic() + 100
  while not progress.has_rows(run / 'progress.csv'):
    assert training.poll() is None and time.monotonic() < end
    time.sleep(0.05)
  tool = [sys.executable, worker_memory.__file__, run, f'--json={log}']
  logger = subprocess.Popen(
    [*tool, '--seconds=0.1'], stdout=subprocess.PIPE, text=True
  )
  while not log.exists():
    assert logger.poll() is None and time.monotonic() < end
    time.sleep(0.05)
  training.terminate()
  programs.finish(training)
  said, _ = logger.communicate(timeout=60)
  entries = json.loads(log.read_text())
  assert said == f'{len(entries)} entries of {run}\n'
  first = entries[0]
  assert first['env_steps'] > 0 and first['program'] > 100
  # also the process that Python keeps for shared memory
  assert len(first['workers']) in (2, 3) and min(first['workers']) > 5


@pytest.mark.crash
@pytest.mark.parametrize('kind', kills.KINDS)
def test_a_hundred_kills(kind, tmp_path):
  _kill(kind, 100, 1, tmp_path)
