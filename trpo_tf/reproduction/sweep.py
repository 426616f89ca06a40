"""Plans the runs of a grid of settings, each cell with several seeds."""

import dataclasses
import functools
import itertools
import pathlib
import urllib.parse
from collections.abc import Sequence

from trpo_tf import config as config_lib
from trpo_tf.config import AtariConfig, ExperimentConfig, TaskConfig
from trpo_tf.errors import UserError
from trpo_tf.experiment import flagfiles, run_directory
from trpo_tf.reproduction.plan import Entry, Parse, PlannedRun
from trpo_tf.reproduction.table import Table, carried
from trpo_tf.tasks import atari, registry

__all__ = ['Axis', 'make_entries', 'make_table', 'parse_grid']

_MAX_RUNS = 2_000
_DEFAULTS = config_lib.settings(ExperimentConfig())
# These name a run and say how it is done. They do not change what it learns.
_NOT_SWEPT = run_directory.FREE_SETTINGS | {'seed'}
# Env steps per second of one core, before there is anything to measure.
_NATIVE_SPEED, _ATARI_SPEED, _GYMNASIUM_SPEED = 5e3, 700, 1e3


@dataclasses.dataclass(frozen=True)
class Axis:
  """A setting that a sweep varies.

  Attributes:
    name: name of the setting.
    values: the values as the text of a flag; each is given once.
  """

  name: str
  values: tuple[str, ...]


def parse_grid(grid: Sequence[str]) -> list[Axis]:
  """Parses the values of --grid.

  Args:
    grid: texts like 'max_kl=0.01,0.02'. Where a value can have commas, which
      are hidden_sizes and the like and env_kwargs, ';' separates the values:
      'hidden_sizes=64,64;32'.

  Returns:
    The axes, in the same order. Their values are not checked yet.

  Raises:
    UserError: a text of another form, a setting that is unknown or cannot be
      varied, or a setting or value that is given twice.
  """
  axes = [_axis(text) for text in grid]
  names = [axis.name for axis in axes]
  for name in names:
    if names.count(name) > 1:
      raise UserError(f'--grid={name}=... is given twice: join the values')
  return axes


def _axis(text: str) -> Axis:
  name, equals, values = text.partition('=')
  if not equals:
    raise UserError(f'--grid={text}: write NAME=VALUE,VALUE')
  if name not in _DEFAULTS:
    raise UserError(
      f'--grid={text}: there is no setting {name!r}; '
      '"python -m trpo_tf.bin.train --help" lists them'
    )
  if name == 'seed':
    raise UserError(f'--grid={text}: give the number of seeds by --seeds')
  if name in _NOT_SWEPT:
    raise UserError(
      f'--grid={text}: {name} does not change what a run learns; give '
      f'--{name} once'
    )
  lists = isinstance(_DEFAULTS[name], tuple) or name == 'env_kwargs'
  texts = values.split(';' if lists else ',')
  if '' in texts and isinstance(_DEFAULTS[name], int | float):
    raise UserError(f'--grid={text}: a value is missing')
  return Axis(name, tuple(texts))


def make_entries(
  axes: Sequence[Axis],
  base: ExperimentConfig,
  seeds: int,
  out: pathlib.Path,
  parse: Parse,
) -> list[Entry]:
  """Plans the runs of all cells.

  Args:
    axes: the settings that vary; none: a single cell.
    base: the other settings. Its seed is the first of each cell, and its
      run_dir is not used.
    seeds: number of seeds of each cell.
    out: parent of the run directories NAME=VALUE/.../SEED. The names are
      sorted, so the order of the axes does not move a run.
    parse: parses flags of the train binary to settings.

  Returns:
    An entry for each cell; the values of the last axis change fastest.

  Raises:
    UserError: a value is wrong, given twice or contradicts another setting, or
      there are too many runs.
  """
  cells = [*itertools.product(*(axis.values for axis in axes))]
  if len(cells) * seeds > _MAX_RUNS:
    raise UserError(
      f'{len(cells)} cells with {seeds} seeds are more than {_MAX_RUNS:,} '
      'runs: take fewer values in --grid, or several sweeps'
    )
  names, last = [axis.name for axis in axes], base.run.seed + seeds - 1
  entries, places = [], set[pathlib.Path]()
  for values in cells:
    given = [f'--{n}={v}' for n, v in zip(names, values, strict=True)]
    config = parse([*_flags(base), *given, f'--seed={last}'])
    entry = _entry(names, config, range(base.run.seed, last + 1), out)
    place = entry.variants[''][0].directory
    if place in places:
      raise UserError(f'--grid: {" ".join(given)} is given twice')
    places.add(place)
    entries.append(entry)
  return entries


def _flags(config: ExperimentConfig) -> tuple[str, ...]:
  """The flags of all settings that are not the defaults."""
  return tuple(
    f'--{name}={flagfiles.flag_text(value)}'
    for name, value in config_lib.settings(config).items()
    if value != _DEFAULTS[name] and name not in ('seed', 'run_dir')
  )


def _entry(
  names: Sequence[str],
  config: ExperimentConfig,
  seeds: range,
  out: pathlib.Path,
) -> Entry:
  found = config_lib.settings(config)
  texts = {name: flagfiles.flag_text(found[name]) for name in names}
  cell = ' '.join(f'{name}={text}' for name, text in texts.items())
  folder = out.joinpath(*(f'{n}={_quoted(texts[n])}' for n in sorted(texts)))
  runs = []
  for seed in seeds:
    directory = folder / str(seed)
    settings = dataclasses.replace(
      config,
      run=dataclasses.replace(config.run, seed=seed, run_dir=str(directory)),
    )
    flags = *_flags(settings), f'--seed={seed}', f'--run_dir={directory}'
    runs.append(
      PlannedRun(config.task.task, cell, '', seed, directory, flags, settings)
    )
  return Entry(config.task.task, cell, '', {'': tuple(runs)})


def _quoted(text: str) -> str:
  """Makes a text part of a file's name; no two texts make the same."""
  return urllib.parse.quote(text, safe=',', errors='surrogateescape')


def make_table(entries: Sequence[Entry]) -> Table:
  """Describes how the runs of a sweep are measured; nothing was published.

  Raises:
    UserError: a cell's task does not exist, or not with its settings.
  """
  tasks: dict[str, tuple[str, ...]] = {}
  speeds = {}
  for entry in entries:
    tasks[entry.task] = (*tasks.get(entry.task, ()), entry.method)
    config = entry.variants[''][0].config
    speeds[entry.task] = _speed(config.task, config.atari)
  return Table(
    name='sweep',
    tasks=tasks,
    labels={},
    absent={},
    flagfiles='',
    budgets={},
    speeds=speeds,
    metric=lambda progress, config: carried(progress['return_mean']),
    metric_name='return_mean',
    metric_text='undiscounted return of the episodes that a batch has',
    reference={},
    reference_text='',
    window=0.1,
  )


@functools.cache
def _speed(task: TaskConfig, settings: AtariConfig) -> float:
  if atari.find_game(task.task, settings, task.time_limit):
    return _ATARI_SPEED
  native = registry.find_task(task.task)
  return _GYMNASIUM_SPEED if native is None else _NATIVE_SPEED
