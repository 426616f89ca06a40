"""Names of results are checked before the work, and numbers become JSON."""

import errno
import json
import math
import os

import numpy as np
import pytest

from trpo_tf.errors import UserError
from trpo_tf.experiment import checkpoint, line_file, result_files


def test_names_that_cannot_be_written(tmp_path):
  (tmp_path / 'file').write_text('mine')
  for name in ('x' * 300 + '.gif', 'file/x.gif', '.'):
    with pytest.raises(OSError):
      result_files.require_writable(str(tmp_path / name))
  assert os.listdir(tmp_path) == ['file']


def test_nothing_is_left_and_nothing_is_changed(tmp_path):
  (tmp_path / 'old.gif').write_bytes(b'mine')
  result_files.require_writable(str(tmp_path / 'old.gif'))
  result_files.require_writable(str(tmp_path / 'new' / '[b].gif'))
  assert (tmp_path / 'old.gif').read_bytes() == b'mine'
  assert os.listdir(tmp_path / 'new') == []


def test_a_link_to_nothing_stays(tmp_path):
  (tmp_path / 'link.gif').symlink_to(tmp_path / 'new' / 'target.gif')
  result_files.require_writable(str(tmp_path / 'link.gif'))
  assert (tmp_path / 'link.gif').is_symlink()
  assert os.listdir(tmp_path / 'new') == []


def test_the_ending_of_json_is_checked(tmp_path):
  with pytest.raises(UserError, match='--json=.*found.txt: end it in .json'):
    result_files.require_json(str(tmp_path / 'found.txt'))
  path = result_files.require_json(str(tmp_path / 'new' / 'found.json'))
  assert path.parent.is_dir() and not path.exists()


def test_numbers_that_are_not_finite_become_null(tmp_path):
  path = tmp_path / 'new' / 'found.json'
  value = dict(a=[1, math.nan, (2.5, -math.inf)], b=dict(c=np.float64('inf')))
  result_files.write_json(path, value)
  assert json.loads(path.read_text()) == {
    'a': [1, None, [2.5, None]],
    'b': {'c': None},
  }


def _full(*unused):
  raise OSError(errno.EFBIG, 'File too large')


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
  lines = line_file.LineFile(tmp_path / 'lines.csv', b'')
  monkeypatch.setattr(os, 'fsync', _full)
  for path, write in {
    tmp_path / 'lines.csv': lambda: lines.append('1\n'),
    tmp_path / 'state': lambda: checkpoint.write_atomically(
      tmp_path / 'state', b'1'
    ),
  }.items():
    with pytest.raises(OSError) as caught:
      write()
    assert caught.value.filename == str(path)
