"""Measures what a step of simulation is worth to each estimator.

  python -m trpo_tf.bin.bench_estimators --run_dir=RUN --json=FILE

RUN is a run of --method=trpo with a value network, in the middle of its
training. Each estimator (single path, every form of the vine) takes steps from
independent batches of its frozen policy. The quality of a step is its cosine,
in the metric of the Fisher matrix, with a natural gradient from many more env
steps. Prints a table, and writes FILE after each estimator and a picture next
to it. The same command continues a measurement that was stopped.
"""

import json
import logging
import pathlib
import time
from typing import Any

from absl import flags as absl_flags
from rich.console import Console

from trpo_tf.bin import flags
from trpo_tf.config import settings
from trpo_tf.errors import UserError
from trpo_tf.experiment import flagfiles, result_files, run_groups

_RUN_DIR = absl_flags.DEFINE_string('run_dir', '', 'directory of the run')
_JSON = absl_flags.DEFINE_string(
  'json', 'runs/bench_estimators.json', 'where to write; picture: FILE.png'
)
_STEPS = absl_flags.DEFINE_integer(
  'steps', 4000, 'env steps of a batch, a multiple of 80', lower_bound=80
)
_BATCHES = absl_flags.DEFINE_integer(
  'batches', 32, 'batches of each estimator', lower_bound=2
)
_REFERENCE = absl_flags.DEFINE_integer(
  'reference_steps',
  600_000,
  'env steps of the reference',
  lower_bound=40_000,
)


def _begin(path: pathlib.Path, measured: dict[str, Any]) -> dict[str, Any]:
  """Returns the results so far of the same measurement."""
  from trpo_tf.experiment import provenance

  if not path.exists():
    return dict(session=provenance.session(), settings=measured, estimators={})
  try:
    found = json.loads(path.read_bytes())
    # files of earlier versions do not have the settings of the run
    same = {'run': measured['run'], **found['settings']} == measured
  except (ValueError, TypeError, KeyError):
    same = False
  if not same:
    raise UserError(
      f'--json={path} holds something else: take another file, or move it away'
    )
  return found


def _measure(run: Any, result: dict[str, Any], say: Any, save: Any) -> None:
  """Measures what is missing; saves after each estimator."""
  from trpo_tf.benchmarks import estimators, estimators_list

  listed = estimators_list.estimators(run.config.estimator, _STEPS.value)
  missing = [e for e in listed if e.name not in result['estimators']]
  if not missing:
    return
  say(f'reference: {_REFERENCE.value:,} env steps')
  begin = time.monotonic()
  reference = estimators.Reference(run, _REFERENCE.value)
  rate = (time.monotonic() - begin) / _REFERENCE.value
  result |= dict(split_half=reference.split_half, limit=reference.limit)
  minutes = 3 * rate * len(missing) * _STEPS.value * _BATCHES.value / 60
  say(f'{len(missing)} estimators, about {minutes:.0f} minutes')
  for number, estimator in enumerate(missing, 1):
    say(f'{number}/{len(missing)}: {estimator.name}')
    found = estimators.measure(run, estimator, reference, _BATCHES.value)
    result['estimators'][estimator.name] = found._asdict()
    save()


def main(_) -> None:
  """Measures, prints a table and writes the JSON file and the picture."""
  path = result_files.require_json(_JSON.value)
  if _STEPS.value % 80:
    raise UserError(f'--steps={_STEPS.value} is not a multiple of 80')
  if not _RUN_DIR.value:
    raise UserError('--run_dir is missing: name a run')
  flags.import_tensorflow()
  from trpo_tf.benchmarks import estimators, estimators_report
  from trpo_tf.experiment import devices

  devices.configure_tensorflow()
  # TensorFlow takes the graphs of many estimators for many graphs of one
  logging.getLogger('tensorflow').setLevel(logging.ERROR)
  console = Console(markup=False, highlight=False)
  run = estimators.load(_RUN_DIR.value)
  identity = run_groups.identity(settings(run.config))
  measured = dict(
    task=run.config.task.task,
    trained_env_steps=run.env_steps,
    seed=run.config.run.seed,
    run={name: flagfiles.flag_text(value) for name, value in identity},
    steps=_STEPS.value,
    batches=_BATCHES.value,
    reference_steps=_REFERENCE.value,
  )
  result = _begin(path, measured)

  def save() -> None:
    result_files.write_json(path, result)

  _measure(run, result, lambda text: console.print(text, style='dim'), save)
  console.print(estimators_report.table(result))
  picture = path.with_suffix('.png')
  estimators_report.draw(result).savefig(picture)
  console.print(f'written to {path} and {picture}')


if __name__ == '__main__':
  flags.run(main)
