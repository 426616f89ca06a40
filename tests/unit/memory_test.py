"""Estimates of a run's memory, against the arrays that it makes."""

import subprocess
import sys

import numpy as np
import programs
import pytest

from trpo_tf import config
from trpo_tf.bin import flags as flags_lib
from trpo_tf.errors import UserError
from trpo_tf.experiment import backend, evaluation, memory
from trpo_tf.experiment.training import Training
from trpo_tf.policies.normalizer import initial_normalizer
from trpo_tf.sampling import threads

_SMALL = dict(task='Hopper-v5', batch_steps=4000, num_slots=4)
_VINE = dict(
  sampler='vine',
  batch_steps=40,
  num_slots=4,
  rollout_set_size=20,
  branch_actions=30,
  branch_trials=4,
  branch_length=10,
)
# VmHWM counts from the start of the program; ru_maxrss counts the process that
# started it too.
_MEASURED = r"""
import re, runpy
try:
  runpy.run_module('trpo_tf.bin.train', run_name='__main__', alter_sys=True)
finally:
  with open('/proc/self/status') as file:
    print(re.search(r'VmHWM:\s*(\d+) kB', file.read())[1])
"""


def _parts(**values):
  task = backend.resolve(config.from_settings(_SMALL | values))
  return {part.name: part for part in memory.estimate(task)}


def _bytes(value, seen):
  """Bytes of all arrays in a tree, each once."""
  if isinstance(value, np.ndarray):
    base = value if value.base is None else value.base
    if id(base) in seen or not isinstance(base, np.ndarray):
      return 0
    seen[id(base)] = base
    return base.nbytes
  if isinstance(value, dict):
    return sum(_bytes(item, seen) for item in value.values())
  return 0


def _batch(**values):
  task = backend.resolve(config.from_settings(_SMALL | values))
  theta = task.policy().initial_parameters(np.random.default_rng(0))
  size = task.policy().observation_size
  sampler = backend.make_sampler(task)
  return sampler.sample(theta, initial_normalizer(size), 0)


@pytest.mark.parametrize(
  'values',
  [
    {},
    dict(task='Humanoid-v5', batch_steps=400),
    dict(whole_episodes=True, time_limit=300, batch_steps=400),
  ],
)
def test_steps_of_a_batch(values):
  """The noise of the actions is not in the batch, but as large as they are."""
  batch = _batch(**values)
  measured = _bytes(vars(batch), {}) + batch.actions.base.nbytes
  estimated = _parts(**values)['the steps of a batch'].size
  assert measured / 2 < estimated < 2 * measured


def test_branches():
  values = _VINE | dict(baseline='none')
  batch = _batch(**values)
  names = 'returns', 'lengths', 'ends'
  noise = 8 * 20 * 4 * 10 * batch.actions.shape[-1]
  ends = [batch.final_observations, batch.first_actions, batch.log_q]
  ends += [getattr(batch, f'branch_{name}') for name in names]
  measured = noise + sum(array.nbytes for array in ends)
  estimated = _parts(**values)['the branches'].size - 20 * memory._PER_CLONE
  assert measured / 2 < estimated < 2 * measured


def test_parameters():
  policy = Training(config.from_settings(_SMALL)).policy
  assert _parts()['the policy'].size == memory._PER_PARAMETER * (
    policy.network.num_parameters
  )


_PONG = dict(task='atari/pong')
# settings that no machine has room for, and the flags that must be named
_TOO_LARGE = [
  (dict(num_slots=10_000, batch_steps=10**9), '--batch_steps'),
  (dict(batch_steps=2**31 - 8), '--batch_steps'),
  (dict(hidden_sizes=(10**6, 10**6)), '--hidden_sizes'),
  (dict(value_hidden_sizes=(10**6, 10**6)), '--value_hidden_sizes'),
  (_PONG | dict(conv_filters=(10**6, 10**6)), '--conv_filters'),
  (dict(value_minibatch=2**31 - 1), '--value_minibatch'),
  (_VINE | dict(branch_length=2**31 - 1), '--branch_length'),
  (_VINE | dict(branch_trials=2**31 - 1), '--branch_trials'),
  (_VINE | dict(branch_actions=2**31 - 1), '--branch_actions'),
  (dict(whole_episodes=True, time_limit=2**31 - 1), '--time_limit'),
  (
    dict(method='cem', whole_episodes=True, num_slots=10_000)
    | dict(batch_steps=10_000, hidden_sizes=(2000, 2000)),
    '--num_slots',
  ),
]


@pytest.mark.parametrize('values, flag', _TOO_LARGE)
def test_what_does_not_fit_is_refused_before_it_is_built(values, flag):
  with pytest.raises(UserError) as caught:
    Training(config.from_settings(_SMALL | values))
  message = str(caught.value)
  assert 'the run needs about' in message and '\n' not in message
  assert flag in message.partition(': lower ')[2]


def test_episodes_that_do_not_fit_are_refused_before_they_are_played():
  """Their run fits, as it has four slots."""
  settings = config.from_settings(_SMALL | dict(time_limit=10**6))
  made = backend.resolve(settings)
  memory.check(made)
  policy = made.policy()
  theta = policy.initial_parameters(np.random.default_rng(0))
  normalizer = initial_normalizer(policy.observation_size)
  text = 'the evaluation needs about .*of memory.*: lower '
  with pytest.raises(UserError, match=f'{text}--episodes$'):
    evaluation.evaluate(made, theta, normalizer, 10_000, True)
  often = _SMALL | dict(eval_every_env_steps=1, eval_episodes=10_000)
  often |= dict(time_limit=10**6)
  with pytest.raises(UserError, match=f'{text}--eval_episodes$'):
    Training(config.from_settings(often))


@pytest.mark.slow
def test_the_smallest_run(tmp_path):
  """Most of its memory is the program's."""
  flags = [flag for flag in programs.TINY if flag != '--noprogress']
  more = '--noprogress', '--total_env_steps=600', f'--run_dir={tmp_path}/run'
  command = [sys.executable, '-c', _MEASURED, *flags, *more]
  result = subprocess.run(
    command, env=programs.environment(), capture_output=True, check=True
  )
  measured = 1024 * int(result.stdout.splitlines()[-1])
  task = backend.resolve(flags_lib.parse(flags))
  estimated = sum(part.size for part in memory.estimate(task))
  assert measured / 2 < estimated < 2 * measured


def test_the_machine_has_some_memory():
  assert 10**8 < memory.available() < 10**14


@pytest.mark.parametrize('count', [100_000, 2**31 - 1])
def test_threads_beyond_the_machine(count):
  text = rf'--sampler_threads={count} is too many for \d+ core'
  settings = config.from_settings(_SMALL | dict(sampler_threads=count))
  with pytest.raises(UserError, match=text):
    Training(settings)
  with pytest.raises(UserError, match=f'--tf_threads={count} is too many'):
    threads.thread_count('--tf_threads', count)


def test_threads_that_the_machine_bears():
  cores = threads.available_cores()
  assert threads.thread_count('--tf_threads', 0) == cores
  assert threads.thread_count('--tf_threads', 16 * cores) == 16 * cores


def test_the_advantages_of_pairs():
  """The matrix of the regression at least, if they are asked for."""
  values = _VINE | dict(vine_objective='every_step', gamma=0.9)
  name = 'the advantages of pairs'
  assert name not in _parts(**values)
  assert _parts(**values, amortized_advantage=True)[name].size > 8 * 2000**2


@pytest.mark.parametrize(
  ('changes', 'workers', 'flag'),
  [
    (dict(sampler_threads=3), 3, '--sampler_threads'),
    (
      dict(sampler_threads=3, num_shards=8, value_minibatch=80),
      8,
      '--num_shards',
    ),
  ],
)
def test_workers_of_a_game(changes, workers, flag):
  part = _parts(task='atari/pong', num_slots=16, batch_steps=1600, **changes)
  assert part['the workers'].size == workers * memory._PER_WORKER
  assert part['the workers'].flags == (flag,)
