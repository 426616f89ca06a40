"""The sink that people watch: how far the run is and how it goes."""

import math
import time
from collections.abc import Callable

import rich.console
import rich.progress

from trpo_tf.experiment import sinks

__all__ = ['ConsoleSink']


class ConsoleSink:
  """Shows progress: one live line on a terminal, plain lines elsewhere."""

  def __init__(
    self,
    total_env_steps: int,
    first_env_step: int = 0,
    *,
    console: rich.console.Console | None = None,
    clock: Callable[[], float] = time.monotonic,
    seconds_between_lines: float = 10.0,
  ):
    """Opens the display.

    Args:
      total_env_steps: where the run ends.
      first_env_step: where it starts or resumes.
      console: where to write; standard output by default.
      clock: seconds, for the time left.
      seconds_between_lines: least time between plain lines.
    """
    self._console = console or rich.console.Console(highlight=False)
    self._total, self._first = total_env_steps, first_env_step
    self._clock, self._begin = clock, clock()
    self._seconds_between_lines = seconds_between_lines
    self._last_line = -math.inf
    self._pending = ''
    self._refused = self._diverged = 0
    self._live = None
    if self._console.is_interactive:
      self._live = rich.progress.Progress(
        rich.progress.SpinnerColumn(style='cyan'),
        rich.progress.BarColumn(bar_width=10),
        rich.progress.TextColumn('{task.description}'),
        console=self._console,
        refresh_per_second=4,
      )
      self._task = self._live.add_task(
        'first iteration', total=total_env_steps, completed=first_env_step
      )
      self._live.start()

  def write(self, record: sinks.Record, histograms: sinks.Histograms) -> None:
    """Shows the state of the run."""
    del histograms
    self._refused += record['step_fraction'] == 0
    self._diverged += record['diverged']
    text = self._text(record)
    if self._live is not None:
      self._live.update(
        self._task, completed=record['env_steps'], description=text
      )
    elif self._clock() - self._last_line >= self._seconds_between_lines:
      self._plain(text)
    else:
      self._pending = text

  def print(self, message: str) -> None:
    """Prints a line of its own, above the live one."""
    self._console.print(message, markup=False, soft_wrap=True)

  def close(self) -> None:
    """Ends the live line, or prints the last state if it was not shown."""
    if self._live is not None:
      self._live.stop()
    elif self._pending:
      self._plain(self._pending)

  def _plain(self, text: str) -> None:
    self._last_line, self._pending = self._clock(), ''
    self.print(text)

  def _text(self, record: sinks.Record) -> str:
    steps = record['env_steps']
    elapsed = self._clock() - self._begin
    left = max(self._total - steps, 0)
    seconds_left = left * elapsed / max(steps - self._first, 1)
    parts = [
      f'{_short(steps)}/{_short(self._total)} steps at '
      f'{_short(record["env_steps_per_second"])}/s',
      f'return {record["return_mean"]:.1f}',
      f'KL {record["mean_kl"]:.4f}',
      f'{_duration(seconds_left)} left' if left else _duration(elapsed),
    ]
    if self._refused:
      parts.append(f'{self._refused} refused')
    if self._diverged:
      parts.append(f'{self._diverged} diverged')
    return '  '.join(parts)


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
