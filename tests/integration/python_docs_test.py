"""The Python snippets of the documentation run, in the order of each page."""

import pathlib
import re

import numpy as np
import pages
import pytest

import trpo_tf

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope='module')
def _folder(tmp_path_factory):
  """A folder with the run that the pages name."""
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(tmp_path_factory.mktemp('docs'))
    short = dict(total_iterations=1, batch_steps=400, tensorboard=False)
    list(trpo_tf.train('v5/hopper', **short, run_dir='runs/hopper_1'))
    yield


def test_python_md(capsys):
  found = pages.run_python('docs/python.md')
  assert found['result'].status.name == 'ACCEPTED'
  assert capsys.readouterr().out.count('ACCEPTED') == 5
  assert pathlib.Path('runs/cartpole/progress.csv').exists()
  assert found['done'] and found['best'].shape == (2,)
  named = re.findall(r'`(\w+)`', (pages.ROOT / 'docs/python.md').read_text())
  assert set(trpo_tf.__all__) - {'UserError'} <= set(named)
  _plays_pong(found['make_pong'])


def _plays_pong(make):
  """The wrappers give what the policy of a game takes, and take its actions."""
  settings = dict(conv_filters=(4, 4), hidden_sizes=(8,), value_hidden_sizes=())
  pong = trpo_tf.train(
    task='atari/pong',
    total_iterations=1,
    batch_steps=64,
    num_slots=4,
    time_limit=40,
    tensorboard=False,
    run_dir='runs/pong',
    **settings,
  )
  list(pong)
  policy, env = trpo_tf.load_policy('runs/pong'), make()
  observation, _ = env.reset(seed=0)
  for _ in range(3):
    action = policy.act(observation)
    assert env.action_space.contains(action)
    observation, *_ = env.step(action)


def test_readme():
  assert pages.run_python('README.md')['done']


def test_vine_and_branching():
  found = pages.run_python('docs/vine.md')
  policy, task = found['trained'].policy, found['trained'].backend.task
  N, K, M, L = 2, 3, 2, 5
  rng = np.random.default_rng(0)
  branched = pages.run_python(
    'docs/branching.md',
    **dict(N=N, L=L, policy=policy, theta=found['trained'].theta),
    normalizer=found['trained'].normalizer,
    actions=rng.uniform(-1, 1, (N, K, task.action_size)),
    noise=rng.standard_normal((N, M, L, task.action_size)),
  )
  assert branched['branches'].returns.shape == (N, K, M)
