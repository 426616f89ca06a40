"""A video that cannot be written is refused before the work that it takes."""

import os

import pytest

from trpo_tf.experiment import video


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
