"""The sink of a tracking service: Weights & Biases or MLflow.

A service may be slow or fail at any time, so a thread of its own talks to it.
Training waits only for a service that is too slow by thousands of iterations,
and for a minute at most if it hangs. An iteration that could not be sent is
counted, and the run goes on.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from trpo_tf import extras
from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.experiment import sinks, tracking_services
from trpo_tf.experiment.run_directory import RunDirectory

__all__ = ['Service', 'TrackerSink', 'open_all', 'require']

_QUEUE_SIZE = 10_000  # iterations, of some kB each
_PATIENCE = 60.0  # seconds without anything being sent


class Service(Protocol):
  """One run in a tracking service. Its methods raise any error."""

  def log(self, env_steps: int, scalars: Mapping[str, float]) -> None:
    """Sends the scalars of an iteration; of one that it has, or does nothing.

    Args:
      env_steps: env steps of the run after the iteration.
      scalars: finite numbers by tag.
    """

  def finish(self) -> None:
    """Ends the run there, once everything has been sent."""


class TrackerSink:
  """A sink that sends the numbers of each iteration to a tracking service."""

  def __init__(
    self,
    name: str,
    service: Service,
    say: Callable[[str], None],
    *,
    patience: float = _PATIENCE,
    queue_size: int = _QUEUE_SIZE,
  ):
    """Starts the thread.

    Args:
      name: name of the service, for messages.
      service: the run in the service.
      say: receives lines that the user should see.
      patience: seconds to wait while nothing is sent, at the end or because too
        much waits already.
      queue_size: iterations that may wait for being sent.
    """
    self._name, self._service, self._say = name, service, say
    self._patience = patience
    self._queue: queue.Queue = queue.Queue(queue_size)  # None ends it
    self._error = ''  # the first one
    self._said = False
    self._given = self._sent = 0
    self._thread = threading.Thread(target=self._run, daemon=True)
    self._thread.start()

  def write(self, entry: sinks.Entry) -> None:
    """Hands the scalars over, those of TensorBoard.

    Args:
      entry: what is known of the iteration.
    """
    self._given += 1
    self._warn()
    item = entry.record.env_steps, sinks.scalars(entry)
    try:  # what does not fit is counted as not sent
      self._queue.put(item, timeout=0 if self._error else self._patience)
    except queue.Full:
      self._error = self._error or self._silence

  def close(self) -> None:
    """Waits until all is sent, or until nothing is any more."""
    try:
      self._queue.put(None, timeout=self._patience)
    except queue.Full:
      pass
    sent = -1
    while self._thread.is_alive() and sent != self._sent:
      sent = self._sent
      self._thread.join(self._patience)
    if self._thread.is_alive() and not self._error:
      self._error = self._silence
    self._warn()
    if missing := self._given - self._sent:
      self._say(
        f'{self._name} lacks {missing} of the {self._given} iterations of this '
        'session: progress.csv has all of them'
      )

  @property
  def _silence(self) -> str:
    return f'no answer in {self._patience:g} s'

  def _run(self) -> None:
    """Sends what is in the queue; the body of the thread."""
    while (item := self._queue.get()) is not None:
      if self._attempt(self._service.log, *item):
        self._sent += 1
    self._attempt(self._service.finish)

  def _attempt(self, call: Callable[..., None], *arguments: object) -> bool:
    """Returns whether a call of the service succeeded."""
    try:
      call(*arguments)
      return True
    except Exception as error:  # whatever its library raises
      self._error = self._error or _one_line(error)
      return False

  def _warn(self) -> None:
    """Says the first error, once."""
    if self._error and not self._said:
      self._said = True
      self._say(
        f'{self._name} failed ({self._error}): the run goes on, and counts the '
        'iterations that it could not send'
      )


# what opens the run, by the flag, which is also the package and the extra
_SERVICES: dict[str, Callable[..., Service]] = {
  'wandb': tracking_services.WeightsAndBiases,
  'mlflow': tracking_services.MLflow,
}


def require(config: ExperimentConfig) -> None:
  """Raises UserError if the package of a service is not installed.

  Args:
    config: settings of the run.
  """
  for flag in _chosen(config):
    extras.require(flag, flag, f'--{flag}={getattr(config.run, flag)}')


def open_all(
  config: ExperimentConfig, run: RunDirectory, say: Callable[[str], None]
) -> Iterator[TrackerSink]:
  """Opens the services that a run wants, one by one.

  Args:
    config: settings of the run.
    run: its directory.
    say: receives lines that the user should see.

  Yields:
    A sink for each.

  Raises:
    UserError: a service cannot be reached, or refuses the run.
  """
  for flag in _chosen(config):
    target = getattr(config.run, flag)
    say(f'--{flag}={target}: connecting')
    try:
      service = _SERVICES[flag](target, run.id, run.path, config)
    except Exception as error:  # whatever its library raises
      raise UserError(f'--{flag}={target}: {_one_line(error)}') from error
    yield TrackerSink(flag, service, say)


def _chosen(config: ExperimentConfig) -> list[str]:
  return [flag for flag in _SERVICES if getattr(config.run, flag)]


def _one_line(error: Exception) -> str:
  return ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
