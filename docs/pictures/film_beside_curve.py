r"""Joins the film of a policy with its learning curve: README's first picture.

  python -m trpo_tf.bin.evaluate --run_dir=runs/film --video=runs/film/e.mp4
  python docs/pictures/film_beside_curve.py runs/film/e.mp4 runs/film OUT.webp

OUT is an animated WebP, which repeats for ever. It needs the extra `video`.
"""

import sys

import imageio.v3 as iio
import matplotlib
import matplotlib.backends.backend_agg
import numpy as np
from PIL import Image

from trpo_tf.experiment import plots, run_logs

_BEGIN, _END = 4, 10  # seconds of the film, when the robot runs
_WIDTH, _HEIGHT = 480, 360  # of each half, in pixels
_DPI = 120


def curve(run_dir: str) -> np.ndarray:
  """Draws the learning curve of a run, uint8 [height, width, 3]."""
  figure = plots.learning_curves(
    run_logs.group_runs([run_logs.load_run(run_dir)])
  )
  figure.set_dpi(_DPI)
  figure.set_size_inches(_WIDTH / _DPI, _HEIGHT / _DPI)
  canvas = matplotlib.backends.backend_agg.FigureCanvasAgg(figure)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[:, :, :3]


def join(video: str, run_dir: str, out: str) -> None:
  """Writes the picture.

  Args:
    video: what `evaluate --video` wrote, .mp4.
    run_dir: directory of the run.
    out: .webp to write.
  """
  fps = iio.immeta(video)['fps']
  frames = iio.imread(video)[round(_BEGIN * fps) : round(_END * fps)]
  right = curve(run_dir)
  images = []
  for frame in frames:
    left = Image.fromarray(frame).resize((_WIDTH, _HEIGHT))
    images.append(Image.fromarray(np.hstack([np.asarray(left), right])))
  images[0].save(
    out,
    save_all=True,
    append_images=images[1:],
    duration=round(1000 / fps),
    loop=0,
    quality=60,
    method=4,
  )


if __name__ == '__main__':
  join(*sys.argv[1:])
