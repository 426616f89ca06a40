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
  'cartpole': '--task=CartPole-v1 --batch_steps=400 --hidden_sizes=8',
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


@pytest.mark.parametrize('name', ['native', 'gym', 'cartpole', 'discrete'])
def test_acts_in_plain_gymnasium_as_in_evaluation(runs, name):
  policy = load_policy(str(runs / name))
  found, _ = evaluate(
    policy.backend, policy.theta, policy.normalizer, 2, deterministic=True
  )
  seed = evaluation_config(policy.config, 2).run.seed
  native = isinstance(policy.backend, backend.Native)

  def reset(env, episode):
    if not native:
      return env.reset(seed=episode_seed(seed, episode, 0))[0]
    compiled = policy.backend.task
    row = ResetTable(compiled, seed)(np.zeros(2, int), 1)[episode, 0]
    env.reset()
    env.unwrapped.set_state(*np.split(row, [compiled.model.nq]))
    env.unwrapped.goal = row[2:4]
    return env.unwrapped._get_obs()

  env = gymnasium.make(policy.task)
  returns = list(_episodes(policy, env, reset))
  if not native:  # the sampler runs the same network
    np.testing.assert_array_equal(returns, found.returns)
    return
  # float32 networks of NumPy and of C++: each of the 50 rewards, which are of
  # order 1, may differ by some roundings of an action
  np.testing.assert_allclose(returns, found.returns, rtol=50 * 2**-24)


def test_samples_repeat_with_their_seed(runs):
  policy = load_policy(runs / 'native', seed=3)
  observation = np.zeros(policy.policy.observation_size)
  mean = policy.act(observation)
  drawn = [
    policy.act(observation, deterministic=False, rng=np.random.default_rng(s))
    for s in (0, 0, 1)
  ]
  assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
  assert mean.shape == (2,) and (np.abs(drawn) <= 1).all()
  own = [policy.act(observation, deterministic=False) for _ in range(2)]
  again = load_policy(runs / 'native', seed=3)
  assert (own[0] != own[1]).any()
  for action in own:
    assert (again.act(observation, deterministic=False) == action).all()
  with pytest.raises(UserError, match=r'shape \(3,\); Reacher-v5 has \(10,\)'):
    policy.act(np.zeros(3))


@pytest.mark.parametrize('name', ['native', 'gym', 'cartpole', 'discrete'])
def test_a_batch_is_its_rows(runs, name):
  policy = load_policy(runs / name)
  env = gymnasium.make_vec(policy.task, 3, vectorization_mode='sync')
  observations, _ = env.reset(seed=0)
  actions = policy.act(observations)
  env.step(actions)
  for observation, action in zip(observations, actions, strict=True):
    alone = policy.act(observation)
    np.testing.assert_array_equal(alone, action)
    assert np.shape(alone) == env.single_action_space.shape
    if name != 'native':  # the simulator computes in float64
      assert env.single_action_space.contains(alone)


@pytest.mark.parametrize('wrong', [(np.zeros(3), {}), 'abc', {'a': 1}])
def test_what_is_no_observation_is_one_line(runs, wrong):
  with pytest.raises(UserError, match='is an array of numbers, not a'):
    load_policy(runs / 'native').act(wrong)


def test_what_is_no_observation_of_an_environment(runs):
  policy = load_policy(runs / 'cartpole')
  reset = gymnasium.make(policy.task).reset(seed=0)
  with pytest.raises(UserError, match=r'the first of the two that env.reset'):
    policy.act(reset)
  with pytest.raises(UserError, match='a batch without observations'):
    policy.act(np.zeros((0, 4), np.float32))


@pytest.mark.parametrize('name', ['native', 'cartpole'])
def test_nan_is_no_observation(runs, name):
  policy = load_policy(runs / name)
  observations = np.zeros((2, policy.policy.observation_size), np.float32)
  observations[1, 2] = np.nan
  with pytest.raises(UserError, match=r'^observation\[1, 2\] of .* is NaN$'):
    policy.act(observations)
  with pytest.raises(UserError, match=r'^observation\[2\] of .* is NaN$'):
    policy.act(observations[1])


@pytest.mark.parametrize('name', ['native', 'gym', 'discrete'])
def test_the_distribution_has_the_actions_as_its_mode(runs, name):
  policy = load_policy(runs / name)
  env = gymnasium.make_vec(policy.task, 3, vectorization_mode='sync')
  observations, _ = env.reset(seed=0)
  several = policy.distribution(observations)
  for i, observation in enumerate(observations):
    one = policy.distribution(observation)
    assert one.batch_shape == () and several.batch_shape == (3,)
    np.testing.assert_allclose(one.mode(), several.mode()[i], rtol=1e-6)
    if name == 'discrete':
      assert one.mode()[0] == policy.act(observation)
    elif name == 'gym':
      low, high = policy.backend.spaces.low, policy.backend.spaces.high
      clipped = np.clip(one.mode(), low, high)
      np.testing.assert_allclose(clipped, policy.act(observation), atol=1e-6)


def test_acts_on_frames_as_in_evaluation(runs):
  policy = load_policy(runs / 'atari')
  _, batch = evaluate(
    policy.backend,
    policy.theta,
    policy.normalizer,
    1,
    deterministic=True,
    keeps_observations=True,
  )
  codes = policy.backend.game.codes
  for rows, action in zip(batch.observations[0], batch.actions[0], strict=True):
    frames = batch.stacks(rows)
    assert policy.act(frames) == codes[tuple(action)]
    # as gymnasium.wrappers.FrameStackObservation stacks them
    first = np.moveaxis(frames, -1, 0)
    assert policy.act(first) == policy.act(frames)
  assert (
    policy.act(np.stack([first, first])).tolist() == [policy.act(first)] * 2
  )
  assert policy.distribution(first).event_shape == (1,)
  for wrong in (np.zeros((210, 160, 3), np.uint8), frames.astype(np.float32)):
    with pytest.raises(
      UserError, match=r'takes the last 4 frames, uint8 \[4, 5'
    ):
      policy.act(wrong)


def test_what_cannot_be_loaded(tmp_path):
  with pytest.raises(UserError):
    load_policy(tmp_path / 'nowhere')
