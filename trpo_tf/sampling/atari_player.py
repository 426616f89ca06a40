"""An emulator and a policy that play an Atari game, job after job."""

import itertools
from collections.abc import Iterator

import numpy as np

from trpo_tf import seeding
from trpo_tf.sampling.atari_extension import extension
from trpo_tf.sampling.atari_jobs import (
  Branches,
  BranchJob,
  Orders,
  Path,
  PathJob,
  Standing,
)
from trpo_tf.sampling.atari_slot import AtariSlot, Starts
from trpo_tf.sampling.batch import End
from trpo_tf.seeding import Stream
from trpo_tf.tasks.atari import STACK

__all__ = ['Player']

_NOISE_BLOCK = 256  # env steps whose noise is drawn together
_TERMINATED, _TRUNCATED = int(End.TERMINATED), int(End.TRUNCATED)


class _View:
  """The observation of a path, as rows of its frames."""

  def __init__(self, actor: extension.Actor, start: Standing):
    self._actor = actor
    self.frames: list[np.ndarray] = []
    self.rows = (0,) * STACK
    if start.emulator:
      actor.set_stack(start.stack)
      for place in range(max(0, STACK - 1 - start.timestep), STACK):
        self._append(start.stack[..., place])

  def _append(self, frame: np.ndarray) -> None:
    self.frames.append(frame)
    self.rows = (*self.rows[1:], len(self.frames))

  def see(self, frame: np.ndarray, fresh: bool) -> None:
    """Appends a frame; a fresh one is the first of a game."""
    if fresh:
      self.rows = (0,) * STACK
    self._append(frame)
    self._actor.push(frame, fresh)

  def boundary(self, frame: np.ndarray) -> np.ndarray:
    """Rows of what a game reached whose next frame will not be seen."""
    self.frames.append(frame)
    return np.array((*self.rows[1:], len(self.frames)), np.int32)


class Player:
  """Plays paths and branches."""

  def __init__(self, orders: Orders):
    """Starts an emulator.

    Args:
      orders: the game and the policy's shape.
    """
    self._game, self._seed = orders.game, orders.seed
    self._codes = self._game.codes.ravel().tolist()
    self._starts = Starts(self._game)
    self._slot = AtariSlot(self._game, self._starts, self._seed, 0)
    self._actor = extension.Actor(
      self._game.frame_shape, orders.filters, orders.hidden_sizes,
      orders.activation, self._game.factors,
    )  # fmt: skip
    self._num_outputs = sum(self._game.factors)

  def set_parameters(self, theta: np.ndarray) -> None:
    """Sets the policy, float32 [P]."""
    self._actor.set_parameters(theta)

  def _new_frame(self) -> np.ndarray:
    return np.empty(self._game.frame_shape, np.uint8)

  def _act(self, uniforms: np.ndarray | None) -> tuple[int, np.ndarray,
                                                       np.ndarray]:
    """ALE's action, logits [M] and choices [factors]."""
    logits = np.empty(self._num_outputs, np.float32)
    choices = np.empty(len(self._game.factors), np.int32)
    number = self._actor.act(uniforms, logits, choices)
    return self._codes[number], logits, choices

  def path(self, job: PathJob) -> Path:
    """Plays on where a slot stands.

    Raises:
      UserError: its state is of another game or version of ale_py.
    """
    view = _View(self._actor, job.start)
    self._take(job, view)
    _, _, clock, total = job.start
    steps, boundaries, episodes, states = [], {}, [], {}
    for t, uniforms in enumerate(self._noise(job)):
      if t in job.saved:
        states[t] = self._slot.save()
      code, logits, choices = self._act(uniforms)
      frame = self._new_frame()
      step = self._slot.step(code, frame)
      reward, ends = step.learned(self._game.config)
      steps.append((view.rows, logits, choices, reward, ends, clock))
      clock, total = clock + 1, total + step.reward
      if step.ends:
        episodes.append((float(total), clock))
        clock, total = 0, 0
        if ends == _TRUNCATED:
          boundaries[t] = view.boundary(frame)
          frame = self._new_frame()
        self._slot.begin(frame)
      view.see(frame, bool(step.ends))
      if t + 1 >= job.num_steps and (step.ends or not job.whole_episodes):
        break
    end = Standing(self._slot.save(), self._actor.stack(), clock, float(total))
    return _path(steps, view, boundaries, episodes, states, end)

  def _take(self, job: PathJob, view: _View) -> None:
    """Puts the emulator where the slot stands."""
    if job.start.emulator:
      self._slot.load(job.start.emulator)
      return
    self._slot = AtariSlot(self._game, self._starts, self._seed, job.slot)
    frame = self._new_frame()
    self._slot.begin(frame)
    view.see(frame, True)

  def _noise(self, job: PathJob) -> Iterator[np.ndarray | None]:
    """Uniforms [factors], step by step; a slot reads its own stream."""
    if job.deterministic:
      yield from itertools.repeat(None)
    stream = seeding.generator(
      self._seed, Stream.ACTION_NOISE, job.iteration, job.slot
    )
    while True:
      yield from stream.random((_NOISE_BLOCK, len(self._game.factors)))

  def branches(self, job: BranchJob) -> Branches:
    """Plays K x M branches.

    Raises:
      UserError: the state is of another game or version of ale_py.
    """
    shape = len(job.first_actions), len(job.noise)
    result = Branches(np.zeros(shape), np.zeros(shape, np.int32),
                      np.zeros(shape, np.uint8), {})
    firsts = [self._game.codes[tuple(a)].item() for a in job.first_actions]
    for k, m in np.ndindex(shape):
      total, length, ends = self._branch(job, firsts[k], job.noise[m])
      result.returns[k, m], result.lengths[k, m] = total, length
      result.ends[k, m] = ends
      if not ends & _TERMINATED:
        newest = self._actor.stack()[..., -min(STACK, length) :]
        result.finals[k, m] = np.moveaxis(newest, -1, 0).copy()
    return result

  def _branch(self, job: BranchJob, code: int,
              noise: np.ndarray) -> tuple[float, int, int]:
    """A branch's return, length and end; nothing follows that of a game."""
    self._slot.load(job.state)
    self._actor.set_stack(job.stack)
    total, frame = 0.0, self._new_frame()
    for t, uniforms in enumerate(noise):
      if t > 0:
        code, _, _ = self._act(uniforms)
      step = self._slot.step(code, frame)
      reward, ends = step.learned(self._game.config)
      if not job.time_limit:
        ends &= ~_TRUNCATED
      total += job.gamma**t * reward
      self._actor.push(frame, False)
      if ends:
        break
    return total, t + 1, ends


def _path(steps: list[tuple], view: _View, boundaries: dict, episodes: list,
          states: dict, end: Standing) -> Path:
  observations, outputs, actions, rewards, ends, timesteps = zip(
    *steps, strict=True
  )
  return Path(
    frames=np.stack(view.frames),
    observations=np.array(observations, np.int32),
    last_observation=np.array(view.rows, np.int32),
    outputs=np.stack(outputs),
    actions=np.stack(actions),
    rewards=np.array(rewards, np.float64),
    ends=np.array(ends, np.uint8),
    timesteps=np.array(timesteps, np.int32),
    boundaries=boundaries,
    episodes=episodes,
    states=states,
    end=end,
  )
