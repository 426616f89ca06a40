r"""Films policies of Atari games side by side: the picture of docs/atari.md.

  python docs/pictures/atari_games.py OUT.webp RUN_DIR RUN_DIR ...

OUT is an animated WebP, which repeats for ever. It needs the extra `video`.
"""

import itertools
import sys

import numpy as np
from PIL import Image

import trpo_tf
from trpo_tf.experiment import atari_video, evaluation

_BEGIN, _STEPS = 150, 150  # env steps before the film and of it
_MILLISECONDS = 67  # of an env step, four emulator frames
_HEIGHT, _WIDTH, _SPACE = 315, 240, 8  # pixels of a game, and between two


def screens(run_dir: str) -> list[np.ndarray]:
  """Plays an episode with sampled actions; returns a part of its screens.

  Args:
    run_dir: directory of the run.

  Returns:
    uint8 [height, width, 3] of each env step.
  """
  policy = trpo_tf.load_policy(run_dir)
  _, batch = evaluation.evaluate(
    policy.backend, policy.theta, policy.normalizer, 1, deterministic=False
  )
  config = evaluation.evaluation_config(policy.config, 1)
  game = policy.backend.game
  found = atari_video.episode_screens(game, config, batch, 0)
  part = itertools.islice(found, _BEGIN, _BEGIN + _STEPS)
  return [
    np.asarray(Image.fromarray(screen).resize((_WIDTH, _HEIGHT)))
    for screen in part
  ]


def main(out: str, *run_dirs: str) -> None:
  """Writes the picture.

  Args:
    out: .webp to write.
    *run_dirs: directories of the runs, from left to right.
  """
  films = [screens(run_dir) for run_dir in run_dirs]
  space = np.full((_HEIGHT, _SPACE, 3), 255, np.uint8)
  images = []
  for frames in zip(*films, strict=True):
    row = [part for frame in frames for part in (frame, space)][:-1]
    images.append(Image.fromarray(np.hstack(row)))
  images[0].save(
    out,
    save_all=True,
    append_images=images[1:],
    duration=_MILLISECONDS,
    loop=0,
    quality=60,
    method=4,
  )


if __name__ == '__main__':
  main(*sys.argv[1:])
