"""Runs that are killed or stopped end as if they had never been.

Every sequence of processes is held against one process that trained to the
end: the rows of progress.csv (without the times) and the whole state in the
last checkpoint must be the same bytes.
"""

import random
import signal
import subprocess
import sys
import time

import programs
import pytest

pytestmark = pytest.mark.slow

_NATIVE = (*programs.TINY, '--value_hidden_sizes=8')
_GYMNASIUM = (*programs.TINY, '--task=CartPole-v1')
_ITERATIONS = 60
_STEPS = 200  # of an iteration
_END = f'--total_env_steps={_ITERATIONS * _STEPS}'


def _never_stopped(flags, folder):
  """The directory of a run of one process."""
  (result,) = programs.run('train', [[*flags, _END, '--run_dir=whole']], folder)
  assert result.code == 0
  return folder / 'whole'


def _signal_after(process, run_dir, rows, number, delay=0.0):
  """Sends a signal some time after a row of progress.csv was written."""
  path, end = run_dir / 'progress.csv', time.monotonic() + 120
  while not path.exists() or path.read_bytes().count(b'\n') <= rows:
    assert process.poll() is None, programs.finish(process)
    assert time.monotonic() < end
    time.sleep(0.002)
  time.sleep(delay)
  process.send_signal(number)
  return programs.finish(process)


def _assert_equal(run_dir, reference):
  assert programs.progress(run_dir) == programs.progress(reference)
  state, wanted = (programs.final_state(d) for d in (run_dir, reference))
  assert state == wanted
  assert state['/env_steps'] == _ITERATIONS * _STEPS


def _iterations(run_dir):
  return [int(row[0]) for row in programs.progress(run_dir)]


def test_native_run_killed_stopped_and_extended(tmp_path):
  """Also with another number of threads each time, and the end moved."""
  run_dir, random_ = tmp_path / 'run', random.Random(0)

  def start(*flags):
    return programs.start('train', *_NATIVE, *flags, f'--run_dir={run_dir}')

  process = start(
    '--total_env_steps=9000', '--checkpoint_seconds=0', '--sampler_threads=1'
  )
  # in the middle of whatever an iteration does: sampling, writing, saving
  killed = _signal_after(
    process,
    run_dir,
    random_.randint(5, 12),
    signal.SIGKILL,
    random_.uniform(0, 0.05),
  )
  assert killed.code == -signal.SIGKILL

  process = start(
    '--total_env_steps=9000', '--checkpoint_seconds=0.2', '--sampler_threads=3'
  )
  killed = _signal_after(
    process,
    run_dir,
    random_.randint(20, 30),
    signal.SIGKILL,
    random_.uniform(0, 0.05),
  )
  assert killed.code == -signal.SIGKILL

  process = start(_END, '--checkpoint_seconds=1000', '--sampler_threads=2')
  stopped = _signal_after(process, run_dir, 35, signal.SIGINT)
  assert stopped.code == 3
  assert stopped.stderr == ''
  assert 'continuing after' in stopped.stdout
  last = _iterations(run_dir)[-1]
  assert 35 <= last < _ITERATIONS
  assert f'stopped at {last * _STEPS:,} env steps' in stopped.stdout
  assert programs.final_state(run_dir)['/iteration'] == last
  assert _iterations(run_dir) == list(range(1, last + 1))

  result = programs.finish(start(_END))
  assert (result.code, result.stderr) == (0, '')
  assert f'continuing after {last * _STEPS:,} env steps' in result.stdout
  _assert_equal(run_dir, _never_stopped(_NATIVE, tmp_path))


def test_run_whose_terminal_or_reader_goes_away(tmp_path):
  """SIGHUP, and a pipe that is closed: both save and end with code 3."""
  run_dir = tmp_path / 'run'

  def start(*flags):
    flags = *_GYMNASIUM, _END, f'--run_dir={run_dir}', *flags
    return programs.start('train', *flags, '--checkpoint_seconds=1000')

  stopped = _signal_after(start(), run_dir, 4, signal.SIGHUP)
  assert (stopped.code, stopped.stderr) == (3, '')
  last = programs.final_state(run_dir)['/iteration']
  assert _iterations(run_dir) == list(range(1, last + 1))

  process = start('--progress')
  assert 'continuing after' in process.stdout.readline()
  process.stdout.close()
  assert process.wait(120) == 3
  error = process.stderr.read()
  (line,) = error.splitlines()
  assert 'nobody reads the output: stopped at' in line
  reached = programs.final_state(run_dir)['/iteration']
  assert last < reached < _ITERATIONS

  result = programs.finish(start())
  assert (result.code, result.stderr) == (0, '')
  _assert_equal(run_dir, _never_stopped(_GYMNASIUM, tmp_path))


# As `python -m trpo_tf.bin.train`, but says when the package is imported: the
# start of the interpreter itself is not ours.
_START = """
import runpy, sys
arguments, sys.argv = sys.argv[1:], ['-m']
import trpo_tf.bin
print('ready', flush=True)
sys.argv[1:] = arguments
runpy.run_module('trpo_tf.bin.train', run_name='__main__', alter_sys=True)
"""


@pytest.mark.parametrize('seconds', [0, 0.3, 1])
def test_interrupted_while_it_starts(tmp_path, seconds):
  process = subprocess.Popen(
    [sys.executable, '-c', _START, *_NATIVE, f'--run_dir={tmp_path / "run"}'],
    env=programs.environment(),
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  )
  assert process.stdout.readline() == 'ready\n'
  time.sleep(seconds)
  process.send_signal(signal.SIGINT)
  result = programs.finish(process)
  assert result.code in (130, -signal.SIGINT)
  assert result.stderr in ('', 'train: interrupted\n')
  assert result.stdout == ''
  assert not (tmp_path / 'run').exists()


def test_gymnasium_run_killed_stopped_and_damaged(tmp_path):
  run_dir = tmp_path / 'run'

  def start(*flags):
    return programs.start(
      'train', *_GYMNASIUM, _END, *flags, f'--run_dir={run_dir}'
    )

  killed = _signal_after(
    start('--checkpoint_seconds=1000'), run_dir, 4, signal.SIGKILL
  )
  assert killed.code == -signal.SIGKILL
  assert not list((run_dir / 'checkpoints').iterdir())
  lost = (run_dir / 'progress.csv').read_bytes()

  process = start('--checkpoint_seconds=0')
  stopped = _signal_after(process, run_dir, 20, signal.SIGTERM)
  assert (stopped.code, stopped.stderr) == (3, '')
  kept = run_dir / 'before_1'
  anew = f'beginning anew; what the run left is in {kept}'
  assert f'there is no checkpoint yet: {anew}' in stopped.stdout
  assert (kept / 'progress.csv').read_bytes() == lost
  last = _iterations(run_dir)[-1]
  assert _iterations(run_dir) == list(range(1, last + 1))

  newest = run_dir / 'checkpoints' / f'iteration_{last:08d}.npz'
  content = bytearray(newest.read_bytes())
  content[len(content) // 2] ^= 1
  newest.write_bytes(content)
  with open(run_dir / 'progress.csv', 'a') as file:
    file.write('61,12')  # a line cut short
  result = programs.finish(start())
  assert (result.code, result.stderr) == (0, '')
  assert (
    f'{newest.name} cannot be used (its checksum is wrong); going back to '
    f'iteration_{last - 1:08d}.npz' in result.stdout
  )
  assert f'continuing after {(last - 1) * _STEPS:,} env steps' in result.stdout
  _assert_equal(run_dir, _never_stopped(_GYMNASIUM, tmp_path))
