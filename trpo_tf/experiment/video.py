"""A video of an episode of a native task."""

import pathlib
import shutil
import subprocess
import tempfile
from typing import Any

import mujoco
import numpy as np

from trpo_tf import children
from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.sampling.batch import Batch
from trpo_tf.sampling.draws import ResetTable
from trpo_tf.tasks.task import CompiledTask

_FRAMES_PER_SECOND = 30  # about; a frame is a whole number of env steps
_LONGEST = 120  # seconds


def _step_seconds(compiled: CompiledTask) -> float:
  return compiled.model.opt.timestep * compiled.task.frame_skip


def _steps_per_frame(compiled: CompiledTask) -> int:
  return max(1, round(1 / (_FRAMES_PER_SECOND * _step_seconds(compiled))))


def episode_poses(
  compiled: CompiledTask, config: ExperimentConfig, batch: Batch, slot: int
) -> np.ndarray:
  """Repeats a recorded episode in MuJoCo, bit for bit.

  Args:
    compiled: the task.
    config: settings under which the batch was sampled (`evaluation_config`).
    batch: whole episodes, one per slot.
    slot: slot of the episode.

  Returns:
    float64 [F, nq], about 30 poses per second of simulated time, of two minutes
    at most.
  """
  model, data = compiled.model, mujoco.MjData(compiled.model)
  settings = config.task
  _, controls = compiled.actions(settings.action_range, settings.clip_actions)
  episodes = np.zeros(slot + 1, np.int64)
  first = ResetTable(compiled, config.run.seed)(episodes, 1)[slot, 0]
  data.qpos[:], data.qvel[:] = np.split(first, [model.nq])
  mujoco.mj_forward(model, data)
  skip = _steps_per_frame(compiled)
  poses = []
  longest = int(_LONGEST / _step_seconds(compiled))
  for step in range(min(int(batch.lengths[slot]), longest)):
    if step % skip == 0:
      poses.append(data.qpos.copy())
    data.ctrl[:] = controls(batch.actions[slot, step])
    mujoco.mj_step(model, data, compiled.task.frame_skip)
  return np.array(poses)


def render(path: str, module: str, **arrays: Any) -> str:
  """Writes a video in a separate process (render.py says why).

  Args:
    path: .mp4 or .gif to write.
    module: the program, which takes the names of an .npz and of the video.
    **arrays: content of the .npz, by name.

  Returns:
    The last line of what the program reported; '' if it wrote the video.

  Raises:
    OSError: the file cannot be written.
  """
  pathlib.Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory() as folder:
    given = pathlib.Path(folder) / 'given.npz'
    np.savez(given, **arrays)
    video = pathlib.Path(folder) / f'video{pathlib.Path(path).suffix}'
    done = subprocess.run(
      children.command('-m', module, str(given), str(video)),
      capture_output=True,
      text=True,
      env=children.environment(),
    )
    if done.returncode:
      lines = done.stderr.strip().splitlines()
      return lines[-1] if lines else 'the renderer crashed'
    shutil.move(video, path)
  return ''


def write_video(path: str, compiled: CompiledTask, poses: np.ndarray) -> None:
  """Renders poses.

  Args:
    path: .mp4 or .gif to write.
    compiled: the task.
    poses: float64 [F, nq].

  Raises:
    UserError: the machine cannot render; only videos need that.
    OSError: the file cannot be written.
  """
  seconds = _step_seconds(compiled) * _steps_per_frame(compiled)
  fps = max(1, round(1 / seconds))
  fault = render(
    path,
    'trpo_tf.experiment.render',
    qpos=poses,
    fps=fps,
    model_path=compiled.task.model_path,
  )
  if fault:
    raise UserError(
      f'cannot render here ({fault}): install an EGL driver (Debian: libegl1 '
      'libgl1-mesa-dri), or set MUJOCO_GL to osmesa or glfw'
    )
