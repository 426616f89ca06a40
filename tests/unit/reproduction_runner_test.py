"""Processes side by side, and the order in which a campaign starts them."""

import contextlib
import pathlib
import re
import shutil
import subprocess
import sys
import time

import programs
import pytest
import reproductions

from trpo_tf.reproduction import runner
from trpo_tf.reproduction.campaign import Campaign
from trpo_tf.reproduction.local_pool import LocalPool

_N = reproductions.ITERATIONS


@pytest.fixture
def table(tmp_path):
  return reproductions.table(tmp_path / 'flagfiles')


@pytest.fixture
def entries(table, tmp_path):
  return reproductions.entries(table, tmp_path / 'out')


def _python(code):
  return ['-S', '-c', code]


def _runs(entries):
  return [run for entry in entries for run in entry.runs(None)]


# A process that notes in a file when it begins and ends, and in between waits
# until as many have begun as run side by side.
_NOTE = """
import time
path, jobs = {path!r}, {jobs}
def note(word):
  with open(path, 'a') as file:
    file.write(word + '\\n')
def begun():
  with open(path) as file:
    return file.read().count('begin')
note('begin')
mine = begun()
while begun() < -(-mine // jobs) * jobs:
  time.sleep(0.01)
note('end')
"""


@pytest.mark.parametrize('jobs', [1, 2])
def test_at_most_so_many_processes(tmp_path, entries, jobs):
  path = tmp_path / 'notes'
  ended = []

  def on_end(ending):
    ended.append(ending)
    return ()

  runs = _runs(entries)[:4]
  command = _python(_NOTE.format(path=str(path), jobs=jobs))
  assert runner.execute(runs, lambda run: command, LocalPool(jobs), on_end)
  running, most = 0, 0
  for line in path.read_text().splitlines():
    running += 1 if line == 'begin' else -1
    most = max(most, running)
  assert (running, most) == (0, jobs)
  assert {ending.run for ending in ended} == set(runs)
  assert not any(ending.failure for ending in ended)


def test_failures_are_told_and_the_others_go_on(entries):
  codes = {
    0: "print('before'); print('  the reason \\n'); raise SystemExit(2)",
    1: 'raise SystemExit(7)',
    2: "import os; print('x', flush=True); os.kill(os.getpid(), 9)",
    3: "print('all is well')",
  }
  runs = _runs(entries)[:4]
  endings = {}

  def command(run):
    return _python(codes[runs.index(run)])

  def on_end(ending):
    endings[runs.index(ending.run)] = ending.failure
    return ()

  assert runner.execute(runs, command, LocalPool(2), on_end)
  assert endings == {0: 'the reason', 1: 'exit code 7', 2: 'x', 3: ''}
  assert runner.log_file(runs[0]).read_text() == 'before\n  the reason \n\n'
  # a second try that says nothing is not told of in the words of the first
  codes[0] = 'raise SystemExit(1)'
  assert runner.execute(runs[:1], command, LocalPool(1), on_end)
  assert endings[0] == 'exit code 1'
  assert runner.log_file(runs[0]).read_text().startswith('before\n')


def test_runs_that_an_ending_makes_possible(entries):
  first, second, third = _runs(entries)[:3]
  more = {first: [second, third], second: [], third: []}
  order = []

  def on_end(ending):
    order.append(ending.run)
    return more[ending.run]

  assert runner.execute([first], lambda run: _python(''), LocalPool(1), on_end)
  assert order == [first, second, third]


# A process that ends with code 3 on SIGTERM, as train does, after a while.
_STOPPABLE = """
import signal, sys, time
def stop(number, frame):
  time.sleep(0.2)
  print('stopped well', flush=True)
  sys.exit(3)
signal.signal(signal.SIGTERM, stop)
print('ready', flush=True)
time.sleep(60)
"""


def test_a_stop_is_passed_on_and_waited_for(entries):
  runs = _runs(entries)[:4]

  def ready(run):
    with contextlib.suppress(FileNotFoundError):
      return 'ready' in runner.log_file(run).read_text()
    return False

  def stops():
    return int(all(map(ready, runs[:2])))

  told = []
  assert not runner.execute(
    runs, lambda run: _python(_STOPPABLE), LocalPool(2), told.append, stops
  )
  assert not told
  for run in runs[:2]:
    assert runner.log_file(run).read_text() == 'ready\nstopped well\n'
  assert not any(runner.log_file(run).exists() for run in runs[2:])


def test_processes_do_not_outlive_an_error(entries):
  runs = _runs(entries)[:2]
  codes = dict(zip(runs, ('', _STOPPABLE), strict=True))

  def on_end(ending):
    while not runner.log_file(runs[1]).read_text():
      pass
    raise OSError('disk full')

  with pytest.raises(OSError, match='disk full'):
    runner.execute(runs, lambda run: _python(codes[run]), LocalPool(2), on_end)
  assert 'stopped well' in runner.log_file(runs[1]).read_text()


def test_a_ctrl_c_reaches_this_process_alone(entries):
  """The processes are in groups of their own."""
  (run,) = _runs(entries)[:1]
  command = _python('import os; print(os.getpgid(0) == os.getpid())')
  runner.execute([run], lambda run: command, LocalPool(1), lambda ending: ())
  assert runner.log_file(run).read_text() == 'True\n'


_DRIVER = """
import pathlib, sys
from trpo_tf.reproduction import plan
from trpo_tf.reproduction.local_pool import LocalPool
run = plan.PlannedRun('', '', '', 0, pathlib.Path(sys.argv[1]), (), None)
pool = LocalPool(1)
pool.submit(run, ['-S', '-c', sys.argv[2]])
while pool.busy:
  pool.endings()
"""


def test_processes_do_not_outlive_this_one(tmp_path):
  log = tmp_path / 'run.log'
  code = 'import os, time; print(os.getpid(), flush=True); time.sleep(1000)'
  driver = subprocess.Popen(
    [sys.executable, '-c', _DRIVER, str(tmp_path / 'run'), code],
    env=programs.environment(),
  )
  _until(lambda: log.exists() and log.read_text().endswith('\n'))
  process = pathlib.Path('/proc', log.read_text().strip(), 'cmdline')
  assert process.read_bytes()
  driver.kill()
  driver.wait()

  def ended():  # or a zombie, which has no command line
    try:
      return not process.read_bytes()
    except OSError:
      return True

  _until(ended)


def _until(condition):
  end = time.monotonic() + 60
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.01)


_COPY = 'import shutil; shutil.copytree({!r}, {!r})'


class _Fake:
  """Commands that put the prepared directory of a run in its place."""

  def __init__(self, folder, failing=()):
    self._folder, self._failing = folder, failing
    self.started = []

  def __call__(self, run):
    name = '_'.join(run.parts)
    self.started.append(name)
    if name in self._failing:
      return _python("print('out of luck'); raise SystemExit(2)")
    prepared = self._folder / name
    level = float(run.variant or 1)
    reproductions.write(run, [1000 * level] * _N, prepared)
    shutil.rmtree(run.directory, ignore_errors=True)
    return _python(_COPY.format(str(prepared), str(run.directory)))


def _campaign(table, entries, folder, failing=()):
  """What a campaign of one process starts and says; and it."""
  lines, fake = (
    [],
    _Fake(folder / f'prepared_{len(list(folder.iterdir()))}', failing),
  )
  campaign = Campaign(table, entries, LocalPool(1), lines.append)
  assert campaign.run(fake)
  return campaign, fake.started, lines


def test_campaign(table, entries, tmp_path):
  campaign, started, lines = _campaign(table, entries[:3], tmp_path)
  assert started == [
    'cartpole_natural_gradient_3_0',
    'cartpole_natural_gradient_0.1_0',
    'cartpole_vine_0',
    'cartpole_cma_0',
    'cartpole_vine_1',
    'cartpole_cma_1',
    'cartpole_natural_gradient_3_1',  # the better one, as soon as it is known
  ]
  assert not campaign.failures
  assert lines[0].startswith(
    f'7 runs, 0 of them finished; at most {7 * _N * 2000:,} env steps to go'
  )
  assert re.match(
    r'cartpole natural_gradient 3 0: reward_per_step 3, \d+ s; 1 of 7 runs '
    'done, about ',
    lines[1],
  )
  assert len(lines) == 8
  assert lines[-1].endswith('7 of 7 runs done, about 0 s left')


def test_campaign_goes_on_where_it_was(table, entries, tmp_path):
  sweep = entries[1].sweep
  reproductions.write(entries[0].variants[''][1], [1.0] * _N)
  reproductions.write(entries[0].variants[''][0], [1.0] * (_N - 1))
  reproductions.write(sweep[0], [1.0] * _N)
  _, started, lines = _campaign(table, entries[:2], tmp_path)
  assert started == [
    'cartpole_natural_gradient_0.1_0',
    'cartpole_vine_0',
    'cartpole_natural_gradient_0.1_1',
  ]
  assert lines[0].startswith('5 runs, 2 of them finished')
  _, started, lines = _campaign(table, entries[:2], tmp_path)
  assert not started
  assert lines == [
    '5 runs, 5 of them finished; at most 0 env steps to go, '
    'about 0 s on 1 process'
  ]


def test_a_decided_sweep_is_repeated_at_once(table, entries, tmp_path):
  for run in entries[1].sweep:
    reproductions.write(run, [float(run.variant)] * _N)
  _, started, _ = _campaign(table, entries[1:2], tmp_path)
  assert started == ['cartpole_natural_gradient_3_1']


def test_campaign_with_failures(table, entries, tmp_path):
  failing = ('cartpole_natural_gradient_3_0', 'cartpole_vine_1')
  campaign, started, lines = _campaign(table, entries[:2], tmp_path, failing)
  assert started[-1] == 'cartpole_natural_gradient_0.1_1'  # of what is left
  assert ['_'.join(e.run.parts) for e in campaign.failures] == list(failing)
  log = tmp_path / 'out/cartpole/natural_gradient/3/0.log'
  assert lines[1].startswith(
    'cartpole natural_gradient 3 0: FAILED after 0 s: out of luck '
    f'({log}); 0 of 5 runs done, 1 failed, about '
  )
  assert lines[-1].endswith('3 of 5 runs done, 2 failed, about 0 s left')
  # they are tried again, and the sweep decides anew
  campaign, started, _ = _campaign(table, entries[:2], tmp_path)
  assert started == [
    'cartpole_natural_gradient_3_0',
    'cartpole_vine_1',
    'cartpole_natural_gradient_3_1',
  ]
  assert not campaign.failures


def test_a_process_that_ends_too_early_has_failed(table, entries, tmp_path):
  campaign = Campaign(table, entries[:1], LocalPool(2), lambda line: None)
  assert campaign.run(lambda run: _python(''))
  assert [e.failure for e in campaign.failures] == [
    'it ended before its last iteration'
  ] * 2
