"""Atari games by plain calls of the emulator and plain NumPy."""

import ale_py
import numpy as np

from trpo_tf.cloning import packing
from trpo_tf.policies import conv
from trpo_tf.sampling import _atari


def _part_sums(pixels, parts):
  """Sums over equal parts of the first axis; a whole pixel counts `parts`."""
  nothing = np.zeros_like(pixels[:1])
  below = np.append(nothing, pixels.cumsum(0), 0)
  whole, rest = np.divmod(np.arange(parts + 1) * len(pixels), parts)
  cut = np.append(pixels, nothing, 0)[whole]
  return np.diff(parts * below[whole] + rest[:, None] * cut, axis=0)


def average(grey, shape):
  """Means over equal areas, rounded to the nearest, halves up."""
  sums = _part_sums(_part_sums(grey.astype(int), shape[0]).T, shape[1]).T
  return (2 * sums + grey.size) // (2 * grey.size)


def frame(game, *greys):
  """The frame of one or two screens in grey."""
  grey = np.max(greys, axis=0)
  if game.config.atari_observation == 'paper':
    height = game.screen[0] // 4 * 4
    top = (game.screen[0] - height) // 2
    grey = grey[top : top + height]
  return average(grey, game.frame_shape).astype(np.uint8)


def emulator(game, seed=0, noops=0):
  """A fresh emulator, `noops` frames after its reset."""
  ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
  ale = ale_py.ALEInterface()
  ale.setInt('random_seed', seed)
  ale.setFloat('repeat_action_probability', game.config.sticky_actions)
  ale.loadROM(game.rom)
  ale.reset_game()
  for _ in range(noops):
    ale.act(0)
  return ale


def step(game, ale, code):
  """One env step.

  Returns:
    The reward; whether the game is over; whether a life was lost; the frame,
    None if the game is over.
  """
  reward, greys, lives = 0, [], ale.lives()
  for _ in range(game.config.frame_skip):
    reward += ale.act(int(code))
    if ale.game_over():
      return reward, True, ale.lives() < lives, None
    greys.append(ale.getScreenGrayscale())
  return reward, False, ale.lives() < lives, frame(game, *greys[-2:])


def choices(factors, logits, uniforms):
  """Choices by the inverse CDF of each factor, and their log-probabilities.

  Args:
    factors: choices of each of A factors.
    logits: [n, M].
    uniforms: [n, A].

  Returns:
    int [n, A] and float [n].
  """
  actions, log_probs = [], 0
  parts = np.split(np.asarray(logits, float), np.cumsum(factors)[:-1], 1)
  for part, u in zip(parts, uniforms.T, strict=True):
    p = np.exp(part) / np.exp(part).sum(1, keepdims=True)
    actions.append((p.cumsum(1) < u[:, None]).sum(1))
    chosen = np.take_along_axis(p, actions[-1][:, None], 1)[:, 0]
    log_probs = log_probs + np.log(chosen)
  return np.stack(actions, 1), log_probs


class Policy:
  """A small network whose weights make what it sees matter.

  Attributes:
    network: its shape.
    theta: float32 [P], its parameters.
  """

  def __init__(self, game):
    self.network = conv.ConvNet(
      (*game.frame_shape, 4), (4, 4), (6,), sum(game.factors)
    )
    self._game = game
    rng = np.random.default_rng(1)
    self.theta = self.network.initial_parameters(rng, 2.0)

  def __call__(self, stacks):
    """Logits [..., M] of observations [..., H, W, 4], each from nothing."""
    shape = self._game.frame_shape
    actor = _atari.Actor(shape, (4, 4), (6,), 0, self._game.factors)
    logits = np.zeros((*stacks.shape[:-3], self.network.output_size), 'f4')
    for place in np.ndindex(stacks.shape[:-3]):
      actor.set_parameters(self.theta)
      actor.begin(np.ascontiguousarray(stacks[place]), 0)
      actor.act(None)
      logits[place] = actor.actions()[1]
    return logits


def forged_chip(state, chip, at, value):
  """Changes an integer of an emulator's state.

  Args:
    state: a serialised ALEState.
    chip: name of the chip or cartridge.
    at: number of the integer behind the name.
    value: its new value.
  """
  begin = state.index(len(chip).to_bytes(4, 'little') + chip) + 4 + len(chip)
  begin += 4 * at
  return state[:begin] + value.to_bytes(4, 'little') + state[begin + 4 :]


def forged_slot(state, change):
  """Changes what the last slot of a sampler has saved.

  Args:
    state: the sampler's state, after a batch.
    change: returns other values for [origin, slot, episode, elapsed, lives,
      state of the recorder].
  """
  emulators, sizes = state['emulators'], state['emulator_sizes'].copy()
  values = packing.unpack(emulators[-1, : sizes[-1]].tobytes())
  data = np.frombuffer(packing.pack(change(values)), np.uint8)
  wide = np.zeros((len(sizes), max(len(data), emulators.shape[1])), np.uint8)
  wide[:, : emulators.shape[1]] = emulators
  wide[-1, : len(data)], sizes[-1] = data, len(data)
  return state | dict(emulators=wide, emulator_sizes=sizes)
