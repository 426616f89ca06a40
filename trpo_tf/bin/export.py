"""Exports the newest checkpoint of a run for use without this package.

  python -m trpo_tf.bin.export --run_dir=DIR --out=NEW_DIR [--onnx]
  python -m trpo_tf.bin.export --run_dir=DIR --out=NEW_DIR --as_run

Writes a SavedModel of TensorFlow, with the signatures `act` and `distribution`
and the observation normaliser inside, and a policy.onnx if you ask for it
(docs/export.md). With --as_run it writes a small run directory instead, which
load_policy and evaluate read.
"""

import os

from absl import flags as absl_flags

from trpo_tf import extras
from trpo_tf.bin import flags
from trpo_tf.errors import UserError
from trpo_tf.experiment import saved_runs

_RUN_DIR = absl_flags.DEFINE_string('run_dir', '', 'directory of the run')
_OUT = absl_flags.DEFINE_string('out', '', 'directory to make')
_ONNX = absl_flags.DEFINE_bool('onnx', False, 'write policy.onnx too')
_AS_RUN = absl_flags.DEFINE_bool(
  'as_run', False, 'write a run directory with the policy alone'
)
_TRUST = absl_flags.DEFINE_bool('trust_task', False, flags.TRUST_HELP)


def main(_) -> None:
  """Exports the run's policy."""
  # these errors are reported before the seconds that TensorFlow's import takes
  if not _RUN_DIR.value:
    raise UserError('--run_dir is missing: name the run to export')
  if not _OUT.value:
    raise UserError('--out is missing: name the directory to make')
  out = saved_runs.expanded(_OUT.value)
  if os.path.lexists(out):
    raise UserError(f'--out={out} exists already: name a new directory')
  if _ONNX.value and _AS_RUN.value:
    raise UserError('--onnx and --as_run are two exports: make one of them')
  if _ONNX.value:
    extras.require('onnx', 'onnx', '--onnx')
  path = saved_runs.expanded(_RUN_DIR.value)
  saved_runs.read_trusted(path, _TRUST.value)
  saved_runs.load_checkpoint(path)
  flags.import_tensorflow()
  from trpo_tf.experiment import export, small_run, trained

  policy = trained.load_policy(path, _TRUST.value)
  assert policy.checkpoint is not None
  for damaged in policy.damaged:
    print(f'{damaged}; {policy.checkpoint.name} is exported')
  if _AS_RUN.value:
    small_run.write(policy, path, out)
  else:
    export.write(policy, out, _ONNX.value)
  print(f'{policy.task} after {policy.env_steps:,} env steps: {out}')


if __name__ == '__main__':
  flags.run(main)
