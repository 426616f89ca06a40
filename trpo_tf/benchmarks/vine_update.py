"""The learner's time per env step: every step of the vine, and single path."""

from typing import Any

import numpy as np

from trpo_tf.benchmarks import timing
from trpo_tf.config import ExperimentConfig
from trpo_tf.experiment.training import Training

_WARM_UP = 2  # iterations that compile


def against_single_path(
  vine: ExperimentConfig, single_path: ExperimentConfig, rounds: int
) -> dict[str, Any]:
  """Trains by both in turn and compares the time of their updates.

  Args:
    vine: a run by the vine.
    single_path: a run of the same task by single path.
    rounds: iterations of each after those that compile.

  Returns:
    env_steps of an iteration and update_seconds per env step, both medians by
    the sampler's name; vine_over_single_path, the ratio of seconds per step.
  """
  runs = {'vine': Training(vine), 'single_path': Training(single_path)}
  steps, seconds = (np.zeros((2, _WARM_UP + rounds)) for _ in range(2))
  for i in range(_WARM_UP + rounds):
    for which, run in enumerate(runs.values()):
      iteration = next(run.iterations())
      steps[which, i] = iteration.summary.env_steps
      seconds[which, i] = iteration.record.update_seconds
  for run in runs.values():
    run.sampler.close()
  steps, each = steps[:, _WARM_UP:], (seconds / steps)[:, _WARM_UP:]
  return dict(
    env_steps=dict(zip(runs, np.median(steps, axis=1).tolist(), strict=True)),
    update_seconds=dict(
      zip(runs, np.median(each, axis=1).tolist(), strict=True)
    ),
    vine_over_single_path=timing.ratio(*each),
  )
