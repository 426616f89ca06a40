"""The tables of one run on many workers, from bench_scale."""

import json
import pathlib

from trpo_tf.experiment import tables

__all__ = ['efficiency', 'runs']

_SHOWN = (1, 2, 8, 64, 256, 1000)  # workers


def runs(path: pathlib.Path) -> str:
  """Renders the measured iterations beside the model's prediction.

  Args:
    path: JSON file of bench_scale.

  Returns:
    The Markdown text, with a row for each number of shards and engine.
  """
  heads = (
    'shards',
    'engine',
    'env steps of a batch',
    'seconds',
    'env steps/s',
    'predicted seconds',
  )
  rows = []
  for run in json.loads(path.read_text())['runs']:
    steps, seconds = run['batch_steps'], run['seconds']
    predicted = run.get('predicted')
    shown = '' if predicted is None else f'{predicted:.2f}'
    if predicted is not None:
      shown += f' ({predicted / seconds - 1:+.0%})'
    rows.append(
      (
        f'{run["shards"]}',
        run['engine'],
        f'{steps:,}',
        f'{seconds:.2f}',
        f'{steps / seconds:,.0f}',
        shown,
      )
    )
  return tables.grid(heads, rows)


def efficiency(path: pathlib.Path) -> str:
  """Renders the predicted speed-up over one worker, by number of workers.

  Args:
    path: JSON file of bench_scale.

  Returns:
    The Markdown text, with a row for each size of a batch.
  """
  found = json.loads(path.read_text())['efficiency']
  heads = ['env steps of a batch / workers', *(f'{w:,}' for w in _SHOWN)]
  rows = [
    [f'{int(batch):,}', *(f'{by_workers[str(w)]:.2f}' for w in _SHOWN)]
    for batch, by_workers in found.items()
  ]
  return tables.grid(heads, rows)
