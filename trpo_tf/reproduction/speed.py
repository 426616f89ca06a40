"""The tables of speed and memory, from bench and bench_vine."""

import json
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

from trpo_tf.experiment import tables
from trpo_tf.reproduction import ratios, vine_speed

__all__ = [
  'atari',
  'atari_step',
  'atari_training',
  'atari_update',
  'over_physics',
  'table',
]

_Row = tuple[str, ...]

_OVER_PHYSICS = 0.97  # the bar of the native loops
_FRAMES = {'paper': '52 x 40', 'nature': '84 x 84'}


def table(path: pathlib.Path) -> str:
  """Renders what bench measured beside the project's bars.

  Args:
    path: JSON file of bench.

  Returns:
    The Markdown text, with a row for each measurement.
  """
  found = json.loads(path.read_text())
  rows = [
    *map(_sampling, found['sampling']),
    *_step(found['step']),
    *_training(found),
  ]
  heads = 'measurement', 'ratio (95 % interval)', 'bar', 'absolute'
  return tables.grid(heads, rows)


def _sampling(run: dict[str, Any]) -> _Row:
  measured = run['native_over_physics']
  return (
    f'{run["task"]}: native loop / bare physics, {measured["pairs"]} pairs',
    ratios.ratio(measured),
    _at_least(measured['median'], _OVER_PHYSICS),
    f'{run["native_env_steps_per_second"]:,.0f} env steps/s',
  )


def _step(step: dict[str, Any]) -> list[_Row]:
  product = step['product']
  measured = product['product_over_gradient']
  seconds = statistics.median(step['policy_step_seconds'])
  return [
    (
      f'Fisher product in CG / gradient, {measured["pairs"]} pairs',
      ratios.ratio(measured),
      _at_most(measured['median'], 1.2),
      f'{product["product_milliseconds"]:.1f} / '
      f'{product["gradient_milliseconds"]:.1f} ms',
    ),
    (
      'policy step, sb3-contrib / ours',
      f'{step["speed_up"]:.2f}',
      _at_least(step['speed_up'], 3),
      f'{1000 * seconds:.0f} ms at {product["num_states"]:,} states',
    ),
  ]


def _training(found: dict[str, Any]) -> list[_Row]:
  training, memory = found['training'], found['memory']
  rival = statistics.median(training['rival_env_steps_per_second'])
  rows = []
  for settings, bar in (('its settings', 5), ('our settings', 8)):
    run = training[settings]
    ours = statistics.median(run['env_steps_per_second'])
    rows.append(
      (
        f'Hopper training, {settings} / sb3-contrib',
        f'{run["speed_up"]:.2f}',
        _at_least(run['speed_up'], bar),
        f'{ours:,.0f} / {rival:,.0f} env steps/s',
      )
    )
  peak = (
    'peak memory, 200 iterations',
    f'{memory["growth"]:.4f}',
    _at_most(memory['growth'], 1.02),
    f'{memory["resident_mib_late"]:.0f} MiB',
  )
  return [*rows, peak]


def over_physics(bench: pathlib.Path, vine: pathlib.Path) -> str:
  """Renders the speeds of both samplers over that of their bare physics.

  Args:
    bench: JSON file of bench.
    vine: JSON files of bench_vine.

  Returns:
    The Markdown text, with a column for each task that bench has.
  """
  runs = {
    'single path': json.loads(bench.read_text())['sampling'],
    'vine': vine_speed.read(vine),
  }
  tasks = [run['task'] for run in runs['single path']]
  rows = []
  for sampler, found in runs.items():
    by_task = {run['task']: run['native_over_physics'] for run in found}
    cells = [ratios.at_least(by_task[task], _OVER_PHYSICS) for task in tasks]
    rows.append((sampler, *cells))
  return tables.grid(
    [f'speed / bare physics (bar >= {_OVER_PHYSICS})', *tasks], rows
  )


def atari(path: pathlib.Path) -> str:
  """Renders the speed and memory of sampling Atari games.

  Args:
    path: JSON file of bench with `--parts=atari`.

  Returns:
    The Markdown text, with a row for each game and size of its frames.
  """
  found = json.loads(path.read_text())['atari']
  rows = [
    (
      _game(run['game'], run['observation']),
      ratios.at_least(run['sampler_over_emulator'], 0.85),
      f'{run["sampler_frames_per_second"]:,.0f}',
    )
    for run in found['speed']
  ]
  memory = found['memory']
  gigabytes = memory['growth'] / 1e9
  rows.append(
    (
      f'{_game(memory["game"], "paper")}: memory of a batch',
      f'{gigabytes:.3f} GB {ratios.verdict(gigabytes <= 0.5)}',
      '',
    )
  )
  heads = 'game, frames', 'sampler / bare emulators', 'frames/s'
  return tables.grid(heads, rows)


def atari_step(path: pathlib.Path) -> str:
  """Renders how long the parts of an env step of an Atari game take.

  Args:
    path: JSON file of bench with `--parts=atari_step`.

  Returns:
    The Markdown text, with a row for each game and size of its frames.
  """
  found = json.loads(path.read_text())['atari_step']
  names = [f'{name}, us' for name in found[0]['microseconds']]
  rows = [
    (
      _game(run['game'], run['observation']),
      *(f'{part:.1f}' for part in run['microseconds'].values()),
      ratios.ratio(run['emulator_over_parts']),
    )
    for run in found
  ]
  heads = 'game, frames', *names, 'bare emulator / parts'
  return tables.grid(heads, rows)


def atari_update(path: pathlib.Path) -> str:
  """Renders the time of updates on Pong by two commits.

  Args:
    path: JSON file with what end_to_end measured, alternating.

  Returns:
    The Markdown text, with a row for each group of settings.
  """
  heads = (
    'settings',
    'update before',
    'update now',
    'now / before (bar <= 0.5)',
    'whole iteration (bar <= 0.6)',
  )
  rows = []
  for name, runs in json.loads(path.read_text())['runs'].items():
    before, now = (_update_seconds(runs[side]) for side in ('before', 'now'))
    update, whole = (b / a for a, b in zip(before, now, strict=True))
    rows.append(
      (
        name,
        f'{before[0]:.2f} s',
        f'{now[0]:.2f} s',
        f'{update:.2f} {ratios.verdict(update <= 0.5)}',
        f'{whole:.2f} {ratios.verdict(whole <= 0.6)}',
      )
    )
  return tables.grid(heads, rows)


def atari_training(path: pathlib.Path) -> str:
  """Renders the speed of training on Pong beside sb3-contrib's.

  Args:
    path: JSON file of bench with `--parts=pong`.

  Returns:
    The Markdown text, with a row for each share of the states in its step.
  """
  found = json.loads(path.read_text())['pong']
  ours = statistics.median(found['env_steps_per_second'])
  heads = (
    'states in the step of sb3-contrib',
    'its env steps/s',
    'ours',
    'ratio (bar >= 3)',
  )
  rows = []
  for factor, runs in found['rival_env_steps_per_second'].items():
    theirs = statistics.median(runs)
    states = 'all' if factor == '1' else f'1/{factor}'
    ratio = f'{ours / theirs:.1f} {ratios.verdict(ours >= 3 * theirs)}'
    rows.append((states, f'{theirs:,.0f}', f'{ours:,.0f}', ratio))
  return tables.grid(heads, rows)


def _game(name: str, observation: str) -> str:
  return f'{name.capitalize()}, {_FRAMES[observation]}'


def _update_seconds(runs: Sequence[dict[str, float]]) -> tuple[float, float]:
  """Returns the medians over runs of an update and of an iteration."""
  update = [run['update_seconds'] for run in runs]
  whole = [run['update_seconds'] + run['sample_seconds'] for run in runs]
  return statistics.median(update), statistics.median(whole)


def _at_least(value: float, bar: float) -> str:
  return f'>= {bar} {ratios.verdict(value >= bar)}'


def _at_most(value: float, bar: float) -> str:
  return f'<= {bar} {ratios.verdict(value <= bar)}'
