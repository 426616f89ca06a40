"""From the emulator's screens to the frames that a policy sees.

A frame is the brighter of two consecutive screens in grey, pixel by pixel (the
console draws some sprites on every other screen only), averaged over areas: of
exactly 4 x 4 pixels in the paper's mode, 2.5 x 1.9 for 84 x 84. Averages keep
what every fourth pixel would lose half of the time: the ball of Pong is two
pixels wide.

C++ does it in about a tenth of the time of NumPy, which needs a quarter of the
emulator's.
"""

import ale_py
import numpy as np

from trpo_tf.sampling.atari_extension import extension
from trpo_tf.tasks.atari import Game

__all__ = ['Screen']

_UNKNOWN = 256


class Screen:
  """Two consecutive screens of an emulator; emulators of a game may share it.

  ALE does not tell the ROM's palette, so it is learned as colours appear.
  """

  def __init__(self, game: Game):
    top, bottom = game.rows
    self._rows = slice(top, bottom)
    self._shrinker = extension.Shrinker(
      (bottom - top, game.screen[1]), game.frame_shape
    )
    self._screens = np.zeros((2, *game.screen), np.uint8)
    self._grey = np.zeros(game.screen, np.uint8)
    self._table = np.full(256, _UNKNOWN, np.uint16)
    self._table[0] = 0  # black in every palette

  def capture(self, ale: ale_py.ALEInterface, place: int) -> None:
    """Takes an emulator's screen as the first (0) or second (1) of two."""
    screen = self._screens[place]
    ale.getScreen(screen)
    if not extension.known(screen, self._screens[1 - place], self._table):
      ale.getScreenGrayscale(self._grey)
      self._table[screen] = self._grey

  def write_frame(self, out: np.ndarray, num_screens: int = 2) -> None:
    """Writes the frame, uint8 [H, W], of the second screen or of both."""
    first = self._screens[-num_screens, self._rows]
    second = self._screens[1, self._rows]
    self._shrinker.frame(first, second, self._table, out)
