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

from trpo_tf.sampling.atari.extension import extension
from trpo_tf.tasks.atari import Game

__all__ = ['Screen']


class Screen:
  """Two consecutive screens of an emulator; emulators of a game may share it.

  ALE does not tell the ROM's palette, so it is learned as colours appear.

  Attributes:
    screens: the extension's.
    count: of screens that make the frame of an env step.
  """

  def __init__(self, game: Game):
    self.screens = extension.Screens(game.screen, game.rows, game.frame_shape)
    self.count = min(2, game.config.frame_skip)
    self._now = self.screens.now(0), self.screens.now(1)
    self._see, self._learn = self.screens.see, self.screens.learn

  def capture(self, ale: ale_py.ALEInterface, place: int) -> None:
    """Takes an emulator's screen as the first (0) or second (1) of two."""
    ale.getScreen(self._now[place])
    if not self._see(place):
      self._learn(place, ale.getScreenGrayscale())

  def write_frame(self, out: np.ndarray, count: int) -> None:
    """Writes the frame, uint8 [H, W], of the second screen (1) or of both."""
    self.screens.frame(count, out)
