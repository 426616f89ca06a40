"""Frames equal those of plain NumPy: grey, brighter of two, area averages."""

import numpy as np
import pytest
from plain_atari import average, emulator
from plain_atari import frame as plain_frame

from trpo_tf.config import AtariConfig
from trpo_tf.sampling import _atari
from trpo_tf.sampling.atari.emulator import Screen
from trpo_tf.tasks.atari import find_game


def shrink(first, second, shape, table=None):
  height, _ = first.shape
  screens = _atari.Screens(first.shape, (0, height), shape)
  out = np.zeros(shape, np.uint8)
  for place, screen in enumerate((first, second)):
    screens.now(place)[:] = screen
    screens.see(place)
    screens.learn(place, screen if table is None else table[screen])
  screens.frame(2, out)
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
    (210, 160),
    (1, 209),
    (52, 40),
  )


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


@pytest.mark.parametrize(
  'height, width, shape',
  [
    (208, 160, (52, 40)),
    (210, 160, (84, 84)),
    (250, 160, (84, 84)),
    (8, 8, (8, 8)),
    (7, 16, (1, 4)),
    (255, 160, (254, 159)),
    (257, 8, (256, 7)),
  ],
)
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
  table = np.arange(255, -1, -1, dtype=np.uint8)
  dark, bright = np.full((2, 8, 8), [[[9]], [[200]]], np.uint8)
  assert (shrink(dark, bright, (2, 2), table) == 246).all()


def test_rows_that_change_are_averaged_again():
  """Whatever was seen before, with one screen or two, rows apart or not."""
  rng = np.random.default_rng(3)
  for rows, shape in [((1, 29), (7, 10)), ((0, 30), (12, 15))]:
    screens = _atari.Screens((30, 40), rows, shape)
    out = np.zeros(shape, np.uint8)
    for _ in range(60):
      for place in rng.permutation(2)[: rng.integers(3)].tolist():
        now, y = screens.now(place), rng.integers(30)
        now[y : y + rng.integers(4), rng.integers(40) :] = rng.integers(256)
        screens.see(place)
        screens.learn(place, now)
      count = int(rng.integers(1, 3))
      screens.frame(count, out)
      both = np.max([screens.now(p) for p in range(2 - count, 2)], axis=0)
      assert (out == average(both[slice(*rows)], shape)).all()


def test_known_colours():
  screens = _atari.Screens((4, 8), (1, 4), (3, 8))
  assert screens.see(0)  # black
  screens.now(0)[1] = [7, 9, 0, 7, 7, 9, 9, 0]
  assert not screens.see(0)
  grey = np.zeros((4, 8), np.uint8)
  grey[1] = [3, 255, 0, 3, 3, 255, 255, 0]
  screens.learn(0, grey)
  screens.now(1)[2] = screens.now(0)[1]
  assert screens.see(1)
  out = np.zeros((3, 8), np.uint8)
  screens.frame(1, out)
  assert (out == [[0] * 8, grey[1], [0] * 8]).all()
  screens.now(1)[0, 3] = 8  # of no interest
  assert screens.see(1)
  screens.now(1)[3, 7] = 8
  assert not screens.see(1)


@pytest.mark.parametrize(
  'screen, frame',
  [
    ((210, 161), (84, 84)),  # no words
    ((210, 160), (0, 84)),
    ((210, 160), (84, 161)),
    ((210, 160), (211, 84)),
    ((210, 160), (84, 20)),  # areas too wide
    ((258, 160), (257, 40)),  # sums beyond 16 bits
  ],
)
def test_averages_that_are_refused(screen, frame):
  with pytest.raises(ValueError, match='cannot average'):
    _atari.Screens(screen, (0, screen[0]), frame)


def test_what_does_not_fit_is_refused():
  screens = _atari.Screens((8, 8), (0, 8), (2, 2))
  screen, frame = np.zeros((8, 8), np.uint8), np.zeros((2, 2), np.uint8)
  with pytest.raises(ValueError, match='grey should have shape'):
    screens.learn(0, screen[:4])
  with pytest.raises(ValueError, match='out should have shape'):
    screens.frame(2, screen)
  for place in (-1, 2):
    with pytest.raises(ValueError, match='two screens'):
      screens.see(place)
  with pytest.raises(ValueError, match='two screens'):
    screens.frame(0, frame)
  for wrong in (screen.astype(np.int16), screen.T[::2], screen[:, ::2]):
    with pytest.raises(ValueError, match='C-contiguous array of uint8'):
      screens.learn(0, wrong)
  frame.flags.writeable = False
  with pytest.raises(ValueError):
    screens.frame(2, frame)
  with pytest.raises(ValueError, match='cannot average'):
    _atari.Screens((8, 8), (0, 9), (2, 2))
