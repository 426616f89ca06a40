"""Runs as tasks of a real Ray cluster, which has this machine as its node."""

import contextlib
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time

import programs
import pytest
import reproductions

from trpo_tf.distributed import ray_cluster
from trpo_tf.errors import UserError
from trpo_tf.reproduction import plan, ray_pool, runner
from trpo_tf.reproduction.local_pool import LocalPool
from trpo_tf.reproduction.ray_pool import RayPool

pytest.importorskip('ray')
pytestmark = pytest.mark.slow
_PATIENCE = 300  # seconds


def _processes(text):
  """The ids of the processes with a text in their command line."""
  found = set()
  for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
    with contextlib.suppress(OSError):
      if text.encode() in path.read_bytes():
        found.add(int(path.parent.name))
  return found


@pytest.fixture(scope='module')
def cluster():
  """Two cores; other processes of the tests can join it."""
  handler = signal.getsignal(signal.SIGTERM)
  # otherwise its tasks wait for whatever else this machine does
  os.environ['RAY_worker_niceness'] = '0'
  with ray_cluster.connect('local', 2) as connected:
    assert signal.getsignal(signal.SIGTERM) is handler
    assert connected.cores == 2 and connected.nodes == (platform.node(),)
    import ray

    session = os.path.basename(ray._private.worker._global_node._session_dir)
    assert _processes(session)
    yield connected
  assert not _processes(session)


@pytest.fixture
def pool(cluster):
  return RayPool(cluster)


@pytest.fixture
def runs(tmp_path):
  table = reproductions.table(tmp_path / 'flagfiles')
  entries = reproductions.entries(table, tmp_path / 'out')
  return [run for entry in entries for run in entry.runs(None)]


def _wait(condition):
  end = time.monotonic() + _PATIENCE
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.02)


def _execute(runs, codes, pool, stops=lambda: 0):
  """Runs a program for each run; returns the endings, and if all ended."""
  endings = {}

  def on_end(ending):
    endings[ending.run] = ending
    return ()

  arguments = {
    run: ['-S', '-c', code] for run, code in zip(runs, codes, strict=True)
  }
  end = time.monotonic() + _PATIENCE

  def requests():
    assert time.monotonic() < end
    return stops()

  done = runner.execute(runs, arguments.__getitem__, pool, on_end, requests)
  return [endings.get(run) for run in runs], done


def _text(run):
  with contextlib.suppress(FileNotFoundError):
    return runner.log_file(run).read_text()
  return ''


_PAIR = """
import pathlib, sys, time
here = pathlib.Path({!r})
(here / sys.argv[1]).touch()
while not (here / sys.argv[2]).exists(): time.sleep(0.01)
"""


def test_endings(pool, runs, tmp_path, monkeypatch):
  """The first two only end if they run side by side."""
  monkeypatch.setenv('PYTHONPATH', str(tmp_path / 'modules'))
  monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
  pair = _PAIR.format(str(tmp_path))
  codes = [
    f'import sys; sys.argv = ["", "a", "b"]{pair}',
    f'import sys; sys.argv = ["", "b", "a"]{pair}',
    "print('before'); print('  the reason \\n'); raise SystemExit(2)",
    'raise SystemExit(7)',
    "import os; print(os.environ['PYTHONPATH'], os.getcwd(), "
    "os.environ.get('OMP_NUM_THREADS'))",
  ]
  endings, done = _execute(runs[:5], codes, pool)
  assert done and not pool.busy
  failures = [ending.failure for ending in endings]
  assert failures == ['', '', 'the reason', 'exit code 7', '']
  assert [ending.processes for ending in endings] == [1] * 5
  node = f'--- begun on {platform.node()}\n'
  assert _text(runs[2]) == f'{node}before\n  the reason \n\n'
  there = f'{tmp_path}/modules {os.getcwd()} None\n'
  assert _text(runs[4]) == node + there


# In its first process it kills `victim`; the second one looks after the first,
# which may be a zombie, without a command line, as init may not wait for it.
_KILLED = """
import os, pathlib, signal, time
first = pathlib.Path({path!r})
if not first.exists():
  first.write_text(str(os.getpid()))
  os.kill({victim}, signal.SIGKILL)
  time.sleep(1000)
try:
  alive = pathlib.Path('/proc', first.read_text(), 'cmdline').read_bytes()
except OSError:
  alive = b''
print('not alone' if alive else 'alone')
"""


def test_killed_workers_and_processes_begin_again(pool, runs, tmp_path):
  victims = 'os.getppid()', 'os.getpid()'
  codes = [
    _KILLED.format(path=str(tmp_path / victim), victim=victim)
    for victim in victims
  ]
  endings, done = _execute(runs[:2], codes, pool)
  assert done
  assert [(e.failure, e.processes) for e in endings] == [('', 2)] * 2
  for run in runs[:2]:
    assert _text(run).endswith('\nalone\n')


def test_what_is_killed_every_time_has_failed(pool, runs):
  code = 'import os; os.kill(os.getpid(), 9)'
  (ending,), done = _execute(runs[:1], [code], pool)
  assert done and ending.processes == 6
  assert ending.failure == (
    f'process killed on node {platform.node()}: see whether it has enough '
    'memory'
  )


# Ends well on SIGTERM after a while, or never.
_STOPPABLE = """
import signal, sys, time
def stop(number, frame):
  print('asked', flush=True)
  time.sleep({seconds})
  print('stopped well', flush=True)
  sys.exit(3)
signal.signal(signal.SIGTERM, stop)
print('ready', {name!r}, flush=True)
time.sleep(1000)
"""


def test_a_stop_is_passed_on_and_waited_for(pool, runs, tmp_path):
  name = str(tmp_path)
  code = _STOPPABLE.format(seconds=0.3, name=name)

  def stops():
    return int(sum('ready' in _text(run) for run in runs[:4]) == 2)

  endings, done = _execute(runs[:4], [code] * 4, pool, stops)
  assert not done and endings == [None] * 4
  texts = sorted(map(_text, runs[:4]))
  assert texts[:2] == ['', '']  # these did not start
  for text in texts[2:]:
    assert text.endswith('asked\nstopped well\n')
  assert not _processes(name)


def test_a_stop_as_the_process_starts_is_passed_on(runs, monkeypatch):
  (run, *_), start = runs, ray_pool._start
  log = runner.log_file(run)
  log.parent.mkdir(parents=True)

  def stopped_start(*arguments):
    process = start(*arguments)
    _wait(lambda: 'ready' in _text(run))
    signal.raise_signal(signal.SIGINT)
    return process

  monkeypatch.setattr(ray_pool, '_start', stopped_start)
  code = _STOPPABLE.format(seconds=0.3, name='')
  arguments = ['-S', '-c', code], os.getcwd(), run.directory, log, {}
  assert ray_pool._run(*arguments)[1] == 'stopped well'
  assert _text(run).endswith('asked\nstopped well\n')
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_stop_kills(pool, runs, tmp_path):
  name = str(tmp_path)
  code = _STOPPABLE.format(seconds=1000, name=name)

  def stops():
    return ('ready' in _text(runs[0])) + ('asked' in _text(runs[0]))

  assert _execute(runs[:1], [code], pool, stops) == ([None], False)
  _wait(lambda: not _processes(name))
  assert 'stopped well' not in _text(runs[0])


_DRIVER = """
import pathlib, sys
from trpo_tf.distributed import ray_cluster
from trpo_tf.reproduction import plan
from trpo_tf.reproduction.ray_pool import RayPool
run = plan.PlannedRun('', '', '', 0, pathlib.Path(sys.argv[1]), (), None)
with ray_cluster.connect(sys.argv[2]) as cluster:
  pool = RayPool(cluster)
  pool.submit(run, ['-S', '-c', sys.argv[3]])
  while pool.busy:
    pool.endings()
"""


def test_a_second_stop_at_once_kills(pool, runs, tmp_path):
  name = str(tmp_path)
  code = _STOPPABLE.format(seconds=1000, name=name)

  def stops():
    return 2 * ('ready' in _text(runs[0]))

  assert _execute(runs[:1], [code], pool, stops) == ([None], False)
  _wait(lambda: not _processes(name))


def test_processes_do_not_outlive_the_program(cluster, tmp_path):
  log, name = tmp_path / 'run.log', 'of a killed driver'
  code = _STOPPABLE.format(seconds=1000, name=name)
  driver = subprocess.Popen(
    [sys.executable, '-c', _DRIVER, tmp_path / 'run', cluster.address, code],
    env=programs.environment(),
  )
  _wait(lambda: log.exists() and 'ready' in log.read_text())
  assert len(_processes(name)) == 2
  driver.kill()
  driver.wait()
  _wait(lambda: not _processes(name))


def test_every_node_must_see_the_directory(cluster, tmp_path, monkeypatch):
  ray_cluster.require_shared(tmp_path)
  assert not list(tmp_path.iterdir())
  # a name that each process takes for its own working directory
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError) as caught:
    ray_cluster.require_shared(pathlib.Path('/proc/self/cwd'))
  assert str(caught.value) == (
    f'/proc/self/cwd is not seen by {platform.node()}: put it on a file system '
    'that all nodes mount at the same path'
  )
  assert not list(tmp_path.iterdir())


_OTHER_VERSION = """
import sys, ray
from trpo_tf.distributed import ray_cluster
ray.__version__ = '1.0'
with ray_cluster.connect(sys.argv[1]):
  pass
"""


def test_the_cluster_must_have_the_version_of_ray(cluster):
  done = subprocess.run(
    [sys.executable, '-c', _OTHER_VERSION, cluster.address],
    env=programs.environment(),
    capture_output=True,
    text=True,
  )
  line = done.stderr.splitlines()[-1]
  assert f'UserError: --ray_address={cluster.address}: ' in line
  assert 'Version mismatch' in line and 'Ray: 1.0' in line


# Its first process waits for a file; a second one would be told by the log.
_WAITING = """
import pathlib, time
print('ready', flush=True)
while not pathlib.Path({path!r}).exists():
  time.sleep(0.01)
"""


def test_a_node_that_dies(pool, runs, tmp_path):
  """A second node takes the third run. Once it is dead, a core is needed."""
  import ray

  go = tmp_path / 'go'
  address = ray.get_runtime_context().gcs_address
  command = pathlib.Path(sys.executable).with_name('ray')
  flags = f'--address={address}', '--num-cpus=1', '--block'
  with open(tmp_path / 'node.log', 'w') as log:
    node = subprocess.Popen(
      [command, 'start', *flags, '--disable-usage-stats'],
      stdout=log,
      stderr=subprocess.STDOUT,
    )
  try:
    _wait(lambda: ray.cluster_resources()['CPU'] == 3)
    names = [*ray_cluster.on_each_node(os.path.exists, '/')]
    assert len({*names}) == 2  # though the machine has one name
    for run in runs[:3]:
      pool.submit(run, ['-S', '-c', _WAITING.format(path=str(go))])
    _wait(lambda: all('ready' in _text(run) for run in runs[:3]))
    (raylet,) = [
      p for p in _processes('raylet/raylet') if _parent(p) == node.pid
    ]
    os.kill(raylet, signal.SIGKILL)
    _wait(lambda: sum(n['Alive'] for n in ray.nodes()) == 1)
    go.touch()
    endings = []
    while pool.busy:
      endings += pool.endings()
  finally:
    node.terminate()
    node.wait()
  assert not any(ending.failure for ending in endings)
  assert sorted(ending.processes for ending in endings) == [1, 1, 2]


def test_every_node_must_have_the_versions_of_here(cluster, monkeypatch):
  theirs = platform.python_version()
  monkeypatch.setattr(platform, 'python_version', lambda: '3.99.1')
  with pytest.raises(UserError) as caught:
    ray_cluster._require_same_versions()
  text = str(caught.value)
  assert f'differ: Python {theirs} on {platform.node()}; here Ray ' in text
  assert 'Python 3.99.1' in text and '\n' not in text


_FLAGS = (
  *(flag for flag in programs.TINY if flag != '--noprogress'),
  '--checkpoint_seconds=0',
  '--total_iterations=30',
  '--total_env_steps=1000000',
  '--notensorboard',
)


def _rows(run_dir):
  with contextlib.suppress(FileNotFoundError):
    return (run_dir / 'progress.csv').read_bytes().count(b'\n') - 1
  return 0


def _parent(process):
  status = pathlib.Path(f'/proc/{process}/stat').read_text()
  return int(status.rpartition(')')[2].split()[1])


def _planned(directory):
  flags = *_FLAGS, f'--run_dir={directory}'
  config = reproductions.parse(())
  return plan.PlannedRun('task', 'method', '', 0, directory, flags, config)


def test_training_that_is_killed_ends_with_the_same_bytes(pool, tmp_path):
  here, there = _planned(tmp_path / 'here'), _planned(tmp_path / 'there')
  ends = []

  def on_end(ending):
    ends.append((ending.run, ending.failure, ending.processes))
    return ()

  def arguments(run):
    threads = '--tf_threads=1', '--sampler_threads=1'
    return ['-m', 'trpo_tf.bin.train', *run.flags, *threads, '--noprogress']

  runner.execute([here], arguments, LocalPool(1), on_end)
  pool.submit(there, arguments(there))
  _wait(lambda: _rows(there.directory) >= 2)
  (process,) = _processes(f'--run_dir={there.directory}')
  os.kill(_parent(process), signal.SIGKILL)
  while pool.busy:
    for ending in pool.endings():
      on_end(ending)
  assert ends == [(here, '', 1), (there, '', 2)]
  assert 'continuing after' in _text(there)
  progress = programs.progress(there.directory)
  assert progress == programs.progress(here.directory)
  assert len(progress) == 30
  final = [programs.final_state(run.directory) for run in (here, there)]
  assert final[0] == final[1]


@pytest.mark.crash
def test_a_sweep_that_is_stopped_and_continued(cluster, tmp_path):
  """And one of its cells fails."""
  flags = (
    *_FLAGS,
    '--total_iterations=6',
    '--grid=value_learning_rate=0.001,1000',
    f'--out={tmp_path}/out',
    f'--ray_address={cluster.address}',
  )
  out = tmp_path / 'out'
  first = out / 'value_learning_rate=0.001/0'
  spoiled = out / 'value_learning_rate=1000.0/0'
  spoiled.mkdir(parents=True)
  (spoiled / 'mine.txt').write_text('not of a run')
  process = programs.start('sweep', *flags)
  _wait(lambda: _rows(first) >= 1 or process.poll() is not None)
  process.send_signal(signal.SIGINT)
  stopped = programs.finish(process, _PATIENCE)
  assert not _processes(f'--run_dir={out}')
  if _rows(first) < 6:  # else it was done before
    assert stopped.code == 3, stopped
    assert 'the same command continues' in stopped.stdout
    assert not (out / 'table.md').exists()
  continued = programs.finish(programs.start('sweep', *flags), _PATIENCE)
  assert continued.code == 1, continued
  assert 'value_learning_rate=1000.0 0: FAILED after' in continued.stdout
  assert 'holds other files and no run of trpo_tf' in continued.stdout
  assert f'({spoiled}.log)' in continued.stdout
  assert '1 of 2 runs done, 1 failed' in continued.stdout
  table = (out / 'table.md').read_text()
  assert '| InvertedPendulum-v5 | 0.001 | 1 | 6 | 1.2k | ' in table
  assert (out / 'curves.png').read_bytes()[:4] == b'\x89PNG'
