"""Evaluations in training: evaluations.csv, best.npz, evaluate --checkpoint."""

import json

import numpy as np
import programs
import pytest
import tiny

from trpo_tf.errors import UserError
from trpo_tf.experiment import checkpoint, evaluations, saved_runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Holds a run without evaluations, and one with them."""
  path = tmp_path_factory.mktemp('evaluations')
  tiny.train(path / 'plain', 1600)
  tiny.train(path / 'whole', 1600, **tiny.EVALUATED)
  return path


def _best(run_dir):
  return checkpoint.load(run_dir / saved_runs.BEST).state


def test_is_due():
  found = [evaluations.is_due(500, n, n + 300) for n in range(0, 1500, 300)]
  assert found == [False, True, False, True, True]
  assert not evaluations.is_due(0, 0, 300)


def test_evaluations_leave_the_training_as_it_is(folder):
  plain, whole = folder / 'plain', folder / 'whole'
  assert programs.progress(plain) == programs.progress(whole)
  assert programs.final_state(plain) == programs.final_state(whole)
  assert not (plain / 'evaluations.csv').exists()
  assert not (plain / saved_runs.BEST).exists()


def test_gymnasium_training_stays_as_it_is(tmp_path):
  runs = [
    tiny.train(tmp_path / name, 800, task='CartPole-v1', **changes)
    for name, changes in {'plain': {}, 'evaluated': tiny.EVALUATED}.items()
  ]
  assert [i.evaluated is not None for i in runs[1]] == [False, True] * 2
  plain, found = tmp_path / 'plain', tmp_path / 'evaluated'
  assert programs.progress(plain) == programs.progress(found)
  assert programs.final_state(plain) == programs.final_state(found)


def test_rows_and_best_state(folder):
  rows = evaluations.read(folder / 'whole' / 'evaluations.csv')
  assert [(r.iteration, r.env_steps) for r in rows] == [
    (n, 200 * n) for n in (2, 4, 6, 8)
  ]
  assert {(r.episodes, r.diverged) for r in rows} == {(3, 0)}
  best = max(rows, key=lambda row: row.return_mean)  # the first of equal ones
  assert _best(folder / 'whole')['iteration'] == best.iteration


def test_a_resumed_run_continues_the_file(folder, tmp_path):
  """Rows of lost work, one of them half-written, are cut off."""
  path, wanted = tmp_path / 'evaluations.csv', folder / 'whole'
  tiny.train(tmp_path, 1000, **tiny.EVALUATED)
  with path.open('a') as file:
    file.write('6,1200,1e9,0.0,3,9.0,0\n8,16')
  tiny.train(tmp_path, 1600, **tiny.EVALUATED)
  assert path.read_bytes() == (wanted / 'evaluations.csv').read_bytes()
  found, best = _best(tmp_path), _best(wanted)
  assert found['iteration'] == best['iteration']
  np.testing.assert_array_equal(found['theta'], best['theta'])
  assert programs.final_state(tmp_path) == programs.final_state(wanted)


def test_evaluations_may_begin_and_end_on_resume(tmp_path):
  tiny.train(tmp_path, 400)
  tiny.train(tmp_path, 800, **tiny.EVALUATED)
  rows = evaluations.read(tmp_path / 'evaluations.csv')
  assert [row.iteration for row in rows] == [4]
  tiny.train(tmp_path, 1200)
  assert evaluations.read(tmp_path / 'evaluations.csv') == rows


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    ('iteration\n', 'other columns'),
    ('{header}2,400,x,0.0,3,9.0,0\n', 'row 1 is damaged'),
    ('{header}2,400\n', 'row 1 is damaged'),
    ('{header}{row}{row}', 'row 2 is out of order'),
  ],
)
def test_damaged_file(folder, tmp_path, content, words):
  whole = (folder / 'whole' / 'evaluations.csv').read_text()
  header, row = whole.splitlines(keepends=True)[:2]
  path = tmp_path / 'evaluations.csv'
  path.write_text(content.format(header=header, row=row))
  with pytest.raises(UserError, match=words):
    evaluations.read(path)


def test_evaluate_takes_a_checkpoint_and_a_seed(folder):
  last = 'iteration_00000008.npz'
  commands = [
    ['--run_dir=whole', '--checkpoint=best', '--seed=7'],
    ['--run_dir=whole'],
    ['--run_dir=whole', f'--checkpoint={last}', '--seed=7'],
    ['--run_dir=plain', '--checkpoint=best'],
    ['--run_dir=plain', '--checkpoint=iteration_1.npz'],
  ]
  results = programs.run(
    'evaluate', [[*c, '--episodes=4'] for c in commands], folder
  )
  assert [r.code for r in results] == [0, 0, 0, 2, 2]
  assert 'plain has no best.npz' in results[3].stderr
  assert 'choose best, newest or one of iteration_' in results[4].stderr
  assert all(r.stderr.count('\n') == 1 for r in results[3:])

  def read(name):
    return json.loads((folder / 'whole' / name).read_text())

  best = read('evaluation_best.json')
  assert (best['checkpoint'], best['evaluation_seed']) == ('best.npz', 7)
  assert best['env_steps'] == _best(folder / 'whole')['env_steps']
  newest, named = (
    read('evaluation.json'),
    read('evaluation_iteration_00000008.json'),
  )
  assert newest['checkpoint'] == named['checkpoint'] == last
  assert (newest['seed'], newest['evaluation_seed']) == (5, None)
  assert newest['sampled'] != named['sampled']
