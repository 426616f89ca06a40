"""A video of an episode of a native task."""

import pathlib

import imageio.v2 as imageio
import mujoco
import numpy as np

from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.sampling.batch import Batch
from trpo_tf.sampling.single_path import ResetTable
from trpo_tf.tasks.task import CompiledTask, action_scale

_HEIGHT, _WIDTH = 360, 480


def write_video(
  path: str,
  compiled: CompiledTask,
  config: ExperimentConfig,
  batch: Batch,
  slot: int = 0,
  max_frames: int = 600,
) -> None:
  """Repeats one recorded episode in MuJoCo and renders it.

  Args:
    path: .mp4 or .gif to write.
    compiled: the task.
    config: under which the batch was sampled (`evaluation_config`).
    batch: whole episodes, one a slot.
    slot: the episode to show.
    max_frames: frames to render at most; every second step is shown.

  Raises:
    UserError: the machine cannot render; training never needs it.
  """
  model, data = compiled.model, mujoco.MjData(compiled.model)
  try:
    renderer = mujoco.Renderer(model, _HEIGHT, _WIDTH)
  except Exception as error:  # EGL, GLFW and OSMesa raise types of their own
    raise UserError(
      f'cannot render ({error}): install libegl1 or set MUJOCO_GL to egl, '
      'osmesa or glfw; leave --video out to do without'
    ) from error
  fps = round(1 / (model.opt.timestep * compiled.task.frame_skip))
  first = ResetTable(compiled, config.run.seed)(
    np.zeros(slot + 1, np.int64), 1
  )[slot, 0]
  data.qpos[:], data.qvel[:] = np.split(first, [model.nq])
  mujoco.mj_forward(model, data)
  camera = _follow(model)
  scale, offset = action_scale(compiled, config.task.action_range)
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  with renderer, imageio.get_writer(path, fps=max(1, fps // 2)) as writer:
    steps = min(int(batch.lengths[slot]), 2 * max_frames)
    for step in range(steps):
      data.ctrl[:] = offset + scale * batch.actions[slot, step]
      mujoco.mj_step(model, data, compiled.task.frame_skip)
      if step % 2 == 0:
        renderer.update_scene(data, camera)
        writer.append_data(renderer.render())


def _follow(model: mujoco.MjModel) -> mujoco.MjvCamera:
  """A camera that follows the first body, from the side."""
  camera = mujoco.MjvCamera()
  camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
  camera.trackbodyid = 1
  camera.distance = 3.0 * float(model.stat.extent) ** 0.5
  camera.elevation, camera.azimuth = -15.0, 90.0
  return camera
