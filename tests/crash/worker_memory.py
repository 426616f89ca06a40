"""Logs the memory of a running training and of its worker processes.

  python tests/crash/worker_memory.py RUN_DIR --json=FILE

It adds an entry each minute until the training ends, also to a file that it
wrote before: the env steps so far, and megabytes of resident memory. It says
how many it added.
"""

import argparse
import contextlib
import json
import pathlib
import time


def _resident(process: int) -> float:
  """Megabytes of a process; raises OSError if there is none."""
  text = pathlib.Path(f'/proc/{process}/status').read_text()
  [line] = [x for x in text.splitlines() if x.startswith('VmRSS')]
  return round(int(line.split()[1]) / 1000, 1)


def _workers(process: int) -> list[int]:
  children = pathlib.Path(f'/proc/{process}/task/{process}/children')
  return [int(child) for child in children.read_text().split()]


def _measured(run_dir: pathlib.Path) -> dict:
  """Returns an entry; raises OSError if no process trains there."""
  process = int((run_dir / 'run.lock').read_text())
  workers = [_resident(worker) for worker in _workers(process)]
  last = (run_dir / 'progress.csv').read_text().splitlines()[-1]
  steps = int(last.split(',')[1])
  return dict(env_steps=steps, program=_resident(process), workers=workers)


def main() -> None:
  """Logs until the training ends."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('run_dir', type=pathlib.Path)
  parser.add_argument('--json', type=pathlib.Path, required=True)
  parser.add_argument('--seconds', type=float, default=60)
  given = parser.parse_args()
  found = json.loads(given.json.read_text()) if given.json.exists() else []
  before = len(found)
  # a training that began a moment ago has no row yet, and one that ended no pid
  with contextlib.suppress(OSError, ValueError):
    while True:
      found.append(_measured(given.run_dir))
      given.json.write_text(json.dumps(found) + '\n')
      time.sleep(given.seconds)
  print(f'{len(found) - before} entries of {given.run_dir}')


if __name__ == '__main__':
  main()
