"""Draws the learning curves of runs, averaged over seeds.

python -m trpo_tf.bin.plot RUN_DIRS... --out=FILE.png

RUN_DIRS are directories of runs or patterns in quotes ('runs/hopper/*'). Runs
whose settings differ only by the seed make one line: the mean over the seeds,
with its 95 % bootstrap interval, over the range that all of them cover. Runs
that have nothing to draw yet are left out, and named on standard error.
"""

import pathlib
import sys

from absl import flags as absl_flags

from trpo_tf import errors
from trpo_tf.bin import flags
from trpo_tf.experiment import plots, run_logs

_OUT = absl_flags.DEFINE_string(
  'out', None, 'image to write: FILE.png, FILE.pdf or FILE.svg (required)'
)
_X = absl_flags.DEFINE_enum(
  'x', 'env_steps', ['env_steps', 'hours'], 'quantity on the x axis'
)
_Y = absl_flags.DEFINE_string(
  'y',
  'return_mean',
  f'column of progress.csv, or {run_logs.EVALUATED}: returns of the '
  'evaluations during training (--eval_every_env_steps)',
)
_GROUP = absl_flags.DEFINE_enum(
  'group',
  'settings',
  ['settings', 'task', 'dir'],
  'which runs of a task make one line: settings: those whose settings differ '
  'only by the seed; task: all; dir: those in one directory',
)
_SMOOTH = absl_flags.DEFINE_float(
  'smooth',
  0.02,
  'window of the moving average, as a fraction of the longest run; 0: none',
  0,
  1,
)


def main(patterns: list[str]) -> None:
  """Draws the runs that the patterns name."""
  if not patterns:
    raise errors.UserError('name the directories of the runs to plot')
  if not _OUT.value:
    raise errors.UserError('--out is missing: name the image to write')
  out = pathlib.Path(_OUT.value)
  if out.suffix not in ('.png', '.pdf', '.svg'):
    raise errors.UserError(f'--out={out}: end it in .png, .pdf or .svg')
  run_logs.require_column(_Y.value)
  runs = _load(flags.expand(patterns))
  groups = run_logs.group_runs(runs, _GROUP.value)
  figure = plots.learning_curves(
    groups, x=_X.value, y=_Y.value, smooth=_SMOOTH.value
  )
  out.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(out)
  print(f'{out}: {_count(runs, "run")} in {_count(groups, "group")}')


def _load(paths: list[str]) -> list[run_logs.Run]:
  """Loads the runs that have something to draw, and names the others."""
  runs, faults = [], []
  for path in paths:
    try:
      run = run_logs.load_run(path)
      run_logs.points(run, _X.value, _Y.value)
      runs.append(run)
    except run_logs.NothingYetError as error:
      faults.append(error)
  if not runs:
    raise faults[0]
  for fault in faults:
    print(f'plot: left out: {fault}', file=sys.stderr)
  return runs


def _count(items: list, name: str) -> str:
  return f'{len(items)} {name}' + 's' * (len(items) != 1)


if __name__ == '__main__':
  flags.run(main, takes_arguments=True)
