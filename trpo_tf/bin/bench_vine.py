"""Measures the native vine: speed, its limit, its rivals, memory, variance.

  python -m trpo_tf.bin.bench_vine --task=Hopper-v5 --json=FILE

Prints tables, and writes FILE and a picture next to it. All numbers come from
one run on this machine, and ratios from alternating pairs of timings. The speed
limit is the bare physics, which runs without MuJoCo's profiling clock, as the
vine does; the rivals run as they ship.
"""

import time
from collections.abc import Iterator
from typing import Any

from absl import flags as absl_flags
from rich.console import Console

from trpo_tf.bin import flags
from trpo_tf.experiment import result_files

_TASK = absl_flags.DEFINE_string('task', 'Hopper-v5', 'a native task')
_JSON = absl_flags.DEFINE_string(
  'json', 'runs/bench_vine.json', 'where to write; the picture is FILE.png'
)
_RUN_DIR = absl_flags.DEFINE_string(
  'run_dir',
  '',
  'a training run of the task, for whose policy the variance is measured too',
)


def _count(name: str, default: int, help: str, least: int = 1):
  return absl_flags.DEFINE_integer(name, default, help, lower_bound=least)


_STATES = _count('states', 64, 'states from which branches start, N')
_ACTIONS = _count('actions', 4, 'first actions tried in each state, K')
_TRIALS = _count('trials', 1, 'noise sequences of each action, M')
_HORIZON = _count('horizon', 50, 'env steps of a branch, L')
_THREADS = _count('threads', 0, 'threads; 0: all cores', 0)
_PAIRS = _count('pairs', 21, 'alternating timings of each ratio', 3)
_VARIANCE_STATES = _count('variance_states', 32, 'states of the variances', 2)
_SEQUENCES = _count(
  'noise_sequences', 64, 'noise sequences of each variance', 2
)
_HORIZONS = (10, 50, 100)  # of the variances


def _measure(console: Console) -> Iterator[tuple[str, Any]]:
  """Yields the name and value of each part of the result once measured."""
  from trpo_tf.benchmarks import (
    vine_memory,
    vine_rivals,
    vine_speed,
    vine_update,
    vine_variance,
    vine_workload,
  )
  from trpo_tf.sampling.threads import thread_count

  policies = {'untrained': vine_workload.untrained(_TASK.value)}
  if _RUN_DIR.value:
    policies['trained'] = vine_workload.trained(_RUN_DIR.value, _TASK.value)
  threads = thread_count('--threads', _THREADS.value)
  base = dict(
    states=_STATES.value, actions=_ACTIONS.value, horizon=_HORIZON.value
  )
  yield 'task', _TASK.value
  yield 'threads', threads
  yield 'sizes', base | dict(trials=_TRIALS.value)
  most = {name: max(vine_speed.FACTORS) * n for name, n in base.items()}
  largest = vine_workload.make_workload(
    policies['untrained'], trials=_TRIALS.value, **most
  )
  workload = largest.part(**base)
  few = max(3, _PAIRS.value // 4)
  say = lambda what: console.print(f'measuring: {what}', style='dim')
  say('memory')
  large = largest.part(**most | dict(horizon=base['horizon']))
  yield 'memory', vine_memory.memory(workload, large, threads)
  say('speed')
  (speed,) = vine_speed.against_physics([(workload, threads)], _PAIRS.value)
  yield 'speed', speed
  for name in (
    'native_env_steps_per_second',
    'physics_env_steps_per_second',
    'native_over_physics',
  ):
    yield name, speed[name]
  say('speed with recorded steps')
  (recorded,) = vine_speed.against_physics(
    [(workload, threads)], _PAIRS.value, trajectories=True
  )
  yield 'recorded', recorded
  say('updates of training')
  task = f'--task={_TASK.value}'
  yield (
    'update',
    vine_update.against_single_path(
      flags.parse([task, '--preset=v5/vine']), flags.parse([task]), _PAIRS.value
    ),
  )
  say('rivals')
  rivals = vine_rivals.against_rivals(workload, threads, _PAIRS.value)
  yield 'rivals', rivals
  for name in ('mujoco_batch', 'gymnasium'):
    found = rivals[name]
    yield f'native_over_{name}', found and found['native_over']['median']
  say('clones')
  clone = vine_speed.clone_microseconds(workload, few)
  yield 'clone', clone
  yield 'clone_microseconds', clone['native']
  say('scaling')
  yield (
    'scaling',
    dict(
      threads=vine_speed.by_threads(workload, few),
      **vine_speed.by_sizes(largest, base, threads, few),
    ),
  )
  variances = {}
  for name, policy in policies.items():
    say(f'variance, {name} policy')
    variances[name] = vine_variance.variance_ratios(
      vine_workload.make_workload(
        policy,
        _VARIANCE_STATES.value,
        2,
        2 * _SEQUENCES.value,
        max(_HORIZONS),
      ),
      _HORIZONS,
      threads,
    )
  yield 'noise_sequences', _SEQUENCES.value
  yield 'crn_variance_ratio', variances


def main(_) -> None:
  """Measures, prints tables and writes the JSON file and the picture."""
  path = result_files.require_json(_JSON.value)
  flags.import_tensorflow()
  from trpo_tf.benchmarks import machine, vine_figure, vine_tables
  from trpo_tf.experiment import devices, provenance

  devices.configure_tensorflow()
  console = Console(markup=False)
  begin = time.time()
  result: dict[str, Any] = dict(session=provenance.session())
  machine.describe(console, result['session'], {})
  for name, value in _measure(console):
    result[name] = value
  result['seconds'] = time.time() - begin
  for table in vine_tables.tables(result):
    console.print(table)
  result_files.write_json(path, result)
  picture = path.with_suffix('.png')
  vine_figure.draw(result).savefig(picture)
  console.print(f'written to {path} and {picture}')


if __name__ == '__main__':
  flags.run(main)
