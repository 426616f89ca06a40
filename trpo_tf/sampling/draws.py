"""Every random draw of paths and branches.

Each kind of draw has its own stream, keyed by seed, iteration and slot. So the
trunks of a vine are the paths of single-path sampling with the same seed, and
no draw depends on the number of threads. Worker processes of Atari games import
this module, which therefore imports neither TensorFlow nor MuJoCo.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trpo_tf import seeding
from trpo_tf.seeding import Stream

if TYPE_CHECKING:
  from trpo_tf.sampling.actors import Actor
  from trpo_tf.tasks.actions import ActionSpace
  from trpo_tf.tasks.task import CompiledTask

__all__ = ['Draws', 'ResetTable', 'episode_seed', 'noops']

# (generator, shape) -> float64 [*shape]: standard normals or uniforms
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

_RESET_CHUNK = 32  # episodes whose resets are drawn together
_NOISE_BLOCK = 256  # env steps whose noise is drawn together


class Draws(NamedTuple):
  """The draws of one iteration.

  Attributes:
    seed: seed of the run.
    iteration: key of every draw.
  """

  seed: int
  iteration: int

  def _generator(self, stream: Stream, *index: int) -> np.random.Generator:
    return seeding.generator(self.seed, stream, self.iteration, *index)

  def path_noise(
    self, slot: int, draw: Draw, shape: tuple[int, int]
  ) -> np.ndarray:
    """Draws the noise of a slot's actions, float64 [T, A].

    Args:
      slot: key of the draw.
      draw: draws the kind of noise that the policy uses.
      shape: (T, A), env steps and width of an action.
    """
    return draw(self._generator(Stream.ACTION_NOISE, slot), shape)

  def noise_rows(
    self, slots: Sequence[int], draw: Draw, size: int
  ) -> Iterator[np.ndarray]:
    """Draws the noise of several slots' actions endlessly, step by step.

    Args:
      slots: numbers of S slots; each reads the stream that `path_noise` reads.
      draw: draws the kind of noise that the policy uses.
      size: width A of an action.

    Yields:
      float64 [S, A].
    """
    streams = [self._generator(Stream.ACTION_NOISE, slot) for slot in slots]
    while True:
      blocks = [draw(stream, (_NOISE_BLOCK, size)) for stream in streams]
      yield from np.stack(blocks, axis=1)

  def retry_noise(self, slot: int, failures: int, size: int) -> np.ndarray:
    """Draws standard normals [A] for the step that follows a divergence.

    Args:
      slot: key of the draw.
      failures: how often the slot has diverged in this batch.
      size: width A of an action.
    """
    rng = self._generator(Stream.RETRY_NOISE, slot, failures)
    return rng.standard_normal(size)

  def rollout_set(
    self, num_slots: int, num_steps: int, size: int
  ) -> np.ndarray:
    """Draws N of the visited states without replacement (section 5.2).

    Every state before an action of every trunk is equally likely, as in the
    authors' 2015 code; terminal states have no action and are not among them.

    Args:
      num_slots: trunks S.
      num_steps: env steps T of each.
      size: N.

    Returns:
      int32 [N, 2]: slot and step of each state, ascending.
    """
    rng = self._generator(Stream.ROLLOUT_SET)
    chosen = np.sort(rng.choice(num_slots * num_steps, size, replace=False))
    return np.stack(np.divmod(chosen, num_steps), axis=1).astype(np.int32)

  def first_actions(
    self,
    proposal: str,
    actor: 'Actor',
    space: 'ActionSpace',
    outputs: np.ndarray,
    count: int,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Draws the actions that are tried in each rollout state from q.

    Args:
      proposal: q, see SamplerConfig.branch_proposal.
      actor: the policy.
      space: the actions that the policy chooses from.
      outputs: float32 [N, M], the policy's outputs in the rollout states.
      count: K; the proposal 'all' takes every action instead.

    Returns:
      Actions [N, K, A], float64 or int32, and their log probabilities under
      q, float64 [N, K].
    """
    rng = self._generator(Stream.BRANCH_ACTIONS)
    shape = len(outputs), count, space.size
    if proposal == 'policy':
      return actor.propose(outputs, actor.draw(rng, shape))
    if proposal == 'antithetic':  # mean + noise, mean - noise, ...
      half = actor.draw(rng, (len(outputs), count // 2, space.size))
      pairs = np.stack([half, -half], axis=2)
      return actor.propose(outputs, pairs.reshape(shape))
    if proposal == 'all':
      every = np.array(list(np.ndindex(space.factors)), np.int32)
      actions = np.broadcast_to(every, (len(outputs), *every.shape))
      return actions, np.full(actions.shape[:2], -np.log(len(every)))
    log_q = np.full(shape[:2], space.uniform_log_density)
    return space.uniform(rng, shape), log_q

  def branch_noise(
    self, draw: Draw, shape: tuple[int, int, int, int]
  ) -> np.ndarray:
    """Draws the noise that the K branches of a state share, float64 [*shape].

    Args:
      draw: draws the kind of noise that the policy uses.
      shape: (N, M, L, A); rows of first steps are not used.
    """
    return draw(self._generator(Stream.BRANCH_NOISE), shape)


def episode_seed(seed: int, slot: int, episode: int) -> int:
  """Draws the seed of an environment's reset.

  Args:
    seed: seed of the run.
    slot: key of the draw.
    episode: number of the slot's episode, from 0.
  """
  return seeding.derived_seed(seed, Stream.ENVIRONMENT, slot, episode)


def noops(seed: int, slot: int, episode: int, maximum: int) -> int:
  """Draws the number of emulator frames without action that begin an episode.

  Args:
    seed: seed of the run.
    slot: key of the draw.
    episode: number of the slot's episode, from 0.
    maximum: the number is drawn from 1 to this maximum; 0: no such frames.
  """
  if not maximum:
    return 0
  rng = seeding.generator(seed, Stream.ENVIRONMENT, slot, episode)
  return int(rng.integers(1, maximum, endpoint=True))


class ResetTable:
  """Initial states of a native task by slot and episode, in any order."""

  def __init__(self, compiled: 'CompiledTask', seed: int):
    """Builds the table, without drawing anything yet.

    Args:
      compiled: the task, whose `reset` draws the states.
      seed: seed of the run.
    """
    self._compiled, self._seed = compiled, seed
    self._chunks: dict[tuple[int, int], np.ndarray] = {}

  def _chunk(self, slot: int, chunk: int) -> np.ndarray:
    rows = self._chunks.get((slot, chunk))
    if rows is None:
      rng = seeding.generator(self._seed, Stream.RESET, slot, chunk)
      rows = self._compiled.draw_resets(rng, _RESET_CHUNK)
      self._chunks.pop((slot, chunk - 2), None)  # long past
      self._chunks[slot, chunk] = rows
    return rows

  def __call__(self, episodes: np.ndarray, count: int) -> np.ndarray:
    """Draws the states that begin the next episodes of every slot.

    Args:
      episodes: int [S], each slot's next episode.
      count: number of episodes from there on.

    Returns:
      float64 [S, count, nq + nv].

    Raises:
      UserError: the task's reset fails or returns an unusable state.
    """
    size = _RESET_CHUNK
    return np.stack(
      [
        np.concatenate(
          [
            self._chunk(slot, chunk)
            for chunk in range(first // size, (first + count - 1) // size + 1)
          ]
        )[first % size :][:count]
        for slot, first in enumerate(episodes.tolist())
      ]
    )
