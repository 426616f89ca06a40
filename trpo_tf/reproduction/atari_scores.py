"""Tables of the scores that one method reaches in each Atari game."""

import dataclasses
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from trpo_tf.experiment import tables
from trpo_tf.reproduction import markdown
from trpo_tf.reproduction.results import Result
from trpo_tf.reproduction.table import Table

__all__ = ['passed', 'table']

_HEADS = (
  'game',
  'seeds',
  'env steps a run',
  'ours (95 % interval)',
  'random play',
  'gain (95 % interval)',
  'paper, same env steps',
  'Baselines, 10M',
)
_VALUES = {'pong': (0, 15, 19), 'breakout': (5, 10, 23), 'enduro': (1, 21, 100)}
_BASELINES = 'TRPO (OpenAI Baselines, 10M env steps)'


def table(atari: Table, results: Sequence[Result], method: str) -> str:
  """Renders the scores of a method beside random play and published ones.

  The gain over random play has an interval for the difference of two
  independent normal means. The paper's curve is that of the same method, or of
  single path if the paper does not have the method.

  Args:
    atari: the table of the paper.
    results: the results of all methods.
    method: name of the method in the table.

  Returns:
    The Markdown text, with a row for each game that has results.
  """
  found = {(result.method, result.task): result for result in results}
  rows = []
  for game in atari.tasks:
    result = found.get((method, game))
    if result is None:
      continue
    chance = found['random', game]
    curves = atari.reference[game]
    curve = curves.get(method, curves['single_path'])
    there = dataclasses.replace(result, reference=curve).reference_there
    cells = (
      atari.labels[game],
      *markdown.counts(result)[::2],
      markdown.mean(result),
      f'{chance.final.mean():.4g}',
      _gain(result, chance),
      '-' if math.isnan(there) else f'{there:.4g}',
      f'{atari.published[_BASELINES][game]:g}',
    )
    rows.append(cells)
  return tables.grid(_HEADS, rows)


def passed(atari: Table, csv: pathlib.Path, method: str) -> str:
  """Renders when the score of each run first passes some values.

  Args:
    atari: the table of the paper.
    csv: directory of the runs' CSV files, GAME_METHOD_SEED.csv.
    method: name of the method in the table.
  """
  rows = []
  for game, values in _VALUES.items():
    for path in sorted(csv.glob(f'{game}_{method}_[0-9].csv')):
      run = np.genfromtxt(path, delimiter=',', names=True)
      cells = []
      for value in values:
        there = run['env_steps'][run['score'] >= value]
        steps = f'{there[0] / 1e6:.2f}M' if there.size else '-'
        cells.append(f'{value}: {steps}')
      last = f'{run["env_steps"][-1] / 1e6:.2f}M: {run["score"][-1]:.2f}'
      seed = path.stem.rpartition('_')[2]
      rows.append((atari.labels[game], seed, ', '.join(cells), last))
  heads = 'game', 'seed', 'score: first env steps', 'last env steps: score'
  return tables.grid(heads, rows)


def _gain(result: Result, chance: Result) -> str:
  gain = result.final.mean() - chance.final.mean()
  reach = math.hypot(_reach(result), _reach(chance))
  return f'{gain:+.3g} ({gain - reach:+.3g} to {gain + reach:+.3g})'


def _reach(result: Result) -> float:
  low, high = result.final_interval
  return (high - low) / 2
