"""Training end to end: env steps per second, and memory that stays flat."""

import json
import resource
import subprocess
import sys
from typing import Any

import numpy as np

from trpo_tf import config as config_lib
from trpo_tf.experiment import threads

# sb3-contrib's settings of its zoo for Hopper, under our names
RIVAL_SETTINGS = dict(
  task='Hopper-v5',
  batch_steps=2048,
  num_slots=8,
  value_epochs=20,
  value_minibatch=128,
  cg_iterations=25,
  initial_log_std=0.0,
)


def measure(settings: dict[str, Any], iterations: int) -> dict[str, float]:
  """Trains and measures, after three iterations of warm-up.

  Args:
    settings: of the experiment.
    iterations: measured iterations.

  Returns:
    env_steps_per_second over all of them, sample_seconds and update_seconds
    of the median iteration, and the peak of resident memory so far, in MiB,
    after the tenth iteration and after the last.
  """
  from trpo_tf.experiment.training import Training

  config = config_lib.from_settings(settings | dict(total_env_steps=2**53))
  training = Training(config)
  records, resident = [], []
  for iteration in training.iterations():
    records.append(iteration.record)
    resident.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    if len(records) == iterations + 3:
      break
  records = records[3:]
  seconds = sum(r.sample_seconds + r.update_seconds for r in records)
  steps = records[-1].env_steps - records[0].env_steps
  steps += config.sampler.batch_steps
  return dict(
    env_steps_per_second=steps / seconds,
    sample_seconds=float(np.median([r.sample_seconds for r in records])),
    update_seconds=float(np.median([r.update_seconds for r in records])),
    resident_mib_early=resident[min(10, len(resident) - 1)],
    resident_mib_late=resident[-1],
  )


def run(settings: dict[str, Any], iterations: int) -> dict[str, float]:
  """`measure` in a process of its own."""
  done = subprocess.run(
    [
      sys.executable,
      '-m',
      'trpo_tf.benchmarks.end_to_end',
      json.dumps(settings),
      str(iterations),
    ],
    capture_output=True,
    text=True,
  )
  if done.returncode:
    raise RuntimeError(done.stderr)
  return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == '__main__':
  threads.configure_tensorflow()
  given = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in json.loads(sys.argv[1]).items()
  }
  print(json.dumps(measure(given, int(sys.argv[2]))))
