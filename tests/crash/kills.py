"""Kills runs again and again, continues them, and compares every byte.

  python tests/crash/kills.py --kills=100 --json=kills.json

A run of each kind is killed at moments drawn at random: while it starts, while
it samples and learns, and before, in and after the system calls that write
progress.csv and checkpoints. The same command continues it, until it has ended.
Then progress.csv (without times) and the last checkpoint must be those of a run
that was never killed.
"""

import argparse
import builtins
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import signal
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import programs  # noqa: E402

_ITERATIONS = 24
_VALUE = ('--value_hidden_sizes=8', '--value_epochs=1')
_TINY = (*programs.TINY, '--baseline=value_network', *_VALUE)
KINDS = {
  'native single path': _TINY,
  'native vine': (
    *_TINY,
    '--task=Hopper-v5',
    '--sampler=vine',
    '--rollout_set_size=20',
    '--branch_actions=2',
    '--branch_length=5',
  ),
  'CartPole-v1': (*_TINY, '--task=CartPole-v1'),
  'Pong': (
    '--task=atari/pong',
    f'--flagfile={ROOT}/configs/atari/gae.flags',
    '--batch_steps=64',
    '--num_slots=4',
    '--conv_filters=4',
    '--hidden_sizes=8',
    '--sampler_threads=2',
    '--noprogress',
    *_VALUE,
  ),
  'CEM': (*_TINY, '--method=cem', '--elite_fraction=0.5', '--whole_episodes'),
}
_CALLS = 'write', 'fsync', 'replace', 'unlink', 'truncate'


@dataclasses.dataclass(frozen=True)
class Kill:
  """When a process is to be killed.

  Attributes:
    moment: 'start', 'row' or the name of a system call.
    count: rows of progress.csv, or calls, to wait for.
    delay: seconds to wait after the start or the row.
    when: 'before' or 'after' the call; a write is cut in half.
  """

  moment: str
  count: int = 0
  delay: float = 0.0
  when: str = 'before'

  @classmethod
  def draw(cls, rng: random.Random, rows: int) -> 'Kill':
    """Draws a moment for a run that has some rows."""
    moment = rng.choice(('start', 'row', 'row', 'row', *_CALLS))
    if moment == 'start':
      return cls(moment, delay=rng.uniform(0, 1))
    if moment == 'row':
      return cls(moment, rows + rng.randint(1, 4), rng.uniform(0, 0.05))
    when = rng.choice(('before', 'after'))
    return cls(moment, rng.randint(1, 10), when=when)


def _fork(command: list[str], log: pathlib.Path, kill: Kill | None) -> int:
  """Starts a process that trains; returns its id."""
  # Imported once, before the fork, because it takes seconds. Nothing computes
  # here, so the children start TensorFlow themselves.
  from trpo_tf.bin import train  # noqa: F401
  from trpo_tf.experiment import sinks, training  # noqa: F401

  process = os.fork()
  if not process:
    try:
      _train(command, log, kill)
    except SystemExit as end:
      os._exit(end.code or 0)
    finally:
      os._exit(1)
  return process


def _train(command: list[str], log: pathlib.Path, kill: Kill | None) -> None:
  """Trains, and kills itself at a system call if that is the moment."""
  from trpo_tf.bin import flags, train

  os.chdir(ROOT)  # flagfiles name others from there
  output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.dup2(output, 1)
  os.dup2(output, 2)
  if kill is not None and kill.moment in _CALLS:
    _arm(kill)
  sys.argv = ['train.py', *command]
  flags.run(train.main)


def _arm(kill: Kill) -> None:
  calls = 0

  def is_due() -> bool:
    nonlocal calls
    calls += 1
    return calls == kill.count

  def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)

  def guarded(function):
    def call(*arguments, **keywords):
      due = is_due()
      if due and kill.when == 'before':
        die()
      result = function(*arguments, **keywords)
      if due:
        die()
      return result

    return call

  if kill.moment == 'write':
    builtins.open = _cutting(is_due, die)
  else:
    setattr(os, kill.moment, guarded(getattr(os, kill.moment)))


def _cutting(is_due, die):
  """An open() whose files write half of the last content before the kill."""
  plain = open

  def opened(path, mode='r', *arguments, **keywords):
    file = plain(path, mode, *arguments, **keywords)
    if str(path).endswith('.tmp') or str(path).endswith('progress.csv'):
      if 'w' in mode or 'a' in mode:
        return _Cut(file, is_due, die)
    return file

  return opened


class _Cut:
  def __init__(self, file, is_due, die):
    self._file, self._is_due, self._die = file, is_due, die

  def write(self, content):
    if self._is_due():
      self._file.write(content[: len(content) // 2])
      self._file.flush()
      self._die()
    return self._file.write(content)

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self._file.close()

  def __getattr__(self, name):
    return getattr(self._file, name)


def _rows(run_dir: pathlib.Path) -> int:
  with contextlib.suppress(FileNotFoundError):
    return max((run_dir / 'progress.csv').read_bytes().count(b'\n') - 1, 0)
  return 0


def _session(
  flags: tuple[str, ...], run_dir: pathlib.Path, kill: Kill | None
) -> bool:
  """Trains until the end or the kill; returns whether it was killed."""
  log = run_dir.with_suffix('.log')
  command = [*flags, f'--run_dir={run_dir}']
  process = _fork(command, log, kill)
  ended = 0
  if kill is not None and kill.moment in ('start', 'row'):
    while _rows(run_dir) < kill.count and not ended:
      time.sleep(0.001)
      ended, status = os.waitpid(process, os.WNOHANG)
    time.sleep(kill.delay)
    if not ended:
      os.kill(process, signal.SIGKILL)
  if not ended:
    _, status = os.waitpid(process, 0)
  code = os.waitstatus_to_exitcode(status)
  if code not in (0, -signal.SIGKILL):
    raise AssertionError(f'exit {code} of {command}: {log.read_text()}')
  return code == -signal.SIGKILL


def crash(
  kind: str, kills: int, seed: int, folder: pathlib.Path
) -> dict[str, int]:
  """Kills runs of a kind.

  Args:
    kind: one of KINDS.
    kills: number of kills, over as many runs as that takes.
    seed: seed of the moments.
    folder: where the runs' directories are made.

  Returns:
    The number of kills, of runs, and of kills in runs that ended with the bytes
    of the run that was never killed.
  """
  folder.mkdir(parents=True, exist_ok=True)
  flags = *KINDS[kind], f'--total_iterations={_ITERATIONS}', '--notensorboard'
  whole = folder / 'whole'
  assert not _session(flags, whole, None)
  wanted = programs.progress(whole), programs.final_state(whole)
  assert len(wanted[0]) == _ITERATIONS
  rng = random.Random(f'{kind} {seed}')
  done = runs = equal = 0
  while done < kills:
    run_dir, here = folder / f'killed_{runs}', 0
    running = True
    while running:
      kill = None
      if done + here < kills:
        kill = Kill.draw(rng, _rows(run_dir))
      seconds = rng.choice((0, 0, 0.1, 1000))
      every = f'--checkpoint_seconds={seconds}'
      running = _session((*flags, every), run_dir, kill)
      here += running
    runs, done = runs + 1, done + here
    found = programs.progress(run_dir), programs.final_state(run_dir)
    if found == wanted:
      equal += here
    else:
      print(f'{run_dir} differs from {whole}', file=sys.stderr)
  return dict(kills=done, runs=runs, equal=equal)


def main() -> int:
  """Kills runs; returns 1 if any ended with other bytes."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kinds', nargs='+', default=[*KINDS], choices=KINDS)
  parser.add_argument('--kills', type=int, default=100, help='of each kind')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--json', type=pathlib.Path)
  options = parser.parse_args()
  results = {}
  with tempfile.TemporaryDirectory() as folder:
    for kind in options.kinds:
      results[kind] = crash(
        kind, options.kills, options.seed, pathlib.Path(folder) / kind
      )
      print(kind, results[kind], flush=True)
      if options.json:
        options.json.write_text(json.dumps(results, indent=2) + '\n')
  return any(r['equal'] != r['kills'] for r in results.values())


if __name__ == '__main__':
  sys.exit(main())
