r"""Trains with every combination of some settings, each with several seeds.

  python -m trpo_tf.bin.sweep --preset=v5/hopper \
    --grid=max_kl=0.01,0.02 --grid=gae_lambda=0.95,0.98 --seeds=3 \
    --out=runs/sweep

All flags of train apply to every run, except --run_dir: the runs are in
OUT/NAME=VALUE/.../SEED. --seed is the first seed. The same command continues a
sweep that was stopped, and runs what is missing after --grid or --seeds has
grown. Signals and exit codes are those of reproduce. The results are in OUT:
table.md has the mean return of each combination with its interval, and
curves.png the learning curves.
"""

from absl import flags as absl_flags

from trpo_tf import errors
from trpo_tf.bin import campaigns, flags
from trpo_tf.experiment import saved_runs
from trpo_tf.reproduction import plan, sweep

flags.define()
flags.define_presets()
campaigns.define()
_GRID = absl_flags.DEFINE_multi_string(
  'grid',
  [],
  "NAME=VALUE,VALUE,...: a setting and its values (';' between values of "
  'env_kwargs and between values that are lists themselves); may be repeated '
  'for other settings; none: a single combination',
)
_SEEDS = absl_flags.DEFINE_integer(
  'seeds',
  1,
  'number of seeds of each combination, from --seed on',
  lower_bound=1,
  upper_bound=plan.MAX_SEEDS,
)
_OUT = absl_flags.DEFINE_string(
  'out', '', 'directory for runs and results (required)'
)


def main(_) -> int:
  """Does the runs and writes the results; returns the exit code."""
  if not _OUT.value:
    raise errors.UserError('--out is missing: name the directory to use')
  out = saved_runs.expanded(_OUT.value)
  axes = sweep.parse_grid(_GRID.value)
  base = flags.experiment_config()
  entries = sweep.make_entries(axes, base, _SEEDS.value, out, flags.parse)
  table = sweep.make_table(entries)

  def report() -> bool:
    from trpo_tf.reproduction import sweep_report

    written = sweep_report.write(table, axes, entries, out)
    if written:
      print(f'written to {out}: {", ".join(written)}')
    return bool(written)

  return campaigns.run(table, lambda: entries, out, report)


if __name__ == '__main__':
  flags.run(main)
