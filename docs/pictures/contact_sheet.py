r"""Puts a frame of each policy of the gallery on one picture.

  python docs/pictures/contact_sheet.py docs/gallery docs/pictures/gallery.jpg

It needs the extra `video`.
"""

import pathlib
import sys
import tempfile

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import trpo_tf
from trpo_tf.experiment import evaluation, video
from trpo_tf.reproduction import gallery

_COLUMNS = 5
_WIDTH, _HEIGHT, _TITLE = 240, 180, 22  # of a frame, and of what is above it
_PART = 0.3  # of the episode, after which the frame is taken


def frame(path: pathlib.Path) -> np.ndarray:
  """Renders a moment of an episode of a policy, uint8 [height, width, 3].

  Args:
    path: the policy's run directory, of a native task.
  """
  policy = trpo_tf.load_policy(path)
  config = evaluation.evaluation_config(policy.config, 1)
  _, batch = evaluation.evaluate(
    policy.backend, policy.theta, policy.normalizer, 1, deterministic=True
  )
  task = policy.backend.task
  poses = video.episode_poses(task, config, batch, 0)
  moment = int(_PART * len(poses))
  with tempfile.TemporaryDirectory() as folder:
    film = f'{folder}/frame.gif'
    video.write_video(film, task, poses[moment : moment + 1])
    return iio.imread(film)[0][:, :, :3]


def main(directory: str, out: str) -> None:
  """Writes the picture.

  Args:
    directory: the gallery.
    out: picture to write.
  """
  paths = gallery.policies(pathlib.Path(directory))
  rows = -(-len(paths) // _COLUMNS)
  size = _WIDTH * _COLUMNS, (_HEIGHT + _TITLE) * rows
  sheet = Image.new('RGB', size, 'white')
  draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
  for i, path in enumerate(paths):
    x, y = i % _COLUMNS * _WIDTH, i // _COLUMNS * (_HEIGHT + _TITLE)
    draw.text((x + 4, y + 3), f'{path.parent.name}/{path.name}', 'black', font)
    image = Image.fromarray(frame(path)).resize((_WIDTH, _HEIGHT))
    sheet.paste(image, (x, y + _TITLE))
  sheet.save(out, quality=85)


if __name__ == '__main__':
  main(*sys.argv[1:])
