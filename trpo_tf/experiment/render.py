"""Renders poses to a video: the child process of video.py.

  python -m trpo_tf.experiment.render POSES.npz OUT.mp4

It must not import TensorFlow: Mesa's software renderer and TensorFlow each
bring an LLVM, and MuJoCo's renderer crashes where both are loaded.
"""

import os
import sys

from trpo_tf.experiment import film

os.environ.setdefault('MUJOCO_GL', 'egl')  # read when mujoco is imported

import mujoco  # noqa: E402
import numpy as np  # noqa: E402

_HEIGHT, _WIDTH = 384, 512  # multiples of 16, as codecs want them


class Floors:
  """Floors that stay below the moving bodies.

  Contacts take a plane to be endless, but it is drawn only as large as its size
  says, which fast robots leave. A plane moves in whole repeats of its texture,
  so that the picture does not show it.
  """

  def __init__(self, model: mujoco.MjModel):
    """Finds what can move.

    Args:
      model: the model.
    """
    still = model.body_weldid[model.geom_bodyid] == 0
    self._moving = ~still
    plane = model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
    # a size of 0 is drawn up to the horizon
    drawn = (model.geom_size[:, :2] > 0).all(axis=1)
    self._repeats = {
      int(geom): _repeat(model, int(geom))
      for geom in np.flatnonzero(plane & still & drawn)
    }

  def follow(self, data: mujoco.MjData) -> None:
    """Moves the floors below the moving bodies, after `mj_forward`."""
    if not self._moving.any():
      return
    center = data.geom_xpos[self._moving].mean(0)
    for geom, repeat in self._repeats.items():
      axes = data.geom_xmat[geom].reshape(3, 3)[:, :2]
      offset = (center - data.geom_xpos[geom]) @ axes
      data.geom_xpos[geom] += axes @ (np.round(offset / repeat) * repeat)


def _repeat(model: mujoco.MjModel, geom: int) -> np.ndarray:
  """Returns the lengths [2] by which a plane can move and look the same."""
  size, material = model.geom_size[geom, :2], model.geom_matid[geom]
  if material < 0:
    return size
  count = model.mat_texrepeat[material]  # over the plane, or over two units
  return 2 * (1 if model.mat_texuniform[material] else size) / count


class _Camera:
  """A camera that looks at all moving bodies and follows them."""

  def __init__(self, model: mujoco.MjModel, data: mujoco.MjData):
    """Places the camera.

    Args:
      model: the model.
      data: the model in its first pose.
    """
    # a body welded to the world has weldid 0
    self._moving = model.body_weldid[model.geom_bodyid] != 0
    if not self._moving.any():
      self._moving[:] = True
    places = data.geom_xpos[self._moving]
    center = places.mean(0)
    reach = np.linalg.norm(places - center, axis=1)
    self._radius = (reach + model.geom_rbound[self._moving]).max()
    self.view = mujoco.MjvCamera()
    self.view.lookat[:] = center
    self.view.distance = 3 * self._radius  # fills 0.8 of the height
    self.view.azimuth, self.view.elevation = 90.0, -30.0

  def follow(self, data: mujoco.MjData) -> None:
    """Keeps the centre of the moving bodies within half their first radius."""
    shift = data.geom_xpos[self._moving].mean(0) - self.view.lookat
    distance = np.linalg.norm(shift)
    if distance > self._radius / 2:
      self.view.lookat[:] += shift * (1 - self._radius / 2 / distance)


def render(poses_path: str, video_path: str) -> None:
  """Writes a video.

  It is taken by the model's camera `track`, which Gymnasium's models have, or
  else by a camera that looks at all moving bodies.

  Args:
    poses_path: .npz with model_path, qpos float64 [F, nq] and fps.
    video_path: .mp4 or .gif.
  """
  poses = np.load(poses_path)
  model = mujoco.MjModel.from_xml_path(str(poses['model_path']))
  data = mujoco.MjData(model)
  data.qpos[:] = poses['qpos'][0]
  mujoco.mj_forward(model, data)
  camera, floors = _Camera(model, data), Floors(model)
  own = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, 'track') >= 0
  with (
    mujoco.Renderer(model, _HEIGHT, _WIDTH) as renderer,
    film.writer(video_path, int(poses['fps'])) as writer,
  ):
    for qpos in poses['qpos']:
      data.qpos[:] = qpos
      mujoco.mj_forward(model, data)
      camera.follow(data)
      floors.follow(data)
      renderer.update_scene(data, 'track' if own else camera.view)
      writer.append_data(renderer.render())


if __name__ == '__main__':
  render(*sys.argv[1:])
