"""Renders poses to a video: the child process of video.py.

  python -m trpo_tf.experiment.render POSES.npz OUT.mp4

It must not import TensorFlow: Mesa's software renderer and TensorFlow each
bring an LLVM, and MuJoCo's renderer crashes where both are loaded.
"""

import os
import sys

os.environ.setdefault('MUJOCO_GL', 'egl')  # read when mujoco is imported

import imageio  # noqa: E402
import mujoco  # noqa: E402
import numpy as np  # noqa: E402

_HEIGHT, _WIDTH = 360, 480


def _camera(model: mujoco.MjModel) -> mujoco.MjvCamera:
  """The model's free camera from the side, following its first body."""
  camera = mujoco.MjvCamera()
  mujoco.mjv_defaultFreeCamera(model, camera)
  camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
  camera.trackbodyid = 1
  camera.elevation, camera.azimuth = -15.0, 90.0
  return camera


def render(poses_path: str, video_path: str) -> None:
  """Writes a video.

  Args:
    poses_path: .npz with model_path, qpos float64 [F, nq] and fps.
    video_path: .mp4 or .gif.
  """
  poses = np.load(poses_path)
  model = mujoco.MjModel.from_xml_path(str(poses['model_path']))
  data, camera = mujoco.MjData(model), _camera(model)
  with (
    mujoco.Renderer(model, _HEIGHT, _WIDTH) as renderer,
    imageio.get_writer(video_path, fps=int(poses['fps'])) as writer,
  ):
    for qpos in poses['qpos']:
      data.qpos[:] = qpos
      mujoco.mj_forward(model, data)
      renderer.update_scene(data, camera)
      writer.append_data(renderer.render())


if __name__ == '__main__':
  render(*sys.argv[1:])
