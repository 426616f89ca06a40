"""Renders an episode in an environment: the child process of gym_video.py.

  python -m trpo_tf.experiment.render_gym EPISODE.npz OUT.mp4

It must not import TensorFlow; render.py says why.
"""

import json
import os
import sys

import gymnasium
import numpy as np

from trpo_tf.errors import UserError, quoted
from trpo_tf.experiment import film
from trpo_tf.tasks import environment

_LONGEST = 120  # seconds
_FRAMES_PER_SECOND = 30  # of environments that do not say


def render(episode_path: str, video_path: str) -> None:
  """Repeats an episode and writes a video of it, of two minutes at most.

  Args:
    episode_path: .npz with task, keywords (JSON), the seed of the reset,
      actions [T, ...] in the environment's own form and rewards float64 [T].
    video_path: .mp4 or .gif.

  Raises:
    UserError: the environment cannot be made, renders no images, or earns
      other rewards than those.
  """
  episode = np.load(episode_path)
  keywords = json.loads(str(episode['keywords']) or '{}')
  keywords['render_mode'] = 'rgb_array'
  env = environment.raw(str(episode['task']), keywords)
  fps = env.metadata.get('render_fps') or _FRAMES_PER_SECOND
  env.reset(seed=int(episode['seed']))
  with film.writer(video_path, fps) as writer:
    writer.append_data(_frame(env))
    steps = zip(episode['actions'], episode['rewards'], strict=True)
    for frame, (action, expected) in enumerate(steps, 1):
      if frame >= _LONGEST * fps:
        break
      reward = float(env.step(action)[1])
      if reward != expected:
        raise UserError(
          'the episode cannot be repeated, as the environment is not a '
          f'function of its seed and actions: step {frame} earned {expected:g} '
          f'and now {reward:g}'
        )
      writer.append_data(_frame(env))


def _frame(env: gymnasium.Env) -> np.ndarray:
  """Renders an image, uint8 [H, W, 3]."""
  frame = np.asarray(env.render())
  if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
    raise UserError(
      f'env.render() gave {frame.dtype} of shape {frame.shape}, not an image '
      'uint8 [H, W, 3]'
    )
  return frame


if __name__ == '__main__':
  os.environ.setdefault('MUJOCO_GL', 'egl')  # read when mujoco is imported
  try:
    render(*sys.argv[1:])
  except UserError as error:
    sys.exit(str(error))
  except Exception as error:  # a user's code may raise anything
    sys.exit(quoted(error))
