"""The table of changes to the swimmer of Figure 4."""

import pathlib

import numpy as np

from trpo_tf.experiment import progress

__all__ = ['swimmer']

_STEPS = 500  # of a path
_LAST = 5  # iterations that a result averages over
_CHANGES = {
  'base': 'none',
  'std1': 'initial standard deviation 1 (`--initial_log_std=0`)',
  'free': 'no control cost',
  'it200': '200 iterations (Table 2)',
  'n400': '400 paths an iteration (code)',
  'g995': '`--gamma=0.995`',
  'g9999': '`--gamma=0.9999`',
  'n400g9999': '400 paths an iteration and `--gamma=0.9999`',
  'skip1': 'an env step is 1 step of the simulator, not 4',
  'skip8': 'an env step is 8 steps of the simulator',
  'skip16': 'an env step is 16 steps of the simulator',
  'skip32': 'an env step is 32 steps of the simulator',
}


def swimmer(directory: pathlib.Path) -> str:
  """Renders what single path reaches with each change.

  Args:
    directory: the runs CHANGE/SEED/progress.csv.

  Returns:
    The Markdown text, with a row for each change.
  """
  lines = [
    '| change | iterations | env steps | reward per env step, by seed |',
    '|---|---|---|---|',
  ]
  for name, text in _CHANGES.items():
    runs = {
      path.parent.name: progress.read_csv(path)
      for path in sorted(directory.glob(f'{name}/*/progress.csv'))
    }
    if not runs:
      continue
    first = next(iter(runs.values()))
    cells = [
      f'{seed}: {np.mean(run["return_mean"][-_LAST:]) / _STEPS:.3f}'
      for seed, run in runs.items()
    ]
    lines.append(
      f'| {text} | {len(first["env_steps"])} '
      f'| {first["env_steps"][-1] / 1e6:.1f}M | {", ".join(cells)} |'
    )
  return '\n'.join(lines)
