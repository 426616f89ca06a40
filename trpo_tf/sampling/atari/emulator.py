"""An Atari game as a slot of a batch: one emulator and its running episode.

A frame is the pixel-wise maximum of two consecutive grey screens (the console
draws some sprites only on every other screen), averaged over areas: 4 x 4
pixels in the paper's mode, 2.5 x 1.9 for 84 x 84. Averages keep what every
fourth pixel would often lose: the ball of Pong is two pixels wide. C++ computes
a frame in about a tenth of NumPy's time, which is a quarter of the emulator's.
"""

import functools
import hashlib
import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from trpo_tf import extras, seeding
from trpo_tf.cloning import packing
from trpo_tf.cloning.ale import FIRST_FRAMES, Recorder
from trpo_tf.config import AtariConfig
from trpo_tf.errors import UserError
from trpo_tf.sampling import draws
from trpo_tf.sampling.batch import End
from trpo_tf.seeding import Stream
from trpo_tf.tasks.atari import Game

try:
  import trpo_tf.sampling._atari as extension
except ImportError as error:
  raise ImportError(
    f'the Atari sampler cannot be loaded ({error}). Build it with: '
    'pip install -e .'
  ) from error

__all__ = [
  'AtariSlot',
  'EpisodeStarts',
  'Screen',
  'Step',
  'check_slots',
  'extension',
]

ale_py = extras.optional('ale_py', 'atari')

_NOOP = 0
_LARGE = 2**31
_TERMINATED, _TRUNCATED = int(End.TERMINATED), int(End.TRUNCATED)


class Screen:
  """Two consecutive screens of an emulator; emulators of a game may share it.

  ALE does not expose the ROM's palette, so it is learned as colours appear.

  Attributes:
    screens: the extension's screens.
    count: number of screens that make the frame of an env step.
  """

  def __init__(self, game: Game):
    self.screens = extension.Screens(game.screen, game.rows, game.frame_shape)
    self.count = min(2, game.config.frame_skip)
    self._now = self.screens.now(0), self.screens.now(1)
    self._see, self._learn = self.screens.see, self.screens.learn

  def capture(self, ale: Any, place: int) -> None:
    """Takes an emulator's screen.

    Args:
      ale: the emulator, an ale_py.ALEInterface.
      place: 0 for the first of the two screens, 1 for the second.
    """
    ale.getScreen(self._now[place])
    if not self._see(place):
      self._learn(place, ale.getScreenGrayscale())

  def write_frame(self, out: np.ndarray, count: int) -> None:
    """Writes the frame of the screens.

    Args:
      out: uint8 [H, W], receives the frame.
      count: 1 for the second screen alone, 2 for both.
    """
    self.screens.frame(count, out)


class _Emulator(NamedTuple):
  """An emulator, and the recorder that saves and restores its states."""

  ale: Any
  recorder: Recorder


def _start(game: Game, seed: int) -> _Emulator:
  """Starts an emulator and resets it."""
  ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
  ale = ale_py.ALEInterface()
  ale.setInt('random_seed', seed)
  ale.setFloat('repeat_action_probability', game.config.sticky_actions)
  ale.loadROM(game.rom)
  recorder = Recorder(ale)
  recorder.reset_game()
  return _Emulator(ale, recorder)


class EpisodeStarts:
  """The states from which episodes of a game begin, by number of no-ops.

  A reset takes as long as twenty env steps, and in some games (Beam Rider) its
  result depends on what was played before. So an episode begins by restoring a
  state. A state lacks what is special in the first FIRST_FRAMES frames after a
  reset, so an episode with fewer no-ops also resets after the restore.

  Attributes:
    screen: shared by the emulators that begin here, one at a time.
  """

  def __init__(self, game: Game):
    self._longest = 0  # no-ops with which the game is not over yet
    ale, recorder = _start(game, seed=0)
    self.screen = Screen(game)
    self._states, self._lives, self._frames = [], [], []
    for noops in range(1, max(FIRST_FRAMES, game.config.noop_max) + 1):
      recorder.act(_NOOP)
      if ale.game_over():
        break
      self._longest = noops
      if noops >= FIRST_FRAMES:
        self._states.append((*recorder.save(False), False))
        self._lives.append(ale.lives())
        self._frames.append(np.zeros(game.frame_shape, np.uint8))
        self.screen.capture(ale, 1)
        self.screen.write_frame(self._frames[-1], count=1)

  def begin(self, noops: int, emulator: _Emulator, frame: np.ndarray) -> int:
    """Begins an episode, without changing the emulator's random generator.

    Args:
      noops: number of emulator frames without action after the reset.
      emulator: any emulator of the game.
      frame: uint8 [H, W], receives the first frame.

    Returns:
      The number of lives.

    Raises:
      UserError: the game is over after so many no-ops.
    """
    if noops > self._longest:
      raise UserError(
        f'--noop_max: the game is over after {noops} frames without an action: '
        f'take at most {self._longest}'
      )
    ale, recorder = emulator
    place = max(0, noops - FIRST_FRAMES)
    recorder.restore(*self._states[place])
    if noops >= FIRST_FRAMES:
      frame[:] = self._frames[place]
      return self._lives[place]
    recorder.reset_game()
    for _ in range(noops):
      recorder.act(_NOOP)
    self.screen.capture(ale, 1)
    self.screen.write_frame(frame, count=1)
    return ale.lives()


class Step(NamedTuple):
  """The result of an env step.

  Attributes:
    reward: raw.
    ends: bits of End, of the game; 0 if only a life was lost.
    life_lost: whether there are fewer lives than before.
  """

  reward: int
  ends: int
  life_lost: bool

  def learned(self, config: AtariConfig) -> tuple[int, int]:
    """Returns the reward and bits of End to learn from, by the settings."""
    reward, ends = self.reward, self.ends
    if config.clip_rewards:
      reward = (reward > 0) - (reward < 0)
    if config.life_loss_ends_return and self.life_lost:
      ends |= _TERMINATED
    return reward, ends


class AtariSlot:
  """One emulator and its running episode.

  Attributes:
    first_limit: env steps after which the slot's first episode is truncated.
  """

  def __init__(self, game: Game, starts: EpisodeStarts, seed: int, index: int):
    """Starts the emulator; an episode begins with `begin`.

    Args:
      game: the game.
      starts: the episode starts of the game; slots may share them.
      seed: seed of the run.
      index: number of the slot.
    """
    self._game, self._starts = game, starts
    self.first_limit = game.time_limit
    self._seed, self._index = seed, index
    # a key that differs from those of the episodes, (slot, episode)
    self._emulator = _start(
      game, seeding.derived_seed(seed, Stream.ENVIRONMENT, index, 0, 1)
    )
    self._episode = self._elapsed = self._lives = 0
    self._frames = range(game.config.frame_skip - 1, -1, -1)
    self._capture = starts.screen.capture
    # without sticky actions the recorder is needed only at the start
    sticky = game.config.sticky_actions
    self._recorded = math.inf if sticky else FIRST_FRAMES

  def begin(self, frame: np.ndarray) -> None:
    """Begins the next episode; its first frame is written to uint8 [H, W]."""
    noops = draws.noops(
      self._seed, self._index, self._episode, self._game.config.noop_max
    )
    self._lives = self._starts.begin(noops, self._emulator, frame)
    self._episode += 1
    self._elapsed = 0

  def step(self, code: int) -> Step:
    """Sends one of ALE's actions for the frames of an env step."""
    ale, recorder = self._emulator
    act = recorder.act if self._elapsed < self._recorded else ale.act
    self._elapsed += 1
    reward = 0
    for left in self._frames:
      reward += act(code)  # has no effect once the game is over
      if left < 2:
        self._capture(ale, 1 - left)
    ends = _TERMINATED * ale.game_over()
    limit = self.first_limit if self._episode == 1 else self._game.time_limit
    if self._elapsed == limit:
      ends |= _TRUNCATED
    lives, self._lives = self._lives, ale.lives()
    return Step(reward, ends, self._lives < lives)

  def screen(self) -> np.ndarray:
    """Returns the emulator's screen in colour, uint8 [H, W, 3]."""
    return self._emulator.ale.getScreenRGB()

  def save(self) -> bytes:
    """Packs the state before the next action, with the emulator's generator."""
    state = (*self._emulator.recorder.save(True), True)
    return packing.pack(
      [
        _origin(self._game),
        self._index,
        self._episode,
        self._elapsed,
        self._lives,
        state,
      ]
    )

  def load(self, data: bytes) -> None:
    """Restores a saved slot, which does not contain the stack of frames.

    Raises:
      UserError: the state is of another ROM or version of ale_py.
    """
    self._index, self._episode, self._elapsed, self._lives, state = _unpacked(
      self._game, data
    )
    self._emulator.recorder.restore(*state)


# what a value of another type or form raises where it is used
_DAMAGES = (AttributeError, LookupError, TypeError, ValueError)


def check_slots(game: Game, slots: Sequence[bytes]) -> None:
  """Refuses saved slots that no run of the game has saved.

  ALE would write past its memory at some of them. The others are restored by an
  emulator of this process, as their worker will do.

  Args:
    game: the game.
    slots: what each slot saved, in order; empty before its first episode.

  Raises:
    UserError: a state is of another ROM or version of ale_py, or damaged.
  """
  if not any(slots):
    return
  ale, recorder = _start(game, seed=0)
  own = ale.cloneState(include_rng=True).serialize()
  for index, data in enumerate(slots):
    if not data:
      continue
    found = _unpacked(game, data)
    try:
      _check_numbers(found[:-1], index, game.time_limit)
      *state, include_rng = found[-1]
      if include_rng is not True:
        raise ValueError('no random generator')
      recorder.restore_foreign(state, own, include_rng)
    except _DAMAGES as error:
      raise UserError(f'the stored emulator is damaged: {error}') from error


def _check_numbers(numbers: list, index: int, time_limit: int) -> None:
  lives = -_LARGE, _LARGE  # compared only
  bounds = (index, index), (1, _LARGE), (0, time_limit - 1), lives
  for number, (least, most) in zip(numbers, bounds, strict=True):
    if type(number) is not int or not least <= number <= most:
      raise ValueError(f'{numbers} of slot {index}')


def _unpacked(game: Game, data: bytes) -> list:
  """Unpacks what AtariSlot.save packed, without the origin; see `load`."""
  try:
    origin, *state = packing.unpack(data)
  except Exception as error:  # of json, zlib or NumPy
    raise UserError(f'the stored emulator is damaged: {error}') from error
  if origin != _origin(game):
    raise UserError(
      f'the stored emulator is {origin}, this one is {_origin(game)}: begin '
      'anew in another --run_dir'
    )
  return state


def _origin(game: Game) -> str:
  """Names the library and ROM that can load a state."""
  return f'ale-py {ale_py.__version__}, {game.name} {_digest(game.rom)}'


@functools.lru_cache
def _digest(rom: str) -> str:
  return hashlib.sha256(pathlib.Path(rom).read_bytes()).hexdigest()[:16]
