"""A video of an episode of an Atari game."""

import itertools
import pathlib
from collections.abc import Iterator

import numpy as np

from trpo_tf.config import ExperimentConfig
from trpo_tf.experiment import film
from trpo_tf.sampling.atari.emulator import AtariSlot, EpisodeStarts
from trpo_tf.sampling.batch import Batch
from trpo_tf.tasks.atari import Game

__all__ = ['episode_screens', 'write_video']

_EMULATOR_FRAMES = 60  # per second
_LONGEST = 120  # seconds
_SCALE = 3  # the screen has only 160 x 210 pixels


def episode_screens(
  game: Game, config: ExperimentConfig, batch: Batch, slot: int
) -> Iterator[np.ndarray]:
  """Repeats a recorded episode in a fresh emulator.

  Args:
    game: the game.
    config: settings under which the batch was sampled (`evaluation_config`).
    batch: whole episodes, one per slot.
    slot: slot of the episode.

  Yields:
    uint8 [210, 160, 3], the screen after every action.
  """
  emulator = AtariSlot(game, EpisodeStarts(game), config.run.seed, slot)
  emulator.begin(np.empty(game.frame_shape, np.uint8))
  for action in batch.actions[slot, : batch.lengths[slot]]:
    emulator.step(game.codes[tuple(action)].item())
    yield emulator.screen()


def write_video(path: str, game: Game, screens: Iterator[np.ndarray]) -> None:
  """Writes a video at the game's own speed, of two minutes at most.

  Args:
    path: .mp4 or .gif to write.
    game: the game.
    screens: uint8 [210, 160, 3], one per env step.
  """
  fps = _EMULATOR_FRAMES / game.config.frame_skip
  pathlib.Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
  with film.writer(path, fps) as writer:
    for screen in itertools.islice(screens, int(_LONGEST * fps)):
      writer.append_data(screen.repeat(_SCALE, 0).repeat(_SCALE, 1))
