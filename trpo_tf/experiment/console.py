"""The sink that people watch: the progress of the run and its returns."""

import math
import time
from collections.abc import Callable

import rich.progress

from trpo_tf.experiment import sinks
from trpo_tf.experiment.terminal import Terminal
from trpo_tf.methods.record import IterationRecord

__all__ = ['ConsoleSink']


class ConsoleSink:
  """Shows progress: one live line on a terminal, plain lines elsewhere."""

  def __init__(
    self,
    terminal: Terminal,
    total_env_steps: int,
    first_env_step: int = 0,
    *,
    total_iterations: int = 0,
    first_iteration: int = 0,
    clock: Callable[[], float] = time.monotonic,
    seconds_between_lines: float = 10.0,
  ):
    """Opens the display.

    Args:
      terminal: where to write.
      total_env_steps: env steps at which the run ends.
      first_env_step: env steps at which it starts or resumes.
      total_iterations: iterations at which the run ends if that is sooner; 0:
        only env steps end it.
      first_iteration: iterations done before the start.
      clock: returns the time in seconds.
      seconds_between_lines: minimum seconds between plain lines.
    """
    self._terminal = terminal
    self._total = total_env_steps
    self._total_iterations = total_iterations
    self._first = self._done(first_env_step, first_iteration)
    self._clock, self._begin = clock, clock()
    self._seconds_between_lines = seconds_between_lines
    self._last_line = -math.inf
    self._pending = ''
    self._refused = self._diverged = 0
    self._evaluated = ''
    self._live = None
    if terminal.is_interactive:
      self._live = rich.progress.Progress(
        rich.progress.SpinnerColumn(style='cyan'),
        rich.progress.BarColumn(bar_width=10),
        rich.progress.TextColumn('{task.description}'),
        console=terminal,
        refresh_per_second=4,
      )
      self._task = self._live.add_task('first iteration', total=1.0)
      self._live.update(self._task, completed=self._first)
      self._live.start()

  def write(self, entry: sinks.Entry) -> None:
    """Shows the state of the run.

    Args:
      entry: what is known of the iteration; an evaluation is shown until the
        next one.
    """
    record = entry.record
    if entry.evaluated is not None:
      self._evaluated = f'evaluated {entry.evaluated.return_mean:.1f}'
    self._refused += record.step_status != 'accepted'
    self._diverged += record.diverged
    text = self._text(record)
    if self._live is not None:
      done = self._done(record.env_steps, record.iteration)
      self._live.update(self._task, completed=done, description=text)
    elif self._clock() - self._last_line >= self._seconds_between_lines:
      self._plain(text)
    else:
      self._pending = text

  def close(self) -> None:
    """Ends the live line, or prints the last state if it was not shown."""
    if self._live is not None:
      self._live.stop()
    elif self._pending:
      self._plain(self._pending)

  def _plain(self, text: str) -> None:
    self._last_line, self._pending = self._clock(), ''
    self._terminal.say(text)

  def _done(self, env_steps: int, iteration: int) -> float:
    """Returns the fraction of the run that is done, by the nearer limit."""
    by_steps = env_steps / self._total
    if not self._total_iterations:
      return min(by_steps, 1.0)
    return min(max(by_steps, iteration / self._total_iterations), 1.0)

  def _text(self, record: IterationRecord) -> str:
    steps, iteration = record.env_steps, record.iteration
    elapsed = self._clock() - self._begin
    done = self._done(steps, iteration)
    since = done - self._first
    seconds_left = elapsed * (1 - done) / since if since > 0 else 0.0
    if done > steps / self._total:  # the iterations end the run
      reached = (
        f'iteration {iteration}/{self._total_iterations}, {_short(steps)}'
      )
    else:
      reached = f'{_short(steps)}/{_short(self._total)}'
    parts = [
      f'{reached} steps at {_short(record.env_steps_per_second)}/s',
      _return(record.return_mean),
      f'KL {record.mean_kl:.4f}',
      f'{_duration(seconds_left)} left' if done < 1 else _duration(elapsed),
    ]
    if self._evaluated:
      parts.append(self._evaluated)
    if self._refused:
      parts.append(f'{self._refused} refused')
    if self._diverged:
      parts.append(f'{self._diverged} diverged')
    return '  '.join(parts)


def _return(mean: float) -> str:
  return 'no episode ended' if math.isnan(mean) else f'return {mean:.1f}'


def _short(number: float) -> str:
  for size, letter in ((1e6, 'M'), (1e3, 'k')):
    if number >= size:
      return f'{number / size:.4g}{letter}'
  return f'{number:.0f}'


def _duration(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  clock = f'{minutes:02d}:{seconds:02d}'
  return f'{hours}:{clock}' if hours else clock
