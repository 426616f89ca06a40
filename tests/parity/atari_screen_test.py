"""Frames equal those of plain NumPy: grey, brighter of two, area averages."""

import numpy as np
import pytest
from plain_atari import average, emulator
from plain_atari import frame as plain_frame

from trpo_tf.config import AtariConfig
from trpo_tf.sampling import _atari
from trpo_tf.sampling.atari_screen import Screen
from trpo_tf.tasks.atari import find_game

IDENTITY = np.arange(256, dtype=np.uint16)


def shrink(first, second, shape, table=IDENTITY):
  out = np.zeros(shape, np.uint8)
  _atari.Shrinker(first.shape, shape).frame(first, second, table, out)
  return out


@pytest.mark.parametrize('observation', ['paper', 'nature'])
@pytest.mark.parametrize('name', ['pong', 'seaquest', 'air_raid'])
def test_frames_of_a_game(name, observation):
  config = AtariConfig(atari_observation=observation)
  game = find_game(f'atari/{name}', config)
  ale, screen = emulator(game), Screen(game)
  frame = np.zeros(game.frame_shape, np.uint8)
  greys = [np.zeros(game.screen, np.uint8)] * 2
  rng, differing = np.random.default_rng(0), 0
  for _ in range(150):
    for place in (0, 1):
      ale.act(int(rng.integers(18)))
      screen.capture(ale, place)
      greys[place] = ale.getScreenGrayscale()
    differing += (greys[0] != greys[1]).any()
    for count in (1, 2):
      screen.write_frame(frame, count)
      assert (frame == plain_frame(game, *greys[-count:])).all()
  assert differing > 50 and np.ptp(frame) > 50


def test_paper_frames_are_52_by_40_without_a_row_at_either_end():
  game = find_game('atari/pong', AtariConfig())
  assert (game.screen, game.rows, game.frame_shape) == (
    (210, 160), (1, 209), (52, 40)
  )  # fmt: skip


def test_emulators_share_a_screen():
  game = find_game('atari/pong', AtariConfig())
  first, second = emulator(game), emulator(game)
  shared, own = Screen(game), Screen(game)
  frames = np.zeros((2, *game.frame_shape), np.uint8)
  for _ in range(60):
    second.act(3)
    own.capture(second, 1)
    own.write_frame(frames[0], 1)
    first.act(1)
    shared.capture(first, 1)
    shared.capture(second, 1)
    shared.write_frame(frames[1], 1)
    assert (frames[0] == frames[1]).all()
  assert (first.getScreen() != second.getScreen()).any()


@pytest.mark.parametrize('height, width, shape', [
  (208, 160, (52, 40)), (210, 160, (84, 84)), (250, 160, (84, 84)),
  (8, 8, (8, 8)), (7, 16, (1, 4)), (255, 160, (254, 159)), (257, 8, (256, 7)),
])  # fmt: skip
def test_averages_are_exact(height, width, shape):
  rng = np.random.default_rng(1)
  noise = rng.integers(256, size=(4, 2, height, width), dtype=np.uint8)
  noise[1] = noise[1].repeat(8, -1)[..., :width]  # words of one colour
  noise[2] = noise[2, :, :1]  # equal rows
  noise[3] = noise[3] % 2 * 255
  extremes = [np.full((2, height, width), v, np.uint8) for v in (0, 1, 255)]
  for first, second in [*noise, *extremes]:
    expected = average(np.maximum(first, second), shape)
    assert (shrink(first, second, shape) == expected).all()


def test_halves_are_rounded_up():
  # 4 x 4 pixels that add up to 7, 8 and 24 sixteenths
  screen = np.zeros((4, 16), np.uint8)
  for column, total in [(0, 7), (5, 8), (8, 24)]:
    screen[2, column] = total
  assert shrink(screen, screen, (1, 4)).tolist() == [[0, 1, 2, 0]]


def test_grey_values_are_pooled_not_colours():
  table = IDENTITY[::-1].copy()
  dark, bright = np.full((2, 8, 8), [[[9]], [[200]]], np.uint8)
  assert (shrink(dark, bright, (2, 2), table) == 246).all()


def test_known_colours():
  table = np.full(256, 256, np.uint16)
  table[[0, 7, 9]] = 0, 3, 255
  black = np.zeros((3, 8), np.uint8)
  screen = black.copy()
  screen[1] = [7, 9, 0, 7, 7, 9, 9, 0]
  assert _atari.known(screen, black, table)
  screen[2, 7] = 8
  assert not _atari.known(screen, black, table)
  assert _atari.known(screen, screen, table)  # given that it is known


@pytest.mark.parametrize('screen, frame', [
  ((210, 161), (84, 84)),  # no words
  ((210, 160), (0, 84)), ((210, 160), (84, 161)), ((210, 160), (211, 84)),
  ((210, 160), (84, 20)),  # areas too wide
  ((258, 160), (257, 40)),  # sums beyond 16 bits
])  # fmt: skip
def test_averages_that_are_refused(screen, frame):
  with pytest.raises(ValueError, match='cannot average'):
    _atari.Shrinker(screen, frame)


def test_arrays_that_do_not_fit_are_refused():
  screen = np.zeros((8, 8), np.uint8)
  with pytest.raises(ValueError, match='other sizes'):
    shrink(screen, screen[:4], (2, 2))
  with pytest.raises(ValueError, match='other sizes'):
    shrink(screen, screen, (2, 2), IDENTITY[:255])
  with pytest.raises(ValueError, match='two shapes'):
    _atari.known(screen, screen[:4], IDENTITY)
  for wrong in (screen.astype(np.int16), screen.T[::2], screen[:, ::2]):
    with pytest.raises(TypeError):
      _atari.known(wrong, screen, IDENTITY)
  locked = np.zeros((2, 2), np.uint8)
  locked.flags.writeable = False
  with pytest.raises(ValueError):
    _atari.Shrinker((8, 8), (2, 2)).frame(screen, screen, IDENTITY, locked)
