"""Tabulates the evaluations of runs as Markdown, one row per task.

python -m trpo_tf.bin.table RUN_DIRS... [--out=FILE.md]

RUN_DIRS are directories of runs or patterns in quotes ('runs/v5/*/*').
"""

import pathlib

from absl import flags as absl_flags

from trpo_tf import errors
from trpo_tf.bin import flags
from trpo_tf.experiment import tables

_OUT = absl_flags.DEFINE_string('out', '', 'file to write; empty: only print')


def main(patterns: list[str]) -> None:
  """Prints the table of the runs that the patterns name."""
  if not patterns:
    raise errors.UserError('name the directories of the runs to tabulate')
  evaluations = [
    tables.load_evaluation(path) for path in flags.expand(patterns)
  ]
  text = tables.markdown(tables.summarize_tasks(evaluations))
  print(text, end='')
  if _OUT.value:
    pathlib.Path(_OUT.value).write_text(text)


if __name__ == '__main__':
  flags.run(main, takes_arguments=True)
