"""How long the parts of an env step of an Atari game take, in one process."""

from time import perf_counter

import ale_py
import numpy as np

from trpo_tf.benchmarks import atari, timing
from trpo_tf.policies.mlp import activation_number
from trpo_tf.sampling.atari.emulator import AtariSlot, EpisodeStarts, extension
from trpo_tf.tasks.atari import Game

__all__ = ['parts']

_PARTS = ('policy', 'emulator and its screens', 'frame')


def parts(name: str, observation: str, steps: int, rounds: int) -> dict:
  """Times what a worker of the sampler does in an env step.

  Each round plays as many frames with a bare emulator, at random, and with an
  untrained policy, whose parts are timed call by call.

  Args:
    name: name of the game.
    observation: 'paper' or 'nature', see AtariConfig.
    steps: env steps of a round, four frames each.
    rounds: number of rounds.

  Returns:
    game and observation; microseconds: by part, the median over rounds of its
    time in an env step; and emulator_over_parts, the ratio of the bare
    emulator's time to that of all parts, which limits the sampler's speed.
  """
  sampler, theta = atari.make(name, observation, batch_steps=64)
  sampler.close()
  bare, slot = _Bare(sampler.game), _Slot(sampler.game, theta)
  found = np.array(
    [[bare.play(steps), *slot.play(steps)] for _ in range(rounds)]
  )
  medians = 1e6 / steps * np.median(found, axis=0)
  return dict(
    game=name,
    observation=observation,
    microseconds=dict(zip(('bare emulator', *_PARTS), medians, strict=True)),
    emulator_over_parts=timing.ratio(found[:, 0], found[:, 1:].sum(axis=1)),
  )


class _Bare:
  """An emulator that plays at random."""

  def __init__(self, game: Game):
    self._ale = ale_py.ALEInterface()
    self._ale.setFloat('repeat_action_probability', 0.0)
    self._ale.loadROM(game.rom)
    self._frame_skip = game.config.frame_skip
    self._codes, self._rng = game.codes.ravel(), np.random.default_rng(0)
    self._start = self._ale.cloneState()  # a reset takes much longer

  def play(self, steps: int) -> float:
    """Plays env steps and returns the seconds that they took."""
    actions = self._rng.choice(self._codes, steps).tolist()
    act, game_over = self._ale.act, self._ale.game_over
    begin = perf_counter()
    for action in actions:
      for _ in range(self._frame_skip):
        act(action)
        if game_over():
          self._ale.restoreState(self._start)
    return perf_counter() - begin


class _Slot:
  """A slot of the sampler and the policy that acts in it."""

  def __init__(self, game: Game, theta: np.ndarray):
    self._shape, self._codes = game.frame_shape, game.codes.ravel().tolist()
    self._starts = EpisodeStarts(game)
    self._slot = AtariSlot(game, self._starts, seed=0, index=0)
    activation = activation_number('tanh')
    self._actor = extension.Actor(
      game.frame_shape, (16, 16), (20,), activation, game.factors
    )
    self._actor.set_parameters(theta)
    self._uniforms = np.random.default_rng(0).random
    self._factors = len(game.factors)
    self._begin()

  def _begin(self) -> None:
    frame = np.empty(self._shape, np.uint8)
    self._slot.begin(frame)
    self._actor.begin_game(frame)

  def play(self, steps: int) -> np.ndarray:
    """Plays env steps and returns the seconds of each part."""
    self._actor.begin(self._actor.stack(), 0)  # or its record would grow
    times = np.zeros((steps, 4))
    screen = self._starts.screen
    for uniforms, row in zip(
      self._uniforms((steps, self._factors)), times, strict=True
    ):
      row[0] = perf_counter()
      number = self._actor.act(uniforms)
      row[1] = perf_counter()
      step = self._slot.step(self._codes[number])
      row[2] = perf_counter()
      self._actor.observe(screen.screens, screen.count)
      row[3] = perf_counter()
      if step.ends:
        self._begin()
    return np.diff(times).sum(axis=0)
