"""Tables of evaluations, against numbers worked out by hand."""

import json
import math
import pathlib

import programs
import pytest

from trpo_tf.errors import UserError
from trpo_tf.experiment import tables


def _evaluation(task, seed, deterministic, sampled, env_steps=1000):
  return dict(
    task=task,
    seed=seed,
    env_steps=env_steps,
    deterministic={'return': {'mean': deterministic}},
    sampled={'return': {'mean': sampled}},
  )


def test_runs_are_grouped_by_task_and_budget():
  rows = tables.summarize_tasks(
    [
      _evaluation('Hopper-v5', 0, 1.0, 2.0),
      _evaluation('Ant-v5', 0, 9.0, 9.0),
      _evaluation('Hopper-v5', 1, 3.0, 4.0),
      _evaluation('Hopper-v5', 2, 5.0, 6.0, env_steps=2000),
    ]
  )
  assert [(r.task, r.env_steps) for r in rows] == [
    ('Hopper-v5', 1000),
    ('Ant-v5', 1000),
    ('Hopper-v5', 2000),
  ]
  assert rows[0].deterministic == (1.0, 3.0)
  assert rows[0].sampled == (2.0, 4.0)


def test_markdown_has_mean_iqm_interval_and_every_seed():
  rows = tables.summarize_tasks(
    _evaluation('Hopper-v5', s, 10.0 * s, 100.0) for s in range(4)
  )
  *_, line = tables.markdown(rows).splitlines()
  cells = [cell.strip() for cell in line.strip('|').split('|')]
  assert cells[:3] == ['Hopper-v5', '1,000', '0 to 3']
  assert cells[3].startswith('15.0 (')
  assert cells[4:6] == ['15.0', '0.00, 10.0, 20.0, 30.0']
  assert cells[6] == '100 (100 to 100)'


def test_a_run_without_evaluation_says_what_to_do(tmp_path):
  with pytest.raises(UserError, match='run python -m trpo_tf.bin.evaluate'):
    tables.load_evaluation(tmp_path)


def test_a_run_whose_every_episode_diverged():
  """Its mean is missing, and so is that over the runs."""
  rows = tables.summarize_tasks(
    _evaluation('Hopper-v5', seed, mean, 100.0)
    for seed, mean in enumerate((1.0, None))
  )
  *_, line = tables.markdown(rows).splitlines()
  cells = [cell.strip() for cell in line.strip('|').split('|')]
  assert cells[3:6] == ['-', '-', '1.00, -']


@pytest.mark.parametrize(
  'value, text',
  [
    (125_432.1, '125432'),
    (1000.0, '1000'),
    (999.96, '1000'),
    (99.96, '100'),
    (-27.449, '-27.4'),
    (-9.996, '-10.0'),
    (-3.296, '-3.30'),
    (0.001, '0.00'),
    (math.nan, '-'),
  ],
)
def test_numbers_have_three_digits(value, text):
  assert tables.number(value) == text


# what is not the evaluation of a run, by the words of the error
_DAMAGED = {
  'is not JSON (Expecting value': b'',
  'is not JSON (it is no text)': b'"\xe9"',
  'is not JSON (values are nested': b'[' * 100_000,
  'the whole is not an object': b'[]',
  'env_steps is not an integer': {'env_steps': 1.5},
  'seed is not an integer': {'seed': True},
  'task is not a text': {'task': None},
  'task has control characters': {'task': '\x1b[31m'},
  'sampled is not an object': {'sampled': 5},
  'sampled.return.mean is missing': {'sampled': {'return': {}}},
  'sampled.return.mean is not a': {'sampled': {'return': {'mean': '5'}}},
  'mean is not a finite number': {'sampled': {'return': {'mean': math.inf}}},
}


@pytest.mark.parametrize('words', _DAMAGED)
def test_a_damaged_evaluation(tmp_path, words):
  path, change = tmp_path / 'evaluation.json', _DAMAGED[words]
  if isinstance(change, dict):
    change = json.dumps(_evaluation('Ant-v5', 0, 1.0, 2.0) | change).encode()
  path.write_bytes(change)
  with pytest.raises(UserError) as error:
    tables.load_evaluation(tmp_path)
  text = str(error.value)
  assert f'{path}' in text and words in text and '\n' not in text
  assert 'run python -m trpo_tf.bin.evaluate' in text


def test_published_evaluations_can_be_read():
  root = pathlib.Path(__file__).parents[2] / 'docs' / 'results'
  found = [path.parent for path in root.rglob('evaluation.json')]
  assert len(found) >= 25
  assert tables.summarize_tasks(map(tables.load_evaluation, found))


def test_program_leaves_out_runs_that_were_not_evaluated(tmp_path):
  for name in ('a', 'b'):
    (tmp_path / 'runs' / name).mkdir(parents=True)
  evaluation = _evaluation('Ant-v5', 0, 1.0, 2.0)
  path = tmp_path / 'runs' / 'b' / 'evaluation.json'
  path.write_text(json.dumps(evaluation))
  done, none = programs.run('table', [['runs/*'], ['runs/a']], tmp_path)
  assert done.code == 0 and '| Ant-v5 | 1,000 |' in done.stdout
  assert done.stderr == 'table: not evaluated, left out: runs/a\n'
  assert none.code == 2 and none.stdout == ''
  assert none.stderr.startswith('table: runs/a has no evaluation.json: run ')
