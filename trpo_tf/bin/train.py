r"""Trains a policy by TRPO or another method.

  python -m trpo_tf.bin.train --flagfile=configs/v5/hopper.flags --seed=1 \
    --run_dir=runs/hopper_1

The same command continues a run that was stopped. After SIGINT, SIGTERM or
SIGHUP, or when the reader of its output has gone, the run finishes its
iteration, saves and exits with code 3; a second signal stops it at once.
"""

import contextlib
import signal
import sys
import time

from absl import flags as absl_flags

from trpo_tf.bin import flags
from trpo_tf.errors import UserError

EXIT_STOPPED = 3  # stopped by a signal; the same command continues

flags.define()
_PROGRESS = absl_flags.DEFINE_bool('progress', True, 'show progress')


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


def _resume(training, run) -> list[str]:
  """Continues from the newest checkpoint, if any; returns messages about it.

  Only then is anything written to the directory of the run.
  """
  from trpo_tf.experiment import checkpoint, progress

  done = progress.read(run.progress_csv)
  if not run.resumed:
    run.begin()
    return []
  newest = checkpoint.newest_iteration(run.checkpoints)
  if done.fault and newest > len(done.rows):
    raise done.error

  def accept(saved) -> None:
    done.require_steps(saved.iteration, saved.state.get('env_steps'))
    training.resume(saved.state)

  saved = checkpoint.load_newest(run.checkpoints, accept)
  run.begin()
  if saved is None:
    return ['there is no checkpoint yet: beginning anew']
  return [
    *(
      f'{skipped}; going back to {saved.path.name}' for skipped in saved.damaged
    ),
    f'continuing after {training.state.env_steps:,} env steps',
  ]


def _make_sinks(config, run, training, terminal, stack):
  from trpo_tf.experiment import console, sinks

  iteration = training.state.iteration or None  # None: the run starts anew
  made: list[sinks.Sink] = [sinks.CsvSink(run.progress_csv, iteration)]
  if config.run.tensorboard:
    first = training.state.env_steps or None
    made.append(sinks.TensorBoardSink(run.tensorboard, first))
  if _PROGRESS.value:
    made.append(
      console.ConsoleSink(
        terminal,
        config.run.total_env_steps,
        training.state.env_steps,
        total_iterations=config.run.total_iterations,
        first_iteration=training.state.iteration,
      )
    )
  for sink in made:
    stack.callback(sink.close)
  return made


def main(_) -> int:
  """Trains the policy; returns the exit code."""
  config = flags.experiment_config()
  from trpo_tf.tasks import registry

  # these errors are reported before the seconds that TensorFlow's import takes
  if not config.run.run_dir:
    raise UserError('--run_dir is missing: name the directory to use')
  registry.find_task(config.task.task)
  with contextlib.ExitStack() as stack:
    return _train(config, stack)


def _train(config, stack: contextlib.ExitStack) -> int:
  flags.import_tensorflow()
  from trpo_tf.experiment import run_directory, terminal, threads
  from trpo_tf.experiment.training import Training

  threads.configure_tensorflow(config.run.tf_threads)
  training = Training(config)  # may fail, so this precedes the directory
  run = stack.enter_context(
    run_directory.RunDirectory.open(config, training.backend.resolved())
  )
  messages = _resume(training, run)
  output = terminal.Terminal()
  made = _make_sinks(config, run, training, output, stack)
  for message in (*run.messages, *messages, training.backend.describe()):
    if message:
      output.say(message)
  _iterate(run, training, made, output)
  if not training.finished:
    stopped = (
      f'stopped at {training.state.env_steps:,} env steps; the same command '
      'continues'
    )
    output.say(stopped)
    if output.closed:
      print(f'train: nobody reads the output: {stopped}', file=sys.stderr)
    return EXIT_STOPPED
  output.say(
    'evaluate with: python -m trpo_tf.bin.evaluate '
    f'--run_dir={config.run.run_dir}'
  )
  return 0


def _iterate(run, training, made, output) -> None:
  """Trains to the end or until a stop, writes to the sinks and saves."""
  from trpo_tf.experiment import checkpoint, divergence_log

  stop, saved_at = _StopRequest(), time.monotonic()
  settings = training.config.run

  def save() -> None:
    if not training.state.iteration:
      return  # there is nothing to lose yet, so the directory stays free
    checkpoint.save(
      run.checkpoints,
      training.state.iteration,
      training.state.tree(),
      settings.keep_checkpoints,
    )

  try:
    for iteration in training.iterations():
      for sink in made:
        sink.write(iteration.record, iteration.histograms, iteration.terms)
      divergence_log.write(run.path / 'diverged', iteration.batch.diverged)
      for death in iteration.batch.deaths:
        output.say(f'{death}: its work was repeated')
      if time.monotonic() - saved_at >= settings.checkpoint_seconds:
        save()
        saved_at = time.monotonic()
      if stop.received or output.closed:
        break
  except UserError:  # the task failed: saves what was learned before
    save()
    raise
  save()


if __name__ == '__main__':
  flags.run(main)
