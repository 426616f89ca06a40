"""The trained policies of docs/gallery load, and score what they say."""

import dataclasses
import json

import numpy as np
import pages
import pytest

import trpo_tf
from trpo_tf.experiment import evaluation, tables
from trpo_tf.reproduction import gallery

pytestmark = pytest.mark.slow

POLICIES = gallery.policies(pages.ROOT / 'docs/gallery')
EPISODES = 4


def test_every_task_has_a_policy():
  found = [tables.load_evaluation(path)['task'] for path in POLICIES]
  flagfiles = (pages.ROOT / 'configs/v5').glob('*.flags')
  lines = {line for f in flagfiles for line in f.read_text().splitlines()}
  tasks = {line[7:] for line in lines if line.startswith('--task=')}
  paper = {f'paper/{t}' for t in ('cartpole', 'swimmer', 'hopper', 'walker')}
  assert sorted(found) == sorted(tasks | paper)


@pytest.mark.parametrize(
  'path', POLICIES, ids=lambda path: f'{path.parent.name}-{path.name}'
)
def test_policy(path):
  """A few episodes with seeds of their own score what 100 scored before."""
  files = [file for file in path.rglob('*') if file.is_file()]
  # 27,600 parameters take 110 kB on the humanoid, whose inputs are 348
  limit = 150_000 if 'humanoid' in path.name else 100_000
  assert sum(file.stat().st_size for file in files) < limit
  policy = trpo_tf.load_policy(path)
  run = dataclasses.replace(policy.config.run, seed=policy.config.run.seed + 1)
  config = dataclasses.replace(policy.config, run=run)
  found, _ = evaluation.evaluate(
    policy.backend.configured(config),
    policy.theta,
    policy.normalizer,
    EPISODES,
    True,
  )
  before = json.loads((path / 'evaluation.json').read_text())
  returns = before['deterministic']['return']
  error = returns['std'] * np.sqrt(1 / EPISODES + 1 / len(returns['values']))
  # five standard errors; returns that never differ may round differently
  allowed = 5 * error + 1e-3 * abs(returns['mean'])
  assert abs(found.returns.mean() - returns['mean']) < allowed


def test_page(capsys):
  assert pages.run_python('docs/gallery/README.md')['total'] > 1000
  assert 'return' in capsys.readouterr().out
