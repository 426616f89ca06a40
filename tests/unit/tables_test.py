"""Tables of evaluations, against numbers worked out by hand."""

import json
import math
import pathlib

import programs
import pytest

from trpo_tf import config
from trpo_tf.errors import UserError
from trpo_tf.experiment import checkpoint, run_directory, tables


def _evaluation(task, seed, deterministic, sampled, env_steps=1000):
  return dict(
    task=task,
    seed=seed,
    env_steps=env_steps,
    deterministic={'return': {'mean': deterministic}},
    sampled={'return': {'mean': sampled}},
  )


def test_runs_are_grouped_by_task_and_label():
  evaluations = [
    _evaluation('Hopper-v5', 10, 1.0, 2.0),
    _evaluation('Ant-v5', 0, 9.0, 9.0),
    _evaluation('Hopper-v5', 2, 3.0, 4.0, env_steps=1001),
    _evaluation('Hopper-v5', 2, 5.0, 6.0),
  ]
  hopper, ant, other = tables.summarize_tasks(
    evaluations, ['', '', '', 'gamma=0.9']
  )
  assert (hopper.task, ant.task, other.task) == (
    'Hopper-v5',
    'Ant-v5',
    'Hopper-v5',
  )
  # in the order of the seeds
  assert hopper.seeds == (2, 10) and hopper.env_steps == (1001, 1000)
  assert hopper.deterministic == (3.0, 1.0) and hopper.sampled == (4.0, 2.0)
  assert other.label == 'gamma=0.9' and other.deterministic == (5.0,)
  head, _, first, _, last = tables.markdown([hopper, ant, other]).splitlines()
  assert head.startswith('| task | settings | env steps |')
  assert first.startswith('| Hopper-v5 |  | 1,000 to 1,001 | 2 | 2, 10 |')
  assert last.startswith('| Hopper-v5 | gamma=0.9 | 1,000 | 1 | 2 |')


def test_diverged_episodes_are_told():
  evaluations = [_evaluation('Ant-v5', seed, 1.0, 2.0) for seed in range(2)]
  evaluations[0]['deterministic']['diverged'] = 3
  evaluations[1]['sampled']['diverged'] = 4
  *_, note = tables.markdown([tables.summarize(evaluations)]).splitlines()
  assert note == 'The returns of Ant-v5 leave out 7 episodes that diverged.'


def test_markdown_has_mean_iqm_interval_and_every_seed():
  row = tables.summarize(
    _evaluation('Hopper-v5', s, 10.0 * s, 100.0) for s in range(4)
  )
  *_, line = tables.markdown([row]).splitlines()
  cells = [cell.strip() for cell in line.strip('|').split('|')]
  assert cells[:4] == ['Hopper-v5', '1,000', '4', '0 to 3']
  assert cells[4].startswith('15.0 (')
  assert cells[5:7] == ['15.0', '0.00, 10.0, 20.0, 30.0']
  assert cells[7] == '100 (100 to 100)'


def test_a_run_without_evaluation_says_what_to_do(tmp_path):
  with pytest.raises(UserError, match='run python -m trpo_tf.bin.evaluate'):
    tables.load_evaluation(tmp_path)


def test_a_run_whose_every_episode_diverged():
  """Its mean is missing, and so is that over the runs."""
  row = tables.summarize(
    _evaluation('Hopper-v5', seed, mean, 100.0)
    for seed, mean in enumerate((1.0, None))
  )
  *_, line = tables.markdown([row]).splitlines()
  cells = [cell.strip() for cell in line.strip('|').split('|')]
  assert cells[4:7] == ['-', '-', '1.00, -']


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
  assert all(tables.load_evaluation(path)['task'] for path in found)


def test_program_tells_settings_apart(tmp_path):
  """Runs that differ by seed and run directory share a row."""
  for name, seed, gamma in (
    ('a/10', 10, 0.99),
    ('a/9', 9, 0.99),
    ('b/9', 9, 0.9),
    ('twin', 9, 0.9),
  ):
    path = tmp_path / name
    settings = config.from_settings(
      dict(task='Ant-v5', seed=seed, gamma=gamma, run_dir=str(path))
    )
    with run_directory.RunDirectory.open(settings) as run:
      run.begin()
    evaluation = _evaluation('Ant-v5', seed, float(seed), 2.0)
    (path / 'evaluation.json').write_text(json.dumps(evaluation))
  (tmp_path / 'a' / '0.log').write_text('a log of a sweep')
  good, twins = programs.run(
    'table', [['a/*', 'b/*'], ['b/9', 'twin']], tmp_path
  )
  assert good.code == 0 and good.stderr == ''
  first, second = good.stdout.splitlines()[2:]
  assert first.startswith('| Ant-v5 | gamma=0.99 | 1,000 | 2 | 9, 10 | 9.50 (')
  assert '| 9.00, 10.0 |' in first
  assert second.startswith('| Ant-v5 | gamma=0.9 | 1,000 | 1 | 9 | 9.00 |')
  assert twins.code == 2
  assert twins.stderr == (
    'table: b/9 and twin have the same settings and seed 9: tabulate one of '
    'them\n'
  )


def test_program_leaves_out_runs_that_were_not_evaluated(tmp_path):
  for name in ('a', 'b'):
    (tmp_path / 'runs' / name).mkdir(parents=True)
  evaluation = _evaluation('Ant-v5', 0, 1.0, 2.0)
  path = tmp_path / 'runs' / 'b' / 'evaluation.json'
  path.write_text(json.dumps(evaluation))
  done, none = programs.run(
    'table', [['runs/*', '--out=new/folder/t.md'], ['runs/a']], tmp_path
  )
  (missing,) = programs.run('table', [['runs/b', 'none/*']], tmp_path)
  assert missing.code == 2
  assert missing.stderr == 'table: none/* is not a directory\n'
  assert (tmp_path / 'new/folder/t.md').read_text() == done.stdout
  assert done.code == 0 and '| Ant-v5 | 1,000 |' in done.stdout
  assert done.stderr == 'table: not evaluated, left out: runs/a\n'
  assert none.code == 2 and none.stdout == ''
  assert none.stderr.startswith('table: runs/a has no evaluation.json: run ')


def test_programs_name_runs_that_were_trained_further(tmp_path):
  for name, evaluated in (('a/0', 7), ('a/1', 9), ('b/2', 9), ('b/3', None)):
    path = tmp_path / name
    seed = int(name[-1])
    for iteration in (7, 9):
      checkpoint.save(path / 'checkpoints', iteration, {}, keep=1)
    evaluation = _evaluation('Ant-v5', seed, 1.0, 2.0)
    if evaluated:
      evaluation['checkpoint'] = f'iteration_{evaluated:08d}.npz'
    (path / 'evaluation.json').write_text(json.dumps(evaluation))
  words = (
    'trained further since the evaluation, run trpo_tf.bin.evaluate again: a/0'
  )
  table, other = programs.run('table', [['a/*', 'b/*'], ['b/*']], tmp_path)
  assert table.code == 0 and table.stderr == f'table: {words}\n'
  assert other.code == 0 and other.stderr == ''
  (compared,) = programs.run('compare', [['a', 'b']], tmp_path)
  assert words in ' '.join(compared.stdout.split())
