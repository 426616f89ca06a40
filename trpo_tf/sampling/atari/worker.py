"""A process that plays an Atari game: python -m trpo_tf.sampling.atari.worker.

The emulator's Python binding holds the interpreter's lock while it emulates,
so threads would gain nothing. The process is started by `pool`, never forked,
and imports neither TensorFlow nor MuJoCo.
"""

import itertools
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from trpo_tf.errors import UserError
from trpo_tf.sampling.atari import messages
from trpo_tf.sampling.atari.emulator import AtariSlot, EpisodeStarts, extension
from trpo_tf.sampling.atari.jobs import (
  BranchJob,
  BranchPath,
  PathJob,
  PathResult,
  SlotState,
  StateBranches,
  WorkerConfig,
)
from trpo_tf.sampling.batch import End, Path
from trpo_tf.sampling.draws import Draws
from trpo_tf.tasks.atari import STACK

__all__ = ['Player']

_TERMINATED, _TRUNCATED = int(End.TERMINATED), int(End.TRUNCATED)


class Player:
  """Plays paths and branches."""

  def __init__(self, config: WorkerConfig):
    """Starts an emulator of the game, with a policy of the given shape."""
    self._game, self._seed = config.game, config.seed
    self._codes = self._game.codes.ravel().tolist()
    self._starts = EpisodeStarts(self._game)
    self._slot = AtariSlot(self._game, self._starts, self._seed, 0)
    self._actor = extension.Actor(
      self._game.frame_shape,
      config.filters,
      config.hidden_sizes,
      config.activation,
      self._game.factors,
    )

  def set_parameters(self, theta: np.ndarray) -> None:
    """Sets the policy's parameters theta, float32 [P]."""
    self._actor.set_parameters(theta)

  def path(self, job: PathJob) -> PathResult:
    """Plays on from the state of a slot.

    Raises:
      UserError: the state is of another game or version of ale_py.
    """
    self._take(job)
    _, _, clock, total = job.start
    steps, boundaries, episodes, states = [], {}, [], {}
    for t, uniforms in enumerate(self._noise(job)):
      if t in job.saved:
        states[t] = self._slot.save()
      step = self._slot.step(self._codes[self._actor.act(uniforms)])
      steps.append((*step.learned(self._game.config), clock))
      clock, total = clock + 1, total + step.reward
      if not step.ends & _TERMINATED:
        self._observe()
      if step.ends:
        if step.ends == _TRUNCATED:
          boundaries[t] = self._actor.rows()
        if step.ends != _TRUNCATED or clock == self._game.time_limit:
          episodes.append((float(total), clock))
        clock, total = 0, 0
        self._begin()
      if t + 1 >= job.num_steps and (step.ends or not job.whole_episodes):
        break
    rewards, ends, timesteps = zip(*steps, strict=True)
    observations, outputs, actions = self._actor.actions()
    path = Path(
      observations=observations,
      last_observation=self._actor.rows(),
      outputs=outputs,
      actions=actions,
      rewards=np.array(rewards, np.float64),
      ends=np.array(ends, np.uint8),
      timesteps=np.array(timesteps, np.int32),
      boundaries=boundaries,
      episodes=episodes,
    )
    end = SlotState(self._slot.save(), self._actor.stack(), clock, float(total))
    if job.keeps_frames:
      return PathResult(path, self._actor.frames(), states, end)
    nothing = np.zeros((0, *self._game.frame_shape), np.uint8)
    return PathResult(_blind(path), nothing, states, end)

  def _take(self, job: PathJob) -> None:
    """Puts the emulator into the state of the slot."""
    start = job.start
    if start.emulator:
      self._slot.load(start.emulator)
      self._actor.begin(start.stack, min(STACK, start.timestep + 1))
    else:
      self._slot = AtariSlot(self._game, self._starts, self._seed, job.slot)
      self._actor.begin(start.stack, 0)
      self._begin()
    self._slot.first_limit = job.first_limit

  def _begin(self) -> None:
    """Begins a game."""
    frame = np.empty(self._game.frame_shape, np.uint8)
    self._slot.begin(frame)
    self._actor.begin_game(frame)

  def _observe(self) -> None:
    screen = self._starts.screen
    self._actor.observe(screen.screens, screen.count)

  def _noise(self, job: PathJob) -> Iterator[np.ndarray | None]:
    """Yields uniforms [factors] for each step; None: act by the mode."""
    if job.deterministic:
      return itertools.repeat(None)
    rows = Draws(self._seed, job.iteration).noise_rows(
      [job.slot], np.random.Generator.random, len(self._game.factors)
    )
    return (row[0] for row in rows)

  def branches(self, job: BranchJob) -> StateBranches:
    """Plays K x M branches.

    Raises:
      UserError: the state is of another game or version of ale_py.
    """
    shape = len(job.first_actions), len(job.noise)
    result = StateBranches(
      np.zeros(shape),
      np.zeros(shape, np.int32),
      np.zeros(shape, np.uint8),
      {},
      {},
    )
    firsts = [self._game.codes[tuple(a)].item() for a in job.first_actions]
    for k, m in np.ndindex(shape):
      rewards, ends = self._branch(job, firsts[k], job.noise[m])
      result.returns[k, m] = sum(
        job.gamma**t * reward for t, reward in enumerate(rewards)
      )
      result.lengths[k, m], result.ends[k, m] = len(rewards), ends
      if job.keeps_steps:
        observations, outputs, actions = self._actor.actions()
        result.paths[k, m] = BranchPath(
          self._actor.frames(),
          observations,
          outputs,
          actions,
          np.array(rewards, np.float64),
        )
      if not ends & _TERMINATED:
        result.finals[k, m] = self._actor.frames()[-STACK:]
    return result

  def _branch(
    self, job: BranchJob, code: int, noise: np.ndarray
  ) -> tuple[list[float], int]:
    """Plays a branch; returns its rewards and bits of End."""
    self._slot.load(job.state)
    self._slot.first_limit = self._game.time_limit
    self._actor.begin(job.stack, STACK if job.keeps_steps else 0)
    rewards: list[float] = []
    for t, uniforms in enumerate(noise):
      if t > 0:
        code = self._codes[self._actor.act(uniforms)]
      step = self._slot.step(code)
      reward, ends = step.learned(self._game.config)
      if not job.time_limit:
        ends &= ~_TRUNCATED
      rewards.append(reward)
      if not step.ends & _TERMINATED:
        self._observe()
      if ends:
        break
    return rewards, ends


def _blind(path: Path) -> Path:
  """Returns a path whose observations are black."""
  return path._replace(
    observations=np.zeros_like(path.observations),
    last_observation=np.zeros_like(path.last_observation),
    boundaries={t: np.zeros_like(r) for t, r in path.boundaries.items()},
  )


def _receive(connection: Connection) -> Any:
  """Returns the next message; raises EOFError if the sampler has ended."""
  try:
    return connection.recv()
  except OSError as error:  # within a message
    raise EOFError from error


def main() -> None:
  """Does the sampler's jobs until the sampler has ended."""
  for number in (signal.SIGINT, signal.SIGTERM):  # the program handles these
    signal.signal(number, signal.SIG_IGN)
  connection = Connection(int(sys.argv[1]))
  try:
    player = Player(_receive(connection))
    while True:
      name, arguments = _receive(connection)
      for argument in arguments:
        try:
          result = getattr(player, name)(argument)
        except UserError as error:  # a state that cannot be loaded
          result = error
        if name != 'set_parameters':
          messages.send(connection, result)
  except (EOFError, ConnectionError):
    pass


if __name__ == '__main__':
  main()
