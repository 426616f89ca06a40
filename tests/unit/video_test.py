"""Floors reach below every pose, and films are rendered on their own."""

import imageio.v3 as iio
import mujoco
import numpy as np
import pytest

from trpo_tf.experiment import video
from trpo_tf.tasks.registry import NATIVE_TASKS


@pytest.mark.slow
@pytest.mark.parametrize(
  'name', ['HalfCheetah', 'Hopper', 'Walker2d', 'Swimmer', 'Ant', 'Humanoid']
)
def test_a_robot_does_not_leave_its_floor(name, tmp_path):
  """Floors end after 20 to 40 m; textures repeat after 2/3, 4/3 or 8/3 m."""
  path = str(NATIVE_TASKS[f'{name}-v5'].model_path)
  poses = np.tile(mujoco.MjModel.from_xml_path(path).qpos0, (3, 1))
  poses[:, 0] = 0, 160, 160.5
  out = tmp_path / 'film.gif'
  fault = video.render(
    str(out),
    'trpo_tf.experiment.render',
    qpos=poses,
    fps=20,
    model_path=path,
  )
  if fault:
    pytest.skip(f'cannot render here: {fault}')
  home, far, between = iio.imread(out)[..., :3].astype(float)
  # shadows end after some metres
  same, moved = (np.abs(home - x).mean() for x in (far, between))
  assert same < moved / 2 and moved > 3  # the floor shows the speed


def test_the_renderer_imports_nothing_from_the_working_directory(
  tmp_path, monkeypatch
):
  (tmp_path / 'numpy.py').write_text('raise SystemExit("imported")')
  monkeypatch.chdir(tmp_path)
  fault = video.render(
    str(tmp_path / 'x.gif'), 'trpo_tf.experiment.render', model_path='none.xml'
  )
  assert fault and 'imported' not in fault
