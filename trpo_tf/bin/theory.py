"""Computes the theory of sections 2 and 3 exactly, on small problems.

  python -m trpo_tf.bin.theory --out_dir=DIR

Prints the progress of conservative policy iteration, algorithm 1 and the
trust-region steps, and how tight the bounds are. Writes the figure (theory.png)
and the problems with the tightest bounds (tightest.json) to DIR.
"""

import json
import math
import pathlib
from typing import Any

import numpy as np
from absl import flags as absl_flags
from rich import box
from rich.console import Console
from rich.table import Table

from trpo_tf.bin import flags, theory_figure
from trpo_tf.experiment import result_files
from trpo_tf.theory import comparison, search, worlds
from trpo_tf.theory.comparison import Trace
from trpo_tf.theory.mdp import MDP

_OUT_DIR = absl_flags.DEFINE_string('out_dir', 'runs/theory', 'where to write')
_ITERATIONS = absl_flags.DEFINE_integer(
  'iterations',
  1000,
  'iterations of each method on each problem',
  lower_bound=10,
  upper_bound=10**6,
)
_DELTA = absl_flags.DEFINE_float(
  'delta', 0.01, 'bound of the trust regions, in nats', 1e-12, 10
)
absl_flags.register_validator('delta', math.isfinite, 'write a finite number')
_STARTS = absl_flags.DEFINE_integer(
  'starts',
  20,
  'climbs of each search for a tight problem',
  lower_bound=1,
  upper_bound=10**6,
)
_SEED = absl_flags.DEFINE_integer(
  'seed', 0, 'seed of the searches', lower_bound=0, upper_bound=2**31 - 1
)
_SIZES = ((2, 2), (2, 3))  # states and actions of the searches


def _problems() -> dict[str, MDP]:
  return {
    'chain': worlds.chain(),
    'grid': worlds.grid(),
    'corridor': worlds.switched_corridor(),
  }


def _progress(
  traces: dict[str, dict[str, Trace]], best: dict[str, float]
) -> Table:
  last = _ITERATIONS.value
  shown = [n for n in (10, 100, 1000) if n < last] + [last]
  table = Table(
    title=f'eta after n iterations; trust regions: KL <= {_DELTA.value:g} nats',
    box=box.SIMPLE_HEAD,
  )
  for name in (
    'problem',
    'method',
    *(f'n = {n}' for n in shown),
    'best',
    'worst change',
    'first KL',
  ):
    table.add_column(name, justify='right' if name[0] in 'nbwf' else 'left')
  for problem, by_method in traces.items():
    for method, trace in by_method.items():
      worst = np.diff(trace.returns).min()
      table.add_row(
        problem,
        method,
        *(f'{trace.returns[n]:.3f}' for n in shown),
        f'{best[problem]:.3f}',
        f'{worst:.1e}',
        f'{trace.divergences[0]:.1e}',
      )
    table.add_section()
  return table


def _search(bound: str) -> search.Found:
  rng = np.random.default_rng(_SEED.value)
  found = [
    search.tightest(bound, rng, states=s, actions=a, starts=_STARTS.value)
    for s, a in _SIZES
  ]
  return max(found, key=search.ratio)


def _tightness(found: dict[str, search.Found]) -> Table:
  table = Table(
    title='largest |L - eta| / penalty; 1: attained', box=box.SIMPLE_HEAD
  )
  for name in ('bound', 'found', 'random MDPs: median', 'largest'):
    table.add_column(name, justify='left' if name == 'bound' else 'right')
  for bound, one in found.items():
    ratios = theory_figure.random_ratios(bound)
    table.add_row(
      theory_figure.BOUNDS[bound],
      f'{search.ratio(one):.4f}',
      f'{np.median(ratios):.4f}',
      f'{ratios.max():.4f}',
    )
  return table


def main(_: Any) -> None:
  """Runs the methods and searches, prints tables and writes the results."""
  console = Console(markup=False)
  directory = pathlib.Path(_OUT_DIR.value)
  for name in ('tightest.json', 'theory.png'):
    result_files.require_writable(directory / name)
  problems = _problems()
  best = {n: comparison.best_return(mdp) for n, mdp in problems.items()}
  traces = {
    name: {
      method: comparison.trace(mdp, step, _ITERATIONS.value)
      for method, step in comparison.methods(_DELTA.value).items()
    }
    for name, mdp in problems.items()
  }
  console.print(_progress(traces, best))
  found = {bound: _search(bound) for bound in search.BOUNDS}
  console.print(_tightness(found))
  text = json.dumps([search.to_dict(f) for f in found.values()], indent=1)
  (directory / 'tightest.json').write_text(text + '\n')
  figure = theory_figure.draw(traces, best, found, _DELTA.value)
  figure.savefig(directory / 'theory.png')
  console.print(f'written to {directory}: theory.png, tightest.json')


if __name__ == '__main__':
  flags.run(main)
