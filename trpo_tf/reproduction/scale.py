"""The tables of one run on many workers, from bench_scale."""

import json
import pathlib

__all__ = ['efficiency', 'runs']

_SHOWN = (1, 2, 8, 64, 256, 1000)  # workers


def runs(path: pathlib.Path) -> str:
  """Renders the measured iterations beside the model's prediction.

  Args:
    path: JSON file of bench_scale.

  Returns:
    The Markdown text, with a row for each number of shards and engine.
  """
  lines = [
    '| shards | engine | env steps of a batch | seconds | env steps/s | '
    'predicted seconds |',
    '|---' * 6 + '|',
  ]
  for run in json.loads(path.read_text())['runs']:
    steps, seconds = run['batch_steps'], run['seconds']
    predicted = run.get('predicted')
    shown = '' if predicted is None else f'{predicted:.2f}'
    if predicted is not None:
      shown += f' ({predicted / seconds - 1:+.0%})'
    lines.append(
      f'| {run["shards"]} | {run["engine"]} | {steps:,} | {seconds:.2f} | '
      f'{steps / seconds:,.0f} | {shown} |'
    )
  return '\n'.join(lines)


def efficiency(path: pathlib.Path) -> str:
  """Renders the predicted speed-up over one worker, by number of workers.

  Args:
    path: JSON file of bench_scale.

  Returns:
    The Markdown text, with a row for each size of a batch.
  """
  found = json.loads(path.read_text())['efficiency']
  heads = ' | '.join(f'{workers:,}' for workers in _SHOWN)
  lines = [
    f'| env steps of a batch / workers | {heads} |',
    '|---' * (len(_SHOWN) + 1) + '|',
  ]
  for batch, by_workers in found.items():
    cells = ' | '.join(f'{by_workers[str(w)]:.2f}' for w in _SHOWN)
    lines.append(f'| {int(batch):,} | {cells} |')
  return '\n'.join(lines)
