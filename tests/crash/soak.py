"""Trains for thousands of iterations and watches memory and descriptors.

  python tests/crash/soak.py --iterations=2000 --json=soak.json

Each kind of run trains as the program does, with a checkpoint at every
iteration. Resident memory and open files are read every tenth of the way; they
must not grow once everything is compiled.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

from crash import kills  # noqa: E402

from trpo_tf.config import TrustRegionConfig  # noqa: E402
from trpo_tf.experiment import progress  # noqa: E402

_DELTA = TrustRegionConfig().max_kl
KINDS = kills.KINDS | {
  'native, many short batches': (
    '--task=Swimmer-v5',
    '--hidden_sizes=8',
    '--baseline=none',
    '--whole_episodes',
    '--time_limit=25',
    '--batch_steps=100',
    '--num_slots=4',
    '--noprogress',
    '--notensorboard',
  )
}


def _usage(process: int) -> tuple[float, int]:
  """Returns resident memory in MB and the number of open files."""
  status = pathlib.Path(f'/proc/{process}/status').read_text()
  found = re.search(r'VmRSS:\s+(\d+) kB', status)
  assert found
  return int(found[1]) / 1000, len(os.listdir(f'/proc/{process}/fd'))


def _steps(path: pathlib.Path) -> dict[str, int]:
  """Counts the accepted steps and those whose mean KL exceeds delta."""
  columns = progress.read_csv(path)
  kl = columns['mean_kl'][columns['step_status'] == 'accepted']
  return dict(accepted=len(kl), above_delta=int((kl > _DELTA).sum()))


def _rows(path: pathlib.Path) -> int:
  return path.read_bytes().count(b'\n') - 1 if path.exists() else 0


def soak(kind: str, iterations: int, folder: pathlib.Path) -> dict[str, Any]:
  """Trains a kind of run.

  Args:
    kind: one of KINDS.
    iterations: how many.
    folder: where the run's directory is made.

  Returns:
    Iteration, megabytes and files at each tenth of the way, and the counts of
    accepted steps and of those above delta.
  """
  run_dir = folder / 'run'
  command = [sys.executable, '-m', 'trpo_tf.bin.train', *KINDS[kind]]
  command += [f'--run_dir={run_dir}', f'--total_iterations={iterations}']
  command += ['--checkpoint_seconds=0', '--total_env_steps=1000000000']
  with subprocess.Popen(command, cwd=ROOT) as process:
    found = []
    for tenth in range(1, 10):
      goal = iterations * tenth // 10
      while _rows(run_dir / 'progress.csv') < goal:
        if process.poll() is not None:
          raise AssertionError(f'{kind} ended with {process.returncode}')
        time.sleep(0.02)
      megabytes, files = _usage(process.pid)
      found.append(dict(iteration=goal, megabytes=megabytes, files=files))
      print(kind, found[-1], flush=True)
  assert process.returncode == 0
  return dict(usage=found, steps=_steps(run_dir / 'progress.csv'))


def main() -> None:
  """Trains runs of every kind and writes what they used."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kinds', nargs='+', default=[*KINDS], choices=KINDS)
  parser.add_argument('--iterations', type=int, default=2000)
  parser.add_argument('--json', type=pathlib.Path, required=True)
  options = parser.parse_args()
  results = {}
  for kind in options.kinds:
    with tempfile.TemporaryDirectory() as folder:
      results[kind] = soak(kind, options.iterations, pathlib.Path(folder))
    print(kind, results[kind]['steps'], flush=True)
    options.json.write_text(json.dumps(results, indent=2) + '\n')


if __name__ == '__main__':
  main()
