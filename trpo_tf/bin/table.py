"""Tabulates the evaluations of runs as Markdown: a row per task and setting.

python -m trpo_tf.bin.table RUN_DIRS... [--out=FILE.md]

RUN_DIRS are directories of runs or patterns in quotes ('runs/v5/*/*'). The runs
in a row have the same task, and settings that differ only by the seed. Runs
that were not evaluated are left out, and named on standard error.
"""

import os
import pathlib
import sys

from absl import flags as absl_flags

from trpo_tf import errors
from trpo_tf.bin import flags
from trpo_tf.experiment import run_groups, tables

_OUT = absl_flags.DEFINE_string('out', '', 'file to write; empty: only print')


def main(patterns: list[str]) -> None:
  """Prints the table of the runs that the patterns name."""
  if not patterns:
    raise errors.UserError('name the directories of the runs to tabulate')
  paths = flags.expand(patterns)
  for name in paths:
    if not os.path.isdir(name):
      raise errors.UserError(f'{name} is not a directory')
  done = [p for p in paths if os.path.exists(f'{p}/evaluation.json')]
  # without any, the first is read for its error
  found = {path: tables.load_evaluation(path) for path in done or paths[:1]}
  if missing := [path for path in paths if path not in done]:
    print(
      f'table: not evaluated, left out: {", ".join(missing)}', file=sys.stderr
    )
  if outdated := tables.outdated(found):
    print(f'table: {outdated}', file=sys.stderr)
  settings = {p: run_groups.settings_of(p, run) for p, run in found.items()}
  run_groups.refuse_twins(settings, 'tabulate one of them')
  labels = run_groups.labels([*settings.values()])
  text = tables.markdown(tables.summarize_tasks(found.values(), labels))
  print(text, end='')
  if _OUT.value:
    path = pathlib.Path(_OUT.value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == '__main__':
  flags.run(main, takes_arguments=True)
