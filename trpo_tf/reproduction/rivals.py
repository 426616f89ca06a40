"""The table of sb3-contrib's runs (benchmarks/rival_v5.py) beside ours."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trpo_tf.experiment import tables
from trpo_tf.experiment.tables import Row

__all__ = ['table']


def table(
  rows: Sequence[Row], seconds: Mapping[str, float], directory: pathlib.Path
) -> str:
  """Renders the returns and times of both programs on the rival's tasks.

  Args:
    rows: our evaluations, a row for each task.
    seconds: by task, the median seconds of our runs.
    directory: the rival's runs TASK/SEED.json.

  Returns:
    The Markdown text. Returns are those of the mean policy; the seconds do not
    include the evaluation after the training.
  """
  heads = ['task', 'trpo_tf: return', 'seconds', 'sb3-contrib: return']
  heads += ['each seed', 'seconds', 'threads']
  cells = []
  for row in rows:
    runs = _read(directory / row.task)
    if not runs:
      continue
    means = tuple(float(np.mean(run['deterministic'])) for run in runs)
    each = ', '.join(
      f'{run["seed"]}: {tables.number(mean)}'
      for run, mean in zip(runs, means, strict=True)
    )
    threads = ', '.join(str(n) for n in sorted({r['threads'] for r in runs}))
    taken = np.median([run['seconds'] for run in runs])
    ours = tables.mean(row.deterministic), f'{seconds[row.task]:.0f}'
    theirs = tables.mean(means), each, f'{taken:.0f}', threads
    cells.append((row.task, *ours, *theirs))
  return tables.grid(heads, cells)


def _read(directory: pathlib.Path) -> list[dict[str, Any]]:
  found = [json.loads(path.read_text()) for path in directory.glob('*.json')]
  return sorted(found, key=lambda run: run['seed'])
