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


class Screen:
  """Two consecutive screens of an emulator; emulators of a game may share it.

  ALE does not tell the ROM's palette, so it is learned as colours appear.
  """

  def __init__(self, game: Game):
    screens = extension.Screens(game.screen, game.rows, game.frame_shape)
    self._now = screens.now(0), screens.now(1)
    self._see, self._learn = screens.see, screens.learn
    self._frame = screens.frame

  def capture(self, ale: ale_py.ALEInterface, place: int) -> None:
    """Takes an emulator's screen as the first (0) or second (1) of two."""
    ale.getScreen(self._now[place])
    if not self._see(place):
      self._learn(place, ale.getScreenGrayscale())

  def write_frame(self, out: np.ndarray, num_screens: int = 2) -> None:
    """Writes the frame, uint8 [H, W], of the second screen or of both."""
    self._frame(num_screens, out)
