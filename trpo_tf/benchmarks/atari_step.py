"""How long the parts of an env step of an Atari game take, in one process."""

from time import perf_counter

import numpy as np

from trpo_tf.benchmarks import atari, timing
from trpo_tf.benchmarks.bare_emulator import BareEmulator
from trpo_tf.experiment import backend
from trpo_tf.policies.mlp import activation_number
from trpo_tf.sampling.atari.emulator import AtariSlot, EpisodeStarts, extension

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
  made, theta = atari.untrained(name, observation, batch_steps=64)
  bare, slot = BareEmulator(made.game.rom), _Slot(made, theta)
  frames = made.game.config.frame_skip * steps
  found = np.array(
    [
      [timing.seconds(lambda: bare.play(frames)), *slot.play(steps)]
      for _ in range(rounds)
    ]
  )
  medians = 1e6 / steps * np.median(found, axis=0)
  return dict(
    game=name,
    observation=observation,
    microseconds=dict(zip(('bare emulator', *_PARTS), medians, strict=True)),
    emulator_over_parts=timing.ratio(found[:, 0], found[:, 1:].sum(axis=1)),
  )


class _Slot:
  """A slot of the sampler and the policy that acts in it."""

  def __init__(self, made: backend.Atari, theta: np.ndarray):
    game, network = made.game, made.policy().network
    self._shape, self._codes = game.frame_shape, game.codes.ravel().tolist()
    self._starts = EpisodeStarts(game)
    self._slot = AtariSlot(game, self._starts, seed=0, index=0)
    self._actor = extension.Actor(
      game.frame_shape,
      network.filters,
      network.hidden_sizes,
      activation_number(network.activation),
      game.factors,
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
    noise = self._uniforms((steps, self._factors))
    for uniforms, row in zip(noise, times, strict=True):
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
