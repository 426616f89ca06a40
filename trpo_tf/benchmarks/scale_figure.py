"""The tables and the picture of bench_scale."""

from typing import Any

import matplotlib
import matplotlib.figure
import rich.table

from trpo_tf.benchmarks.scale_model import Latency, Model
from trpo_tf.experiment.plots import COLORS, STYLE

__all__ = ['BATCHES', 'WORKERS', 'draw', 'model_of', 'tables']

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
BATCHES = {50_000: '50K', 1_000_000: '1M', 50_000_000: '50M'}

_LOOKS = [
  dict(color=color, marker=marker, markersize=4)
  for color, marker in zip(COLORS, 'os^D', strict=False)
]
_BELOW: dict[str, Any] = dict(loc='upper center', bbox_to_anchor=(0.5, -0.2))


def model_of(result: dict[str, Any]) -> Model:
  """Returns the model in bench_scale's JSON."""
  fields = dict(result['model'])
  return Model(**fields | {'latency': Latency(**fields['latency'])})


def tables(result: dict[str, Any]) -> list[rich.table.Table]:
  """Makes the tables of bench_scale's JSON."""
  echo = rich.table.Table(title='one map and its sum, without work')
  for name in ('workers', 'bytes each way', 'ms'):
    echo.add_column(name, justify='right')
  for workers, size, seconds in result['echo']:
    echo.add_row(f'{workers}', f'{size:,}', f'{1e3 * seconds:.2f}')
  runs = rich.table.Table(title='iterations, measured')
  for name in ('shards', 'engine', 'batch', 's', 'predicted s', 'error'):
    runs.add_column(name, justify='right')
  for run in result['runs']:
    predicted = run.get('predicted')
    error = (
      '' if predicted is None else f'{predicted / run["seconds"] - 1:+.1%}'
    )
    runs.add_row(
      f'{run["shards"]}',
      run['engine'],
      f'{run["batch_steps"]:,}',
      f'{run["seconds"]:.3f}',
      '' if predicted is None else f'{predicted:.3f}',
      error,
    )
  model = model_of(result)
  predicted = rich.table.Table(
    title='predicted efficiency', caption='; '.join(result['assumptions'])
  )
  predicted.add_column('workers', justify='right')
  for text in BATCHES.values():
    predicted.add_column(f'batch of {text}', justify='right')
  for workers in WORKERS:
    values = [model.efficiency(workers, batch) for batch in BATCHES]
    predicted.add_row(f'{workers}', *(f'{v:.2f}' for v in values))
  return [echo, runs, predicted]


def draw(result: dict[str, Any]) -> matplotlib.figure.Figure:
  """Draws predicted efficiency against workers, and where the time goes."""
  model = model_of(result)
  with matplotlib.rc_context(STYLE):
    figure = matplotlib.figure.Figure((8, 3.8), dpi=200, layout='constrained')
    left, right = figure.subplots(1, 2)
    for look, (batch, text) in zip(_LOOKS, BATCHES.items(), strict=False):
      left.plot(
        WORKERS,
        [model.efficiency(w, batch) for w in WORKERS],
        **look,
        label=f'batch of {text} env steps',
      )
    left.set(xscale='log', xlabel='workers', ylim=(0, 1.05))
    left.set_title('predicted efficiency')
    left.legend(**_BELOW, ncols=1)
    parts = {w: model.seconds(w, 50_000_000) for w in WORKERS}
    for look, name in zip(_LOOKS, parts[1], strict=False):
      seconds = [parts[w][name] for w in WORKERS]
      right.plot(WORKERS, seconds, label=name, **look)
    right.set(xscale='log', yscale='log', xlabel='workers', ylabel='seconds')
    right.set_title('an iteration of 50M env steps')
    right.legend(**_BELOW, ncols=2)
  return figure
