"""The table of the trained policies in docs/gallery."""

import json
import pathlib

from trpo_tf.experiment import tables

__all__ = ['policies', 'table']


def policies(directory: pathlib.Path) -> list[pathlib.Path]:
  """Returns the run directories GROUP/NAME below a directory, sorted."""
  return sorted(path.parent for path in directory.glob('*/*/run.json'))


def table(directory: pathlib.Path) -> str:
  """Renders what each policy scores.

  Args:
    directory: the run directories GROUP/NAME, with evaluations.

  Returns:
    The Markdown text, with a row for each policy.
  """
  heads = (
    'policy',
    'task',
    'env steps',
    'return of the mean policy',
    'of sampled actions',
    'kB',
  )
  rows = []
  for path in policies(directory):
    found = json.loads((path / 'evaluation.json').read_text())
    name = path.relative_to(directory)
    size = sum(f.stat().st_size for f in path.rglob('*') if f.is_file())
    rows.append(
      (
        f'[{name}]({name}/evaluation.json)',
        found['task'],
        f'{found["env_steps"]:,}',
        _score(found['deterministic']['return']),
        _score(found['sampled']['return']),
        f'{size / 1000:.0f}',
      )
    )
  return tables.grid(heads, rows)


def _score(returns: dict) -> str:
  """Renders mean and standard deviation of an evaluation's returns."""
  digits = 0 if abs(returns['mean']) >= 100 else 2
  return f'{returns["mean"]:.{digits}f} ± {returns["std"]:.{digits}f}'
