"""A damaged progress.csv is noticed, at the row where it is damaged."""

import numpy as np
import pytest

from trpo_tf.errors import UserError
from trpo_tf.experiment import progress
from trpo_tf.methods.record import COLUMNS

_STATUS = COLUMNS.index('step_status')


def _cells(iteration):
  cells = ['0.5'] * len(COLUMNS)
  cells[:3] = str(iteration), str(100 * iteration), '1'
  cells[_STATUS] = 'accepted'
  return cells


def _changed(name, text):
  cells = _cells(3)
  cells[COLUMNS.index(name)] = text
  return ','.join(cells).encode()


_ROWS = [','.join(_cells(i)).encode() for i in range(1, 7)]


def _write(path, rows):
  header = ','.join(COLUMNS).encode()
  path.write_bytes(b''.join(line + b'\n' for line in (header, *rows)))


@pytest.mark.parametrize(
  ('row', 'words'),
  [
    (None, "its iteration is '4', not 3"),
    (_ROWS[1], "its iteration is '2', not 3"),
    (_ROWS[2] + b',1', f'it has {len(COLUMNS) + 1} cells, not {len(COLUMNS)}'),
    (_ROWS[2][:30], 'cells, not'),
    (b'', 'it has 1 cells'),
    (b'lost\xe9', 'it has 1 cells'),
    (_changed('iteration', 'three'), "its iteration is 'three'"),
    (_changed('env_steps', 'nan'), "its env_steps are 'nan'"),
    (_changed('env_steps', 'inf'), "its env_steps are 'inf'"),
    (_changed('env_steps', '1e300'), "its env_steps are '1e300'"),
    (_changed('env_steps', '9' * 99), "its env_steps are '9999"),
    (_changed('env_steps', '200'), 'not more than 200'),
    (_changed('entropy', 'high'), "its entropy is 'high'"),
    (_changed('entropy', ''), "its entropy is ''"),
    (_changed('step_status', '-'), "its step_status is '-'"),
    (_changed('step_status', 'é').replace(b'\xc3', b''), 'its step_status is'),
  ],
)
def test_a_damaged_row(tmp_path, row, words):
  path = tmp_path / 'progress.csv'
  rows = [*_ROWS]
  rows[2:3] = [] if row is None else [row]
  if row == _ROWS[1]:  # doubled
    rows = [*_ROWS[:2], *_ROWS[1:]]
  _write(path, rows)
  found = progress.read(path)
  assert len(found.rows) == 2 and found.content(2)
  for call in (lambda: found.require(3), lambda: progress.read_csv(path)):
    with pytest.raises(UserError) as error:
      call()
    assert f'{path}, row 3: {words}' in str(error.value) or (
      words in str(error.value)
    )
    assert 'use a new --run_dir' in str(error.value)


def test_numbers_that_may_be_missing(tmp_path):
  path = tmp_path / 'progress.csv'
  _write(path, [*_ROWS[:2], _changed('entropy', 'nan')])
  assert np.isnan(progress.read_csv(path)['entropy'][2])


def test_rows(tmp_path):
  path = tmp_path / 'progress.csv'
  assert not progress.has_rows(path)
  _write(path, [])
  assert not progress.has_rows(path)
  _write(path, _ROWS[:1])
  assert progress.has_rows(path)


def test_a_checkpoint_of_other_env_steps_does_not_go_with_its_row(tmp_path):
  """A run that went on from it would write rows that nothing reads."""
  path = tmp_path / 'progress.csv'
  _write(path, _ROWS)
  found = progress.read(path)
  found.require_steps(0, 0)
  found.require_steps(5, 500)
  found.require_steps(5, [0])
  found.require_steps(5, np.array(500))
  numpy = (5, np.array(0)), (5, np.int64(600))
  for iteration, env_steps in (5, 0), (5, 600), (0, 100), *numpy:
    with pytest.raises(UserError, match=f'checkpoint has {env_steps}$'):
      found.require_steps(iteration, env_steps)
  with pytest.raises(UserError, match='ends at iteration 6'):
    found.require_steps(7, 700)
