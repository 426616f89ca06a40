"""A policy that was trained acts as it did in evaluation."""

import gymnasium
import numpy as np
import pytest
from programs import run

from trpo_tf.errors import UserError
from trpo_tf.experiment import backend
from trpo_tf.experiment.evaluation import evaluate, evaluation_config
from trpo_tf.experiment.trained import load_policy
from trpo_tf.sampling.draws import ResetTable, episode_seed

pytestmark = pytest.mark.slow

_RUNS = {
  'native': '--task=Reacher-v5 --action_range=control --batch_steps=400',
  'gym': '--task=MountainCarContinuous-v0 --batch_steps=400',
  'discrete': '--task=Taxi-v4 --batch_steps=400 --hidden_sizes=8',
  'atari': (
    '--task=atari/pong --atari_actions=minimal --conv_filters=4,4 '
    '--hidden_sizes=8 --num_slots=4 --batch_steps=64 --time_limit=40'
  ),
}


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('trained')
  commands = [
    [*flags.split(), '--total_iterations=2', f'--run_dir={name}']
    for name, flags in _RUNS.items()
  ]
  for done in run('train', commands, folder):
    assert done.code == 0, done.stderr
  return folder


def _episodes(policy, env, reset):
  """Return of the deterministic policy in plain Gymnasium, two episodes."""
  for episode in range(2):
    observation, total, done = reset(env, episode), 0.0, False
    while not done:
      action = policy.act(observation)
      observation, reward, terminated, truncated, _ = env.step(action)
      total, done = total + reward, terminated or truncated
    yield total


@pytest.mark.parametrize('name', ['native', 'gym', 'discrete'])
def test_acts_in_plain_gymnasium_as_in_evaluation(runs, name):
  policy = load_policy(str(runs / name))
  found, _ = evaluate(
    policy.config, policy.theta, policy.normalizer, 2, deterministic=True
  )
  seed = evaluation_config(policy.config, 2).run.seed

  def reset(env, episode):
    if not isinstance(policy.backend, backend.Native):
      return env.reset(seed=episode_seed(seed, episode, 0))[0]
    compiled = policy.backend.task
    row = ResetTable(compiled, seed)(np.zeros(2, int), 1)[episode, 0]
    env.reset()
    env.unwrapped.set_state(*np.split(row, [compiled.model.nq]))
    env.unwrapped.goal = row[2:4]
    return env.unwrapped._get_obs()

  env = gymnasium.make(policy.task)
  returns = list(_episodes(policy, env, reset))
  # networks in float32, of TensorFlow and of the sampler
  np.testing.assert_allclose(returns, found.returns, rtol=1e-4)


def test_samples_need_a_generator(runs):
  policy = load_policy(runs / 'native')
  observation = np.zeros(policy.policy.observation_size)
  mean = policy.act(observation)
  drawn = [
    policy.act(observation, deterministic=False, rng=np.random.default_rng(s))
    for s in (0, 0, 1)
  ]
  assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
  assert mean.shape == (2,) and (np.abs(drawn) <= 1).all()
  with pytest.raises(ValueError, match='needs an rng'):
    policy.act(observation, deterministic=False)
  with pytest.raises(ValueError, match=r'shape \(3,\); Reacher-v5 has \(10,\)'):
    policy.act(np.zeros(3))


def test_acts_on_frames_as_in_evaluation(runs):
  policy = load_policy(runs / 'atari')
  _, batch = evaluate(
    policy.config, policy.theta, policy.normalizer, 1, deterministic=True
  )
  codes = policy.backend.game.codes
  for rows, action in zip(batch.observations[0], batch.actions[0], strict=True):
    assert policy.act(batch.stacks(rows)) == codes[tuple(action)]


def test_what_cannot_be_loaded(tmp_path):
  with pytest.raises(UserError):
    load_policy(tmp_path / 'nowhere')
