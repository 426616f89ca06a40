"""The bench_estimators binary: its files, its continuation, its refusals."""

import json

import numpy as np
import programs
import pytest

import trpo_tf
from trpo_tf.experiment import small_run

pytestmark = pytest.mark.slow
_FEW = (
  '--run_dir=run',
  '--steps=160',
  '--batches=2',
  '--reference_steps=40000',
)
_REFUSED = {
  '--json=bench.txt: end it in .json': ['--json=bench.txt'],
  '--steps=100 is not a multiple of 80': ['--steps=100'],
  '--run_dir is missing': [],
  'nowhere is not a directory': ['--run_dir=nowhere'],
  'holds something else': [*_FEW, '--steps=240', '--json=found.json'],
  'estimators need --baseline=value_network': ['--run_dir=none'],
  'found.json holds something else': [
    *_FEW,
    '--run_dir=other',
    '--json=found.json',
  ],
  'policy without its value network': ['--run_dir=small'],
}


@pytest.fixture(scope='module')
def bench(tmp_path_factory):
  """A short training run, its measurement twice and the refused commands."""
  folder = tmp_path_factory.mktemp('bench_estimators')
  short = '--total_env_steps=400'
  trained = programs.run(
    'train',
    [
      [*programs.TINY, short, '--run_dir=run'],
      [*programs.TINY, short, '--run_dir=none', '--baseline=none']
      + ['--whole_episodes'],
      [*programs.TINY, short, '--run_dir=other', '--max_kl=0.02'],
    ],
    folder,
  )
  assert [result.code for result in trained] == [0, 0, 0]
  policy = trpo_tf.load_policy(folder / 'run')
  small_run.write(policy, folder / 'run', folder / 'small')
  measure = [*_FEW, '--json=found.json']
  commands = [measure, measure, *_REFUSED.values()]
  return folder, programs.run('bench_estimators', commands, folder)


def test_every_estimator_is_measured(bench):
  folder, (first, *_) = bench
  assert first.code == 0, first.stderr
  found = json.loads((folder / 'found.json').read_text())
  names = [*found['estimators']]
  assert sum(name.startswith('single path') for name in names) == 4
  assert sum('every_step, antithetic' in name for name in names) == 5
  for name, quality in found['estimators'].items():
    assert np.all(np.abs(quality['cosines']) <= 1), name
    assert len(quality['cosines']) == 2
    assert name.split(', ')[-1] in first.stdout
  taught = {
    name for name, q in found['estimators'].items() if q['taught_steps']
  }
  assert taught == {name for name in names if 'amortized_advantage' in name}
  assert len(taught) == 2
  costs = {name: q['env_steps'] for name, q in found['estimators'].items()}
  assert costs['single path, GAE, 160'] == 160
  assert 0 < costs['vine, every_step, 80/8/2/5'] <= 160
  assert 0 < found['limit'] <= 1
  assert (folder / 'found.png').stat().st_size > 10_000


def test_the_same_command_measures_nothing_twice(bench):
  _, (first, second, *_) = bench
  assert second.code == 0, second.stderr
  assert 'reference' in first.stdout
  assert '19/19' in first.stdout
  assert '1/19' not in second.stdout


@pytest.mark.parametrize('says', _REFUSED)
def test_mistakes_end_in_one_line(bench, says):
  result = dict(zip(_REFUSED, bench[1][2:], strict=True))[says]
  assert (result.code, result.stdout) == (2, '')
  assert says in result.stderr
  assert result.stderr.count('\n') == 1
