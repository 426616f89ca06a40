"""Measures the speed and memory that docs/results/speed.md reports.

  python -m trpo_tf.bin.bench --json=FILE [--parts=sampling,atari,step,...]

All numbers come from one run on this machine, and ratios from alternating pairs
of timings.
"""

import math
import time
from typing import Any

from absl import flags as absl_flags
from rich.console import Console
from rich.table import Table

from trpo_tf import extras
from trpo_tf.bin import flags
from trpo_tf.experiment import result_files

_PARTS = (
  'sampling',
  'atari',
  'atari_step',
  'step',
  'training',
  'pong',
  'memory',
)
_CHOSEN = absl_flags.DEFINE_list(
  'parts', list(_PARTS), 'what to measure; also: gpu, where there is one'
)
_JSON = absl_flags.DEFINE_string('json', 'runs/bench.json', 'where to write')
_PAIRS = absl_flags.DEFINE_integer(
  'pairs',
  61,
  'alternating timings of each ratio',
  lower_bound=3,
  upper_bound=10_000,
)
_THREADS = absl_flags.DEFINE_integer(
  'sampler_threads',
  0,
  'threads of the native sampler and processes of the Atari sampler; 0: all '
  'cores',
  lower_bound=0,
)
# env steps of a timed call: about a fifth of a second each
_SAMPLING = {
  'Hopper-v5': 5000,
  'Walker2d-v5': 3000,
  'HalfCheetah-v5': 12000,
  'Humanoid-v5': 1200,
}


_GAMES = (('pong', 'paper'), ('breakout', 'paper'), ('pong', 'nature'))
_ATARI_STEPS = 8192  # per timed call, more than a second
_ATARI_ROUND = 512  # env steps of one process
_ATARI_BATCH = 102_400  # the paper's


def _bar(value: float, bar: float, more_is_better: bool = True) -> str:
  if math.isnan(value):
    return 'not measured'
  met = value >= bar if more_is_better else value <= bar
  return f'{">=" if more_is_better else "<="} {bar:g} ' + (
    'met' if met else 'MISSED'
  )


def _interval(ratio: dict) -> str:
  return '{:.3f} ({:.3f} to {:.3f})'.format(ratio['median'], *ratio['ci95'])


def _sampling(table: Table) -> list[dict]:
  from trpo_tf.benchmarks import sampling

  found = []
  for task, steps in _SAMPLING.items():
    result = sampling.against_physics(
      task, steps, 20, _THREADS.value, _PAIRS.value
    )
    found.append(result)
    ratio = result['native_over_physics']
    table.add_row(
      f'{task}: native loop / bare physics',
      _interval(ratio),
      _bar(ratio['median'], 0.97),
      f'{result["native_env_steps_per_second"]:,.0f} env steps/s',
    )
  return found


def _atari(table: Table) -> dict:
  from trpo_tf.benchmarks import atari
  from trpo_tf.sampling.threads import thread_count

  found = []
  processes = thread_count('--sampler_threads', _THREADS.value)
  for game, observation in _GAMES:
    result = atari.against_emulator(
      game, observation, _ATARI_STEPS, processes, max(3, _PAIRS.value // 3)
    )
    found.append(result)
    ratio = result['sampler_over_emulator']
    table.add_row(
      f'{game}, {observation}: sampler / bare emulators',
      _interval(ratio),
      _bar(ratio['median'], 0.85),
      f'{result["sampler_frames_per_second"]:,.0f} frames/s',
    )
  batch = atari.batch_memory('pong', _ATARI_BATCH, processes)
  growth = math.nan if batch['growth'] is None else batch['growth'] / 1e9
  table.add_row(
    f'pong, paper: memory of a batch of {_ATARI_BATCH:,} steps',
    f'{growth:.3f} GB',
    _bar(growth, 0.5, more_is_better=False),
    '',
  )
  return dict(speed=found, memory=batch)


def _atari_step(table: Table) -> list[dict]:
  from trpo_tf.benchmarks import atari_step

  found = []
  for game, observation in _GAMES:
    result = atari_step.parts(game, observation, _ATARI_ROUND, _PAIRS.value)
    found.append(result)
    table.add_row(
      f'{game}, {observation}: bare emulator / parts of an env step',
      _interval(result['emulator_over_parts']),
      '',
      ', '.join(f'{k} {v:.1f} us' for k, v in result['microseconds'].items()),
    )
  return found


def _step(table: Table) -> dict:
  from trpo_tf.benchmarks import rival, step

  product = step.product_over_gradient(50_000, _PAIRS.value)
  ratio = product['product_over_gradient']
  table.add_row(
    'Fisher product in CG / gradient',
    _interval(ratio),
    _bar(ratio['median'], 1.2, more_is_better=False),
    f'{product["product_milliseconds"]:.1f} / '
    f'{product["gradient_milliseconds"]:.1f} ms; multiply-adds '
    f'{product["multiply_adds_ratio"]:.2f}',
  )
  ours: list[float] = []
  theirs: list[float] = []
  threads = rival.best_threads('step', 50_000, 1)
  for _ in range(3):  # alternating, as the machine's speed drifts
    ours.extend(step.policy_step_seconds(50_000, 3))
    theirs.extend(rival.run(threads, 'step', 50_000, 3) or [math.nan])
  ours, theirs = sorted(ours), sorted(theirs)
  speed_up = theirs[len(theirs) // 2] / ours[len(ours) // 2]
  table.add_row(
    'policy step, sb3-contrib / ours',
    f'{speed_up:.2f}',
    _bar(speed_up, 3),
    f'{1e3 * ours[len(ours) // 2]:.0f} ms at 50,000 states; '
    f'{_threads(threads)}',
  )
  return dict(
    product=product,
    rival_threads=threads,
    policy_step_seconds=ours,
    rival_policy_step_seconds=theirs,
    speed_up=speed_up,
  )


def _training(table: Table) -> dict:
  from trpo_tf.benchmarks import end_to_end, rival

  settings = {
    'its settings': (end_to_end.RIVAL_SETTINGS, 5),
    'our settings': (_settings('--preset=v5/hopper'), 8),
  }
  rounds: dict[str, list[float]] = {name: [] for name in settings}
  threads, theirs = rival.best_threads('train', 8192), []
  for _ in range(3):
    for name, (values, _) in settings.items():
      measured = end_to_end.run(values, 60)
      rounds[name].append(measured['env_steps_per_second'])
    theirs.append(rival.run(threads, 'train', 20_480) or math.nan)
  middle = sorted(theirs)[1]
  result: dict[str, Any] = dict(
    rival_env_steps_per_second=theirs, rival_threads=threads
  )
  for name, (_, bar) in settings.items():
    speed = sorted(rounds[name])[1]
    table.add_row(
      f'Hopper training, {name} / sb3-contrib',
      f'{speed / middle:.2f}',
      _bar(speed / middle, bar),
      f'{speed:,.0f} / {middle:,.0f} env steps/s; {_threads(threads)}',
    )
    result[name] = dict(
      env_steps_per_second=rounds[name], speed_up=speed / middle
    )
  return result


def _pong(table: Table) -> dict:
  from trpo_tf.benchmarks import end_to_end, rival

  settings = _settings('--preset=atari/gae', '--task=atari/pong')
  threads = rival.best_threads('pong', 10, 8192)
  ours = []
  theirs: dict[int, list[float]] = {1: [], 10: []}
  for _ in range(3):
    measured = end_to_end.run(settings, 10)
    ours.append(measured['env_steps_per_second'])
    for factor, speeds in theirs.items():
      speeds.append(rival.run(threads, 'pong', factor, 8192) or math.nan)
  speed = sorted(ours)[1]
  for factor, speeds in theirs.items():
    middle = sorted(speeds)[1]
    states = 'all states' if factor == 1 else 'a tenth of the states'
    table.add_row(
      f'Pong training / sb3-contrib, {states} in its step',
      f'{speed / middle:.2f}',
      _bar(speed / middle, 3),
      f'{speed:,.0f} / {middle:,.0f} env steps/s; {_threads(threads)}',
    )
  return dict(
    env_steps_per_second=ours,
    rival_threads=threads,
    rival_env_steps_per_second={str(k): v for k, v in theirs.items()},
  )


def _settings(*arguments: str) -> dict[str, Any]:
  """Returns the settings of a run that keeps nothing."""
  from trpo_tf import config

  return config.settings(flags.parse(arguments)) | {'run_dir': ''}


def _threads(count: int) -> str:
  return f'PyTorch threads: {count}'


def _memory(table: Table) -> dict:
  from trpo_tf.benchmarks import end_to_end

  result = end_to_end.run(dict(task='HalfCheetah-v5'), 200)
  growth = result['resident_mib_late'] / result['resident_mib_early']
  table.add_row(
    'peak memory, 200 iterations / 10',
    f'{growth:.4f}',
    _bar(growth, 1.02, more_is_better=False),
    f'{result["resident_mib_late"]:.0f} MiB',
  )
  return result | dict(growth=growth)


def _gpu(table: Table) -> dict:
  from trpo_tf.benchmarks import end_to_end

  devices: dict[str, dict[str, Any]] = {
    'cpu': dict(device='cpu'),
    'gpu': dict(device='gpu'),
    'gpu, not deterministic': dict(device='gpu', deterministic_gpu=False),
  }
  result: dict[str, Any] = {}
  tasks = {'v5/hopper': 'Hopper-v5', 'atari/gae': 'atari/pong'}
  for preset, task in tasks.items():
    run = _settings(f'--preset={preset}', f'--task={task}')
    rounds: dict[str, list[float]] = {name: [] for name in devices}
    for _ in range(3):  # alternating, as the machine's speed drifts
      for name, settings in devices.items():
        measured = end_to_end.run(run | settings, 10)
        rounds[name].append(measured['update_seconds'])
    seconds = {name: sorted(found)[1] for name, found in rounds.items()}
    result[preset] = rounds
    for name in list(devices)[1:]:
      table.add_row(
        f'{preset}: update on the cpu / {name}',
        f'{seconds["cpu"] / seconds[name]:.2f}',
        '',
        f'{seconds["cpu"]:.2f} / {seconds[name]:.2f} s',
      )
  return result


def main(_) -> None:
  """Measures the chosen parts, prints a table and writes the JSON file."""
  path = result_files.require_json(_JSON.value)
  flags.import_tensorflow()
  for part in {'atari', 'atari_step', 'pong'} & {*_CHOSEN.value}:
    extras.require('ale_py', 'atari', f'--parts={part}')
  from trpo_tf.benchmarks import machine, rival
  from trpo_tf.experiment import devices, provenance

  devices.configure_tensorflow()
  if 'gpu' in _CHOSEN.value:
    devices.require_gpu('--parts=gpu')
  session = provenance.session()
  console = Console(markup=False)
  machine.describe(console, session, rival.versions())
  if not rival.versions():
    console.print(
      'sb3-contrib is not installed; to measure it too: pip install '
      "-c constraints.txt -e '.[bench]'",
      style='yellow',
      markup=False,
    )
  table = Table(title='trpo_tf benchmarks')
  for name in ('measurement', 'ratio (95 % interval)', 'bar', 'absolute'):
    table.add_column(name)
  begin = time.time()
  result: dict[str, Any] = {'session': session, 'rival': rival.versions()}
  measures = dict(
    sampling=_sampling,
    atari=_atari,
    atari_step=_atari_step,
    step=_step,
    training=_training,
    pong=_pong,
    memory=_memory,
    gpu=_gpu,
  )
  for part in _CHOSEN.value:
    console.print(f'measuring: {part}', style='dim')
    result[part] = measures[part](table)
    result['seconds'] = time.time() - begin
    result_files.write_json(path, result)
  console.print(table)
  console.print(f'written to {path}')


absl_flags.register_validator(
  'parts',
  lambda parts: parts and set(parts) <= {*_PARTS, 'gpu'},
  f'choose from {",".join(_PARTS)},gpu',
)

if __name__ == '__main__':
  flags.run(main)
