r"""Trains a policy by TRPO or another method.

  python -m trpo_tf.bin.train --preset=v5/hopper --seed=1 \
    --run_dir=runs/hopper_1

The same command continues a run that was stopped. After SIGINT, SIGTERM or
SIGHUP, or when the reader of its output has gone, the run finishes its
iteration, saves and exits with code 3; a second signal stops it at once.
"""

import contextlib
import shlex
import signal
import sys
from typing import TYPE_CHECKING

from absl import flags as absl_flags

from trpo_tf.bin import flags
from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.experiment import presets

if TYPE_CHECKING:
  from trpo_tf.experiment.training import Training

EXIT_STOPPED = 3  # stopped by a signal; the same command continues

flags.define()
flags.define_presets()
_PROGRESS = absl_flags.DEFINE_bool('progress', True, 'show progress')
_RAY_ADDRESS = absl_flags.DEFINE_string(
  'ray_address',
  '',
  'run the shards (--num_shards) in workers of a Ray cluster: auto, HOST:PORT, '
  'or local to start Ray on this machine; empty: in this process',
)
_RAY_WORKERS = absl_flags.DEFINE_integer(
  'ray_workers',
  0,
  'number of workers of --ray_address, which is local if it is not given; 0: '
  'one per core; the results do not depend on it',
  lower_bound=0,
)
_DRY_RUN = absl_flags.DEFINE_bool(
  'dry_run',
  False,
  'print the settings and what the run would do, and write nothing',
)
_LIST_PRESETS = absl_flags.DEFINE_bool(
  'list_presets', False, 'list the presets, and do nothing else'
)


class _StopRequest:
  """Notes signals that end a program; the second one has its usual effect."""

  def __init__(self):
    self.received = False
    for number in (signal.SIGINT, signal.SIGTERM):
      signal.signal(number, self._note)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
      signal.signal(signal.SIGHUP, self._note)

  def _note(self, number, frame) -> None:
    del frame
    self.received = True
    signal.signal(number, signal.SIG_DFL)


def main(_) -> int:
  """Trains the policy; returns the exit code."""
  if _LIST_PRESETS.value:
    for name, text in presets.listed().items():
      print(f'{name:32}{text}')
    return 0
  config = flags.experiment_config()
  from trpo_tf.experiment import run_directory
  from trpo_tf.tasks import registry

  # these errors are reported before the seconds that TensorFlow's import takes
  if not (config.run.run_dir or _DRY_RUN.value):
    raise UserError('--run_dir is missing: name the directory to use')
  registry.find_task(config.task.task)
  if not _DRY_RUN.value:
    run_directory.require_usable(config)
  return _train(config)


def _train(config: ExperimentConfig) -> int:
  """Builds the run where the flags want it; returns the exit code."""
  flags.import_tensorflow()
  from trpo_tf.distributed.training import training
  from trpo_tf.experiment import preview

  workers = _RAY_WORKERS.value
  address = _RAY_ADDRESS.value or ('local' if workers else '')
  # it may fail, so this precedes the directory
  with training(config, address, workers) as made:
    if _DRY_RUN.value:
      print(preview.describe(made), end='')
      return 0
    return _iterate(made)


def _iterate(training: 'Training') -> int:
  """Trains to the end or until a stop; returns the exit code."""
  from trpo_tf.experiment import console, recording, terminal

  config = training.config
  output = terminal.Terminal()

  def watch() -> list[console.ConsoleSink]:
    if text := training.backend.describe():
      output.say(text)
    if not _PROGRESS.value:
      return []
    display = console.ConsoleSink(
      output,
      config.run.total_env_steps,
      training.state.env_steps,
      total_iterations=config.run.total_iterations,
      first_iteration=training.state.iteration,
    )
    return [display]

  iterations = recording.iterations(training, output.say, watch)
  stop = _StopRequest()
  with contextlib.closing(iterations):  # saves
    for _ in iterations:
      if stop.received or output.closed:
        break
  if training.finished:
    output.say(
      'evaluate with: python -m trpo_tf.bin.evaluate '
      f'--run_dir={shlex.quote(config.run.run_dir)}'
    )
    return 0
  stopped = (
    f'stopped at {training.state.env_steps:,} env steps; the same command '
    'continues'
  )
  output.say(stopped)
  if output.closed:
    print(f'train: nobody reads the output: {stopped}', file=sys.stderr)
  return EXIT_STOPPED


if __name__ == '__main__':
  flags.run(main)
