"""Environments in worker processes give the bytes of one process."""

import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import gymnasium
import numpy as np
import programs
import pytest
import tiny

import trpo_tf
from trpo_tf import config
from trpo_tf.distributed import training as distributed
from trpo_tf.errors import UserError
from trpo_tf.experiment import backend, trained
from trpo_tf.experiment.evaluation import evaluate

DIAL = 'toy_envs:Dial-v0'
TINY = {k: v for k, v in tiny.SETTINGS.items() if k != 'task'}
TINY |= dict(batch_steps=90, num_slots=3, check_env=False)


def resolved(**settings):
  return backend.resolve(config.from_settings(TINY | settings))


def sampled(sampler, made, count=1, deterministic=False):
  theta = made.policy().initial_parameters(np.random.default_rng(0))
  normalizer = made.normalizer()
  batches = [
    sampler.sample(theta, normalizer, i, deterministic) for i in range(count)
  ]
  return [
    field.tobytes() if isinstance(field, np.ndarray) else field
    for batch in batches
    for field in vars(batch).values()
  ]


def assert_ended(process_ids):
  assert process_ids
  end = time.monotonic() + 20
  while any(_runs(number) for number in process_ids):
    assert time.monotonic() < end
    time.sleep(0.01)


def _runs(process_id):
  """Whether a process is there, and not a zombie."""
  path = pathlib.Path(f'/proc/{process_id}/stat')
  try:
    return path.read_text().rpartition(')')[2].split()[0] not in 'ZX'
  except OSError:
    return False


def _children(process_id):
  found = []
  for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
    try:
      state = path.read_text().rpartition(')')[2].split()
    except OSError:
      continue
    if int(state[1]) == process_id:
      found.append(int(path.parent.name))
  return found


@pytest.mark.slow
@pytest.mark.parametrize('task', ['CartPole-v1', DIAL])
def test_a_resumed_run_has_the_bytes_of_one_process(task, tmp_path):
  def train(name, iterations, workers):
    for _ in trpo_tf.train(
      **TINY,
      task=task,
      run_dir=tmp_path / name,
      total_iterations=iterations,
      env_workers=workers,
    ):
      pass

  train('one', 3, workers=0)
  train('many', 2, workers=2)
  train('many', 3, workers=3)
  one, many = tmp_path / 'one', tmp_path / 'many'
  assert programs.progress(one) == programs.progress(many)
  assert len(programs.progress(one)) == 3
  assert programs.final_state(one) == programs.final_state(many)
  policy = trained.load_policy(one, trust_task=True)
  for deterministic in (False, True):
    found = [
      evaluate(
        policy.backend.configured(
          config.from_settings(TINY | dict(task=task, env_workers=workers))
        ),
        policy.theta,
        policy.normalizer,
        5,
        deterministic,
      )[0].returns.tolist()
      for workers in (0, 2)
    ]
    assert found[0] == found[1] and len(found[0]) == 5


@pytest.mark.slow
def test_whole_episodes_and_more_processes_than_slots():
  batches = []
  for workers in (0, 2, 8):
    made = resolved(task=DIAL, whole_episodes=True, env_workers=workers)
    sampler = made.paths()
    batches.append(sampled(sampler, made, count=2))
    if workers:
      process_ids = sampler._workers.process_ids
      assert len(process_ids) == min(workers, 3)
      sampler.close()
      assert_ended(process_ids)
  assert batches[0] == batches[1] == batches[2]


def test_a_fault_in_a_worker_is_that_of_one_process():
  for fault in ('odd', 'exit'):
    lines = []
    for workers in (0, 1):
      made = resolved(
        task=DIAL, env_kwargs=json.dumps(dict(fault=fault)), env_workers=workers
      )
      sampler = made.paths()
      with pytest.raises(UserError) as caught:
        sampled(sampler, made)
      lines.append(str(caught.value))
      if workers:
        process_ids = sampler._workers.process_ids
        sampler.close()
        assert_ended(process_ids)
        where = str(caught.value.__cause__)
        assert 'toy_envs.py' in where and 'in step' in where
    assert lines[0] == lines[1] and '\n' not in lines[0]
  assert 'env.step failed (SystemExit: 3; --verbosity=1' in lines[0]


@pytest.mark.slow
def test_the_programs_say_it_in_one_line_or_with_the_traceback(tmp_path):
  (tmp_path / 'toy_envs.py').symlink_to(programs.ROOT / 'tests/toy_envs.py')
  flags = [f'--{k}={v}' for k, v in TINY.items() if not isinstance(v, tuple)]
  fault = [*flags, f'--task={DIAL}', '--env_kwargs={"fault": "odd"}']
  one, many, verbose = programs.run(
    'train',
    [
      [*fault, '--run_dir=one'],
      [*fault, '--run_dir=many', '--env_workers=2'],
      [*fault, '--run_dir=verbose', '--env_workers=2', '--verbosity=1'],
    ],
    tmp_path,
  )
  assert one.code == many.code == verbose.code == 2
  line = many.stderr.strip().splitlines()[-1]
  assert one.stderr.strip().splitlines()[-1] == line
  assert 'env.step failed (Odd: motor burnt; --verbosity=1' in line
  assert 'Traceback' not in many.stderr and 'toy_envs.py' not in many.stderr
  assert "raise Odd('motor', 'burnt')" in verbose.stderr


_INTERRUPTED = """
import os
import signal
import sys
if 'spawn_main' in ' '.join(sys.orig_argv):
  os.kill(os.getpid(), signal.SIGINT)
  os.kill(os.getpid(), signal.SIGTERM)
"""


def test_workers_start_although_ctrl_c_comes(tmp_path, monkeypatch):
  """Until they serve, the signals wait; the program handles them."""
  (tmp_path / 'sitecustomize.py').write_text(_INTERRUPTED)  # run at their start
  monkeypatch.setenv('PYTHONPATH', str(tmp_path))
  made = resolved(task=DIAL, env_workers=2)
  sampler = backend.make_sampler(made)
  sampled(sampler, made)
  assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
  sampler.close()


def test_workers_that_cannot_start_or_are_killed():
  def error(fault):
    made = resolved(
      task=DIAL, env_kwargs=json.dumps(dict(fault=fault)), env_workers=1
    )
    with pytest.raises(UserError) as caught:
      sampled(made.paths(), made)
    assert '\n' not in str(caught.value)
    return str(caught.value)

  before = set(_children(os.getpid()))
  assert 'the environment cannot be made: OSError: no licence' in error('make')
  message = error('kill')
  assert 'was killed by SIGKILL' in message
  assert 'the same command continues' in message
  assert message.startswith(f'--task={DIAL}: worker process ')
  spare = set(_children(os.getpid())) - before
  names = [pathlib.Path(f'/proc/{n}/cmdline').read_text() for n in spare]
  assert all('resource_tracker' in name for name in names), names


@pytest.mark.parametrize(
  'settings, says',
  [
    (dict(task='Hopper-v5'), '--env_workers is for environments of Gymnasium'),
    (
      dict(task='CartPole-v1', sampler='vine', rollout_set_size=4),
      '--env_workers: the vine clones .*--sampler=single_path',
    ),
    (dict(task='CartPole-v1', env_workers=9_999), 'too many for'),
  ],
)
def test_what_workers_cannot_do_is_one_line(settings, says):
  with pytest.raises(UserError, match=says):
    backend.make_sampler(resolved(**(dict(env_workers=2) | settings)))


_SCRIPT = """
import sys
import gymnasium
import toy_envs
import trpo_tf
from trpo_tf.sampling.gym import group  # what a worker imports

class Own(toy_envs.Dial):
  def step(self, action):
    assert 'tensorflow' not in sys.modules or WORKERS == 0
    return super().step(action)

gymnasium.register('Own-v0', Own, max_episode_steps=30)
for WORKERS in (0, 2):
  runs = trpo_tf.train(
    task='Own-v0', batch_steps=40, num_slots=2, hidden_sizes=(4,),
    value_hidden_sizes=(), value_epochs=1, total_iterations=1,
    env_workers=WORKERS, check_env=False,
  )
  print(next(runs).batch.observations.sum())
"""


@pytest.mark.slow
def test_an_environment_of_the_program_itself(tmp_path):
  """It is sent to workers, which do not import the program or TensorFlow."""
  (tmp_path / 'script.py').write_text(_SCRIPT)
  done = subprocess.run(
    [sys.executable, 'script.py'],
    env=programs.environment(programs.ROOT / 'tests'),
    cwd=tmp_path,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  one, many = done.stdout.split()
  assert one == many


def test_an_environment_that_cannot_be_sent():
  lock = threading.Lock()

  def make():
    with lock:
      return gymnasium.make('CartPole-v1')

  gymnasium.register('Locked-v0', make)
  made = resolved(task='Locked-v0', env_workers=1)
  with pytest.raises(
    UserError, match='cannot be sent .* register it in a'
  ) as e:
    made.paths()
  assert '\n' not in str(e.value)


@pytest.mark.slow
def test_shards_have_workers_of_their_own():
  states = []
  for workers in (0, 1):
    settings = TINY | dict(
      task=DIAL,
      num_shards=2,
      num_slots=2,
      value_minibatch=64,
      env_workers=workers,
    )
    made = config.from_settings(settings)
    engine = distributed.local.LocalEngine(made)
    run = distributed.on_engine(made, engine)
    _, second = itertools.islice(run.iterations(), 2)
    states.append(second.state.theta.tobytes())
    run.sampler.close()
  assert states[0] == states[1]


_SLOW = """
import time
import gymnasium
import numpy as np

EVENTS = []


class Slow(gymnasium.Env):
  observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
  action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
  begun = []

  def reset(self, *, seed=None, options=None):
    self.breaks, self.steps = not Slow.begun, 0
    Slow.begun.append(self)
    return np.zeros(2, np.float32), {}

  def step(self, action):
    self.steps += 1
    if self.breaks and self.steps == 2:
      raise OSError('burnt')
    EVENTS.append((self, 'begin'))
    time.sleep(0.01)
    EVENTS.append((self, 'end'))
    return np.zeros(2, np.float32), 0.0, False, False, {}

  def close(self):
    EVENTS.append((self, 'close'))


gymnasium.register('Slow-v0', Slow, max_episode_steps=50)
"""


def test_a_shard_that_fails_closes_no_environment_in_a_step(
  tmp_path, monkeypatch
):
  (tmp_path / 'slow_envs.py').write_text(_SLOW)
  monkeypatch.syspath_prepend(tmp_path)
  settings = TINY | dict(
    task='slow_envs:Slow-v0', num_shards=2, num_slots=2, batch_steps=80
  )
  made = config.from_settings(settings | dict(value_minibatch=64))
  engine = distributed.local.LocalEngine(made)
  run = distributed.on_engine(made, engine)
  with pytest.raises(UserError, match='burnt'):
    next(run.iterations())
  run.sampler.close()
  events = sys.modules['slow_envs'].EVENTS
  for env in {env for env, _ in events}:
    own = [event for other, event in events if other is env]
    assert own[-1] == 'close' and own.count('begin') == own.count('end')
    assert own.index('close') == len(own) - 1


def _training(folder):
  """Starts a long run; returns it and its children, once it has iterated."""
  flags = [f'--{k}={v}' for k, v in TINY.items() if not isinstance(v, tuple)]
  process = programs.start(
    'train',
    *flags,
    f'--task={DIAL}',
    '--env_kwargs={"seconds": 0.002}',
    '--env_workers=2',
    '--total_env_steps=1000000',
    f'--run_dir={folder}',
    '--noprogress',
    cwd=programs.ROOT / 'tests',
    start_new_session=True,
  )
  path, end = folder / 'progress.csv', time.monotonic() + 120
  while not path.exists() or path.read_bytes().count(b'\n') < 3:
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < end
    time.sleep(0.05)
  return process, _children(process.pid)


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_of_the_whole_group_end_a_run_as_in_one_process(
  number, tmp_path
):
  process, children = _training(tmp_path)
  os.killpg(process.pid, number)
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 3, errors
  assert 'Traceback' not in errors
  assert_ended(children)


@pytest.mark.slow
def test_workers_end_with_a_killed_program(tmp_path):
  process, children = _training(tmp_path)
  process.kill()
  _, errors = process.communicate(timeout=60)
  assert_ended(children)
  assert 'Traceback' not in errors


def test_workers_import_nothing_from_the_working_directory(
  tmp_path, monkeypatch
):
  (tmp_path / 'multiprocessing.py').write_text('raise SystemExit(3)')
  monkeypatch.chdir(tmp_path)
  before = os.environ.get('PYTHONSAFEPATH')
  made = resolved(task=DIAL, env_workers=1)
  sampler = made.paths()
  assert sampled(sampler, made)
  sampler.close()
  assert os.environ.get('PYTHONSAFEPATH') == before
