"""Tables of single changes: to Figure 4's swimmer, and to the damping."""

import pathlib

import numpy as np

from trpo_tf.experiment import progress, tables

__all__ = ['damping', 'swimmer']

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
  heads = ('change', 'iterations', 'env steps', 'reward per env step, by seed')
  rows = []
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
    steps = first['env_steps']
    size = str(len(steps)), f'{steps[-1] / 1e6:.1f}M'
    rows.append((text, *size, ', '.join(cells)))
  return tables.grid(heads, rows)


_DAMPINGS = {'base': 0.1, 'damp1': 1, 'damp10': 10}
_SOLVED_STEPS = 200_000  # env steps after which all of these runs balance
_WHOLE = 1000  # env steps of an episode without a fall


def damping(directory: pathlib.Path) -> str:
  """Renders what the damping changes on InvertedDoublePendulum-v5.

  Args:
    directory: the runs TASK_TRIAL/SEED, with evaluation.json and progress.csv.

  Returns:
    The Markdown text, with a row for each damping.
  """
  heads = ['damping', 'seeds', 'largest KL of a state: median, maximum']
  heads += ['iterations with a fall', 'return of the mean policy']
  rows = []
  for name, value in _DAMPINGS.items():
    group = directory / f'inverted_double_pendulum_{name}'
    paths = sorted(path.parent for path in group.glob('*/progress.csv'))
    row = tables.summarize(map(tables.load_evaluation, paths))
    kls, falls = [], []
    for path in paths:
      columns = progress.read_csv(path / 'progress.csv')
      late = columns['env_steps'] > _SOLVED_STEPS
      lengths = columns['episode_length_mean'][late]
      kls.append(columns['max_state_kl'][late])
      falls.append(lengths[np.isfinite(lengths)] < _WHOLE)
    kl, share = np.concatenate(kls), np.concatenate(falls).mean()
    rows.append(
      (
        f'{value:g}',
        ', '.join(path.name for path in paths),
        f'{np.median(kl):.2f}, {kl.max():.1f}',
        f'{100 * share:.0f} %',
        ', '.join(map(tables.number, row.deterministic)),
      )
    )
  return tables.grid(heads, rows)
