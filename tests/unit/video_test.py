"""Names of videos are checked first, and floors reach below every pose."""

import os

import imageio.v3 as iio
import mujoco
import numpy as np
import pytest

from trpo_tf.experiment import video
from trpo_tf.tasks.registry import NATIVE_TASKS


def test_names_that_cannot_be_written(tmp_path):
  (tmp_path / 'file').write_text('mine')
  for name in ('x' * 300 + '.gif', 'file/x.gif', '.'):
    with pytest.raises(OSError):
      video.require_writable(str(tmp_path / name))
  assert os.listdir(tmp_path) == ['file']


def test_nothing_is_left_and_nothing_is_changed(tmp_path):
  (tmp_path / 'old.gif').write_bytes(b'mine')
  video.require_writable(str(tmp_path / 'old.gif'))
  video.require_writable(str(tmp_path / 'new' / '[b].gif'))
  assert (tmp_path / 'old.gif').read_bytes() == b'mine'
  assert os.listdir(tmp_path / 'new') == []


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
