"""Tables of the scores that one method reaches in each Atari game."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from trpo_tf.experiment import tables
from trpo_tf.reproduction import markdown
from trpo_tf.reproduction.results import Result
from trpo_tf.reproduction.table import Table

__all__ = ['after_equal_iterations', 'passed', 'table']

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
_EQUAL = (
  'game',
  'iterations',
  'vine: score in training',
  'last policy, sampled actions',
  'last policy, likeliest actions',
  'single path: score in training',
  'env steps of single path',
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


def after_equal_iterations(atari: Table, data: pathlib.Path) -> str:
  """Renders the vine beside single path after as many steps of the policy.

  A vine has few trunks, whose last 100 episodes may be all of its training. Its
  last policy is therefore evaluated too.

  Args:
    atari: the table of the paper.
    data: directory with csv/GAME_METHOD_SEED.csv, the curves of the runs, and
      vine/GAME.json, the evaluation of the vine's last checkpoint.
  """
  rows = []
  for game in atari.tasks:
    path = data / 'vine' / f'{game}.json'
    if not path.exists():
      continue
    vine, single = (
      np.genfromtxt(data / f'csv/{game}_{x}_0.csv', delimiter=',', names=True)
      for x in ('vine', 'single_path')
    )
    there = single[min(len(vine), len(single)) - 1]
    last = json.loads(path.read_bytes())
    returns = [last[kind]['return'] for kind in ('sampled', 'deterministic')]
    score, reach = there['score'], 1.96 * there['score_error']
    cells = (
      f'{len(vine)}',
      f'{vine["score"][-1]:.4g}',
      *(_interval(x['mean'], *x['ci95']) for x in returns),
      _interval(score, score - reach, score + reach),
      f'{there["env_steps"] / 1e6:.2f}M',
    )
    rows.append((atari.labels[game], *cells))
  return tables.grid(_EQUAL, rows)


def _interval(mean: float, low: float, high: float) -> str:
  return f'{mean:.4g} ({low:.4g} to {high:.4g})'


def _gain(result: Result, chance: Result) -> str:
  gain = result.final.mean() - chance.final.mean()
  reach = math.hypot(_reach(result), _reach(chance))
  return f'{gain:+.3g} ({gain - reach:+.3g} to {gain + reach:+.3g})'


def _reach(result: Result) -> float:
  low, high = result.final_interval
  return (high - low) / 2
