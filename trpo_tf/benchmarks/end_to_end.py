"""Training end to end: env steps per second, and growth of memory."""

import json
import resource
import subprocess
import sys
from typing import Any

import numpy as np

from trpo_tf import config as config_lib
from trpo_tf.experiment import devices

# settings of sb3-contrib's zoo for Hopper, under our names
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
    settings: settings of the experiment by flag name.
    iterations: number of measured iterations.

  Returns:
    env_steps_per_second over all of them, the medians of sample_seconds and
    update_seconds, and the peak of resident memory in MiB after the tenth
    iteration (resident_mib_early) and after the last (resident_mib_late).
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
  """Calls `measure` in a separate process.

  Args:
    settings: settings of the experiment by flag name.
    iterations: number of measured iterations.

  Returns:
    What `measure` returns.
  """
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
  given = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in json.loads(sys.argv[1]).items()
  }
  chosen = config_lib.from_settings(given).run
  devices.configure_tensorflow(
    device=chosen.device, deterministic=chosen.deterministic_gpu
  )
  print(json.dumps(measure(given, int(sys.argv[2]))))
