r"""Reproduces a figure or table of the paper: does all runs and tabulates them.

  python -m trpo_tf.bin.reproduce --table=locomotion --budget=smoke

Start it from the root of the repository. The same command continues a
reproduction that was stopped: finished runs are skipped, and others continue
from their checkpoints. After SIGINT or SIGTERM every run finishes its iteration
and saves, and the exit code is 3; a second signal stops at once. Exit code 1
means that runs have failed. Runs and results are in OUT/BUDGET: table.md,
figure.png and csv/ with one small file per run.
"""

import pathlib

from absl import flags as absl_flags

from trpo_tf.bin import campaigns, flags
from trpo_tf.reproduction import atari, locomotion, plan
from trpo_tf.reproduction.table import Table

_TABLES = {table.name: table for table in (locomotion.TABLE, atari.TABLE)}

_TABLE = absl_flags.DEFINE_enum(
  'table',
  'locomotion',
  list(_TABLES),
  'what to reproduce; locomotion: Figure '
  '4 of the paper; atari: Table 1 and Figure 5',
)
_BUDGET = absl_flags.DEFINE_enum(
  'budget',
  'short',
  list(locomotion.TABLE.budgets),
  'how long to run: the '
  "paper's sizes, shorter ones, or just to see that all of it runs",
)
_TASKS = absl_flags.DEFINE_list('tasks', [], 'tasks; empty: all')
_METHODS = absl_flags.DEFINE_list('methods', [], 'methods; empty: all')
_SEEDS = absl_flags.DEFINE_integer(
  'seeds',
  0,
  "number of seeds, from 0 on; 0: the budget's own",
  lower_bound=0,
  upper_bound=plan.MAX_SEEDS,
)
_OUT = absl_flags.DEFINE_string(
  'out', '', 'directory for runs and results; empty: runs/TABLE'
)
_PUBLISH = absl_flags.DEFINE_string(
  'publish',
  '',
  'directory that receives a copy of the results, besides '
  'what it already holds; empty: none',
)
campaigns.define()


def _report(
  table: Table, seeds: dict[tuple[str, str], int], out: pathlib.Path
) -> bool:
  """Writes the results of all runs in `out`, including earlier commands'."""
  from trpo_tf.reproduction import report

  there = plan.seeds_there(table, seeds, out)
  entries = plan.make_entries(table, _BUDGET.value, there, out, flags.parse)
  directories = [out]
  if _PUBLISH.value:
    directories.append(pathlib.Path(_PUBLISH.value))
  if not report.write(table, _BUDGET.value, entries, directories):
    return False
  for directory in directories:
    print(f'written to {directory}: table.md, figure.png, csv/')
  return True


def main(_) -> int:
  """Does the runs and writes the results; returns the exit code."""
  table = _TABLES[_TABLE.value]
  pairs = plan.select(table, _TASKS.value, _METHODS.value)
  count = _SEEDS.value or table.budgets[_BUDGET.value].seeds
  seeds = dict.fromkeys(pairs, count)
  out = pathlib.Path(_OUT.value or f'runs/{table.name}') / _BUDGET.value
  return campaigns.run(
    table,
    lambda: plan.make_entries(table, _BUDGET.value, seeds, out, flags.parse),
    out,
    lambda: _report(table, seeds, out),
  )


if __name__ == '__main__':
  flags.run(main)
