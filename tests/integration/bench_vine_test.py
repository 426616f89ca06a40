"""The bench_vine binary: its files, its numbers against slower ways, refusals.

The speeds themselves depend on the machine and are not tested.
"""

import json
import math

import numpy as np
import programs
import pytest
import worlds

from trpo_tf.benchmarks import vine_variance, vine_workload
from trpo_tf.cloning.native import state_size
from trpo_tf.sampling.native.branching import FrozenPolicy

pytestmark = pytest.mark.slow
_TINY = (
  '--task=InvertedPendulum-v5',
  '--states=4',
  '--actions=4',
  '--trials=2',
  '--horizon=4',
  '--threads=2',
  '--pairs=3',
  '--variance_states=3',
  '--noise_sequences=8',
)
_RUN = ('--json=out/bench.json', '--run_dir=run', *_TINY)
_REFUSED = {
  '--json=bench.txt: end it in .json': ['--json=bench.txt'],
  '--task=CartPole-v1 is not a native task': ['--task=CartPole-v1'],
  'nowhere is not a directory': ['--run_dir=nowhere'],
  '--run_dir=run is a run of InvertedPendulum-v5': [
    '--task=Reacher-v5',
    '--run_dir=run',
  ],
  '--states=0': ['--states=0'],
  '--horizon=0': ['--horizon=0'],
  '--pairs=2': ['--pairs=2'],
}


@pytest.fixture(scope='module')
def bench(tmp_path_factory):
  """A short training run, its benchmark and the refused commands."""
  folder = tmp_path_factory.mktemp('bench_vine')
  train = [*programs.TINY, '--total_env_steps=400', '--run_dir=run']
  assert programs.run('train', [train], folder)[0].code == 0
  results = programs.run('bench_vine', [_RUN, *_REFUSED.values()], folder)
  return folder, results


@pytest.fixture(scope='module')
def result(bench):
  return json.loads((bench[0] / 'out' / 'bench.json').read_text())


def test_files_and_table(bench):
  folder, results = bench
  assert (results[0].code, results[0].stderr) == (0, '')
  picture = (folder / 'out' / 'bench.png').read_bytes()
  assert picture.startswith(b'\x89PNG') and len(picture) > 50_000
  for text in (
    'native vine',
    'bare physics',
    'mujoco.batch',
    'gymnasium',
    'EnvPool',
    'mj_copyData',
    'untrained',
    'trained',
    'written to out/bench.json and out/bench.png',
  ):
    assert text in results[0].stdout


def test_json(result):
  assert result['sizes'] == dict(states=4, actions=4, trials=2, horizon=4)
  assert result['session']['versions']['mujoco']
  for name in (
    'native_env_steps_per_second',
    'physics_env_steps_per_second',
    'native_over_mujoco_batch',
    'native_over_gymnasium',
    'clone_microseconds',
  ):
    assert math.isfinite(result[name]) and result[name] > 0
  ratio = result['native_over_physics']
  assert ratio['pairs'] == 3
  assert ratio['ci95'][0] <= ratio['median'] <= ratio['ci95'][1]
  assert set(result['crn_variance_ratio']) == {'untrained', 'trained'}
  for horizons in result['crn_variance_ratio'].values():
    assert list(horizons) == ['10', '50', '100']
  varied = result['scaling']
  assert [f['states'] for f in varied['states']] == [1, 2, 4, 8, 16]
  assert [f['actions'] for f in varied['actions']] == [1, 2, 4, 8, 16]
  assert [f['horizon'] for f in varied['horizon']] == [1, 2, 4, 8, 16]
  assert varied['threads'][0]['threads'] == 1


def test_a_clone_is_cheaper_than_copying_mjdata(result):
  # fifty times as cheap where it was measured
  assert result['clone']['native'] < result['clone']['mj_copyData']


def test_memory_counts(result):
  memory = result['memory']
  assert memory['num_mjdata'] == 2
  assert memory['small_branches'] == 4 * 4 * 2
  assert memory['large_branches'] == 16 * 16 * 2
  compiled = vine_workload.untrained('InvertedPendulum-v5').backend.task
  assert memory['state_row'] == 8 * state_size(compiled)


def test_lock_step_takes_the_same_actions(result):
  # a float32 network of two implementations, means of order one
  assert result['rivals']['mujoco_batch']['largest_action_difference'] < 1e-5


def test_variances_are_those_of_separate_calls():
  learner = vine_workload.untrained('InvertedPendulum-v5')
  workload = vine_workload.make_workload(learner, 3, 2, 8, 12)
  found = vine_variance.variance_ratios(workload, (3, 12), 2)
  actor = FrozenPolicy(learner.policy, learner.theta, learner.normalizer)

  def q(n, k, m, L):
    """One branch by a call of its own, ended at its own horizon."""
    branches = worlds.branch(
      learner.backend.task,
      workload.states[n : n + 1],
      workload.actions[n : n + 1, k : k + 1],
      L,
      actor,
      workload.noise[n : n + 1, m : m + 1, :L],
      gamma=learner.config.estimator.gamma,
    )
    return branches.returns.item()

  for L in (3, 12):
    ratios = []
    for n in range(3):
      common = [q(n, 0, m, L) - q(n, 1, m, L) for m in range(4)]
      apart = [q(n, 0, m, L) - q(n, 1, m + 4, L) for m in range(4)]
      if np.var(apart) > 0:
        ratios.append(np.var(common) / np.var(apart))
    assert found[L]['states'] == len(ratios)
    if ratios:
      assert found[L]['median'] == pytest.approx(np.median(ratios), rel=1e-9)
  assert found[12]['states'] > 0


def test_comparison():
  common = np.array([1.0, 2, 9, 0])
  independent = np.array([4.0, 4, 4, 0])
  found = vine_variance.comparison(common, independent, 100, 200)
  assert (found['states'], found['without_variance']) == (3, 1)
  assert found['median'] == 0.5
  assert found['pooled'] == 1.0
  # twice the variance at twice the steps
  assert found['simulator_steps_saved'] == 4
  # the bootstrap median of three values reaches both ends
  assert found['ci95'] == [0.25, 2.25]
  assert found['verdict'] == 'no help shown'


@pytest.mark.parametrize(
  ('scale', 'verdict'),
  [
    (0.5, 'helps'),
    (2, 'does not help: worse'),
  ],
)
def test_verdict(scale, verdict):
  independent = np.arange(1.0, 6)
  found = vine_variance.comparison(scale * independent, independent, 1, 1)
  assert found['verdict'] == verdict


def test_no_variance_at_all():
  found = vine_variance.comparison(np.zeros(2), np.zeros(2), 1, 1)
  assert found['states'] == 0
  assert found['verdict'] == 'no state has any variance'


@pytest.mark.parametrize('number', range(len(_REFUSED)), ids=list(_REFUSED))
def test_refused_in_one_line(bench, number):
  result = bench[1][1 + number]
  message = list(_REFUSED)[number]
  assert result.code == 2
  assert result.stderr.startswith('bench_vine: ')
  assert result.stderr.count('\n') == 1
  assert message in result.stderr
