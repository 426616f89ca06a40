"""Training in the directory of a run: what it reads, and what it leaves there.

The program train and `trpo_tf.train(run_dir=...)` share it.
"""

import contextlib
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence

from trpo_tf.errors import UserError
from trpo_tf.experiment import (
  checkpoint,
  divergence_log,
  evaluations,
  progress,
  sinks,
  trackers,
)
from trpo_tf.experiment.run_directory import RunDirectory
from trpo_tf.experiment.training import Iteration, Training, TrainingState

__all__ = ['iterations']


def iterations(
  training: Training,
  say: Callable[[str], None],
  watch: Callable[[], Sequence[sinks.Sink]] = tuple,
) -> Generator[Iteration, None, None]:
  """Trains to the end, and yields each iteration once it is recorded.

  The directory is opened when the first iteration is asked for. A run that it
  holds already continues from its newest checkpoint. The state is saved from
  time to time, at the end, and when the iterator is closed or interrupted, or
  when the task fails.

  Args:
    training: the run, at its beginning.
    say: receives lines that the user should see.
    watch: makes further sinks, once the run stands where it continues.

  Yields:
    The iterations.

  Raises:
    UserError: the directory cannot be used, a package or a service is missing,
      or the task failed.
    OSError: a file could not be written.
  """
  config = training.config
  trackers.require(config)
  with contextlib.ExitStack() as stack:
    run = stack.enter_context(
      RunDirectory.open(config, training.backend.resolved())
    )
    checked = [] if run.resumed else training.backend.check()
    resumed = _resume(training, run)

    def closed_at_end(sink: sinks.Sink) -> sinks.Sink:
      stack.callback(sink.close)
      return sink

    evaluated = stack.enter_context(
      contextlib.closing(_Evaluations(run, training))
    )
    made: list[sinks.Sink] = [
      closed_at_end(sink) for sink in _files(training, run)
    ]
    for message in (*run.messages, *checked, *resumed):
      say(message)
    for tracker in trackers.open_all(config, run, say):
      made.append(closed_at_end(tracker))
    made += [closed_at_end(sink) for sink in watch()]
    recorded, saved_at = training.state, time.monotonic()

    def save() -> None:
      if not recorded.iteration:
        return  # there is nothing to lose yet, so the directory stays free
      checkpoint.save(
        run.checkpoints,
        recorded.iteration,
        recorded.tree(),
        config.run.keep_checkpoints,
      )

    try:
      for iteration in training.iterations():
        entry = sinks.Entry(
          iteration.record,
          iteration.histograms,
          iteration.terms,
          iteration.evaluated,
        )
        for sink in made:
          sink.write(entry)
        if iteration.evaluated:
          evaluated.write(iteration.evaluated, iteration.state)
        divergence_log.write(run.path / 'diverged', iteration.summary.diverged)
        for death in iteration.summary.deaths:
          say(f'{death}: its work was repeated')
        recorded = iteration.state
        if time.monotonic() - saved_at >= config.run.checkpoint_seconds:
          save()
          saved_at = time.monotonic()
        yield iteration
    except (UserError, GeneratorExit, KeyboardInterrupt):
      save()
      raise
    save()


def _resume(training: Training, run: RunDirectory) -> list[str]:
  """Continues from the newest checkpoint, if any; returns messages about it.

  Only then is anything written to the directory of the run.
  """
  done = progress.read(run.progress_csv)
  if not run.resumed:
    run.begin()
    return []
  newest = checkpoint.newest_iteration(run.checkpoints)
  if done.fault and newest > len(done.rows):
    raise done.error

  def accept(saved: checkpoint.Checkpoint) -> None:
    done.require_steps(saved.iteration, saved.state.get('env_steps'))
    training.resume(saved.state)
    training.refused_steps = done.refused_steps(saved.iteration)

  saved = checkpoint.load_newest(run.checkpoints, accept)
  run.begin()
  if saved is None:
    kept = run.set_aside()
    what = f'; what the run left is in {kept}' if kept else ''
    return [f'there is no checkpoint yet: beginning anew{what}']
  return [
    *(
      f'{skipped}; going back to {saved.path.name}' for skipped in saved.damaged
    ),
    f'continuing after {training.state.env_steps:,} env steps',
  ]


def _files(training: Training, run: RunDirectory) -> Iterator[sinks.Sink]:
  """Yields the sinks of the run's files, which are opened one by one."""
  state = training.state
  # None: the run starts anew
  yield sinks.CsvSink(run.progress_csv, state.iteration or None)
  if training.config.run.json_lines or run.progress_jsonl.exists():
    rows = progress.read(run.progress_csv).rows[: state.iteration]
    yield sinks.JsonLinesSink(run.progress_jsonl, rows)
  if training.config.run.tensorboard:
    yield sinks.TensorBoardSink(run.tensorboard, state.env_steps or None)


class _Evaluations:
  """Writes evaluations.csv and keeps the best state of the run."""

  def __init__(self, run: RunDirectory, training: Training):
    """Opens the file at the iteration that the run has reached."""
    self._run = run
    path, last = run.evaluations_csv, training.state.iteration
    rows = evaluations.read(path, last) if last else []
    self._best, self._file = -math.inf, None
    best = evaluations.best_return(rows)
    if run.best.exists():
      self._best = best
    training.solved = best >= training.config.run.stop_at_return
    if training.config.run.eval_every_env_steps or path.exists():
      self._file = evaluations.EvaluationsFile(path, rows)

  def write(self, row: evaluations.Evaluated, state: TrainingState) -> None:
    """Appends a row, and saves the state if no return was higher before."""
    assert self._file is not None
    self._file.write(row)
    if not math.isnan(row.return_mean) and row.return_mean > self._best:
      checkpoint.write(self._run.best, state.tree())
      self._best = row.return_mean

  def close(self) -> None:
    """Closes the file."""
    if self._file:
      self._file.close()
