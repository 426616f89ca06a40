"""The vine on native tasks: budgets, draws, accounting, failures, resume."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import worlds

from trpo_tf import config
from trpo_tf.errors import UserError
from trpo_tf.experiment import divergence_log
from trpo_tf.experiment.training import Training
from trpo_tf.policies.gaussian import gaussian_policy
from trpo_tf.policies.normalizer import initial_normalizer
from trpo_tf.sampling.actors import GaussianActor
from trpo_tf.sampling.batch import End
from trpo_tf.sampling.draws import Draws
from trpo_tf.sampling.native.paths import NativePathSampler
from trpo_tf.sampling.native.vine import NativeVine
from trpo_tf.sampling.vine import VineSampler
from trpo_tf.tasks.language import sqrt, square
from trpo_tf.tasks.registry import NATIVE_TASKS
from trpo_tf.tasks.task import Definition, Task, compile_task, uniform_reset

_SMALL = dict(
  sampler='vine',
  batch_steps=240,
  num_slots=4,
  rollout_set_size=10,
  branch_actions=3,
  branch_trials=2,
  branch_length=7,
)

_FRAGILE_FILE = """
import pathlib
from trpo_tf.tasks.language import sqrt, square
from trpo_tf.tasks.task import Definition, Task, uniform_reset

MODEL = str(pathlib.Path(__file__).with_name('model.xml'))
FRAGILE = Task(
  'Fragile', MODEL, 1, 1000,
  lambda sim: Definition(sim.qpos, sqrt(2.25 - square(sim.action[0]))),
  uniform_reset(0.1, 0.1),
)
"""


@pytest.fixture(scope='module')
def hopper():
  return compile_task(NATIVE_TASKS['Hopper-v5'])


def _policy(compiled):
  policy = gaussian_policy(
    config.PolicyConfig(hidden_sizes=(8,), output_scale=1.0),
    compiled.observation_size,
    compiled.action_size,
  )
  return policy, policy.initial_parameters(np.random.default_rng(3))


def _sample(compiled, seed=0, iterations=1, **changes):
  policy, theta = _policy(compiled)
  settings = config.SamplerConfig(**_SMALL | changes)
  experiment = worlds.experiment(settings, seed, gamma=0.9)
  paths = NativePathSampler(compiled, policy, experiment)
  backend = NativeVine(paths, experiment)
  sampler = VineSampler(backend, settings, seed)
  normalizer = initial_normalizer(compiled.observation_size)
  return [sampler.sample(theta, normalizer, i) for i in range(iterations)]


def _assert_same(one, other):
  for field in dataclasses.fields(one):
    a, b = (getattr(batch, field.name) for batch in (one, other))
    if isinstance(a, np.ndarray):
      assert a.tobytes() == b.tobytes(), field.name


def test_trunks_are_those_of_single_path_sampling(hopper):
  policy, theta = _policy(hopper)
  settings = config.SamplerConfig(batch_steps=240, num_slots=4)
  path = NativePathSampler(hopper, policy, worlds.experiment(settings))
  normalizer = initial_normalizer(hopper.observation_size)
  for i, batch in enumerate(_sample(hopper, iterations=3)):
    expected = path.sample(theta, normalizer, i)
    for field in dataclasses.fields(expected):
      if field.name != 'diverged':
        np.testing.assert_equal(
          getattr(batch, field.name), getattr(expected, field.name), field.name
        )


def test_threads_do_not_matter(hopper):
  one, two = (_sample(hopper, iterations=2, sampler_threads=n) for n in (1, 3))
  for a, b in zip(one, two, strict=True):
    _assert_same(a, b)


def test_env_steps_count_every_branch_step(hopper):
  (batch,) = _sample(hopper)
  assert batch.num_branch_steps == batch.branch_lengths.sum()
  assert batch.num_steps == 240 + batch.branch_lengths.sum()
  assert batch.branch_returns.shape == (10, 3, 2)
  alive = batch.branch_ends == 0
  assert (batch.branch_lengths[alive] == 7).all()
  assert (batch.branch_lengths[~alive] <= 7).all()
  assert batch.branch_lengths.min() >= 1


def test_branches_end_where_the_task_does(hopper):
  (batch,) = _sample(hopper, branch_length=60)
  ended = batch.branch_ends == End.TERMINATED
  assert ended.any() and not (batch.branch_ends & End.TRUNCATED).any()
  assert (batch.branch_lengths[ended] < 60).all()


def test_time_limit_of_branches(hopper):
  short = dataclasses.replace(
    hopper, task=dataclasses.replace(hopper.task, time_limit=12)
  )
  free, limited = (
    _sample(short, branch_time_limit=limit)[0] for limit in (False, True)
  )
  start = free.at_rollout_set(free.timesteps)[:, None, None]
  assert ((start + free.branch_lengths)[free.branch_ends == 0] > 12).any()
  assert not (free.branch_ends & End.TRUNCATED).any()
  cut = (limited.branch_ends & End.TRUNCATED) != 0
  assert cut.any()
  assert ((start + limited.branch_lengths)[cut] == 12).all()
  assert (start + limited.branch_lengths).max() == 12


def test_rollout_set_is_drawn_without_replacement_and_evenly():
  counts = np.zeros((4, 25))
  draws = 2000
  for i in range(draws):
    places = Draws(5, i).rollout_set(4, 25, 10)
    assert len({tuple(p) for p in places}) == 10
    assert (np.diff(places[:, 0] * 25 + places[:, 1]) > 0).all()
    counts[tuple(places.T)] += 1
  # each count is binomial(2000, 0.1), of deviation 13.4; 5 deviations
  assert np.abs(counts - 0.1 * draws).max() < 5 * np.sqrt(draws * 0.09)


def test_whole_set_is_every_visited_state(hopper):
  (batch,) = _sample(hopper, rollout_set_size=240, branch_length=1)
  np.testing.assert_array_equal(
    batch.at_rollout_set(batch.observations).reshape(4, 60, -1),
    batch.observations,
  )


def test_log_q_of_the_policy_is_tensorflow_s(hopper):
  (batch,) = _sample(hopper)
  policy, theta = _policy(hopper)
  x = batch.at_rollout_set(batch.observations)
  outputs = policy.outputs(tf.constant(theta), tf.constant(x))
  distribution = policy.distribution(
    tf.cast(theta, tf.float64), tf.cast(outputs, tf.float64)
  )
  for k in range(3):
    expected = distribution.log_prob(batch.first_actions[:, k])
    np.testing.assert_allclose(batch.log_q[:, k], expected, atol=1e-4)


def test_uniform_proposal(hopper):
  (batch,) = _sample(hopper, branch_proposal='uniform', rollout_set_size=200)
  assert (np.abs(batch.first_actions) <= 1).all()
  # 1800 draws of a mean 0, variance 1/3
  assert abs(batch.first_actions.mean()) < 5 * np.sqrt(1 / 3 / 1800)
  np.testing.assert_allclose(batch.log_q, -3 * np.log(2.0))


def test_first_action_alone_tells_branches_apart(hopper):
  """Noise is shared by the actions of a state, not by states or trials."""
  (batch,) = _sample(hopper, branch_length=2)
  noise = Draws(0, 0).branch_noise(GaussianActor.draw, (10, 2, 2, 3))
  assert len(np.unique(noise)) == noise.size
  assert len(np.unique(batch.branch_returns)) == batch.branch_returns.size


def _fragile(sim):
  """The reward of an action beyond 1.5 is not a number."""
  return Definition(sim.qpos, sqrt(2.25 - square(sim.action[0])))


def test_failures_are_counted_and_replayable(tmp_path):
  world = compile_task(
    Task(
      'Fragile',
      worlds.write(tmp_path, worlds.LEVER),
      1,
      1000,
      _fragile,
      uniform_reset(0.1, 0.1),
    )
  )
  (batch,) = _sample(world, rollout_set_size=40, branch_actions=6)
  failed = (batch.branch_ends & End.DIVERGED) != 0
  assert failed.any() and not failed.all()
  records = [d for d in batch.diverged if d.branch]
  assert [d.branch for d in records] == [
    tuple(map(int, where)) for where in np.argwhere(failed)
  ]
  for record in records:
    assert record.causes == ('non-finite output',)
    assert record.message.startswith(
      'the reward takes the square root of the negative number -'
    )
    assert len(record.controls) == batch.branch_lengths[record.branch] + 1
    assert (np.abs(record.controls[:-1]) <= 1.5).all()
    assert np.abs(record.controls[-1, 0]) > 1.5
  divergence_log.write(tmp_path / 'diverged', batch.diverged)
  assert len(list((tmp_path / 'diverged').iterdir())) == len(batch.diverged)


def test_a_failure_masks_its_partners_in_the_step(tmp_path):
  path = tmp_path / 'fragile.py'
  worlds.write(tmp_path, worlds.LEVER)
  path.write_text(_FRAGILE_FILE)
  training = _training(
    task=f'{path}:FRAGILE',
    batch_steps=400,
    rollout_set_size=40,
    total_env_steps=2000,
  )
  for step in training.iterations():
    assert step.record.diverged > 0
    assert step.record.step_status == 'accepted'
    assert np.isfinite(step.state.theta).all()
    failed = (step.batch.branch_ends & End.DIVERGED) != 0
    lost = failed.any(axis=1).all(axis=1).sum()  # no trial of theirs is clean
    assert len(step.histograms['advantages']) == 40 - lost
    assert step.record.masked_states == lost
    trunks = sum(not d.branch for d in step.batch.diverged)
    assert step.record.diverged == trunks + failed.sum()


def _training(**changes):
  values = (
    _SMALL
    | dict(
      task='InvertedPendulum-v5',
      baseline='none',
      hidden_sizes=(16,),
      seed=4,
    )
    | changes
  )
  return Training(config.from_settings(values))


@pytest.mark.slow
@pytest.mark.parametrize('objective', ['self_normalized', 'mean_baseline'])
def test_learns_to_balance_without_a_value_function(objective):
  training = _training(
    batch_steps=400,
    rollout_set_size=40,
    branch_actions=4,
    branch_length=25,
    branch_trials=1,
    total_env_steps=100_000,
    vine_objective=objective,
  )
  falls = [_falls(step.batch) for step in training.iterations()]
  assert np.mean(falls[:2]) > 1 / 30  # random actions fall after some 10 steps
  assert np.mean(falls[-5:]) < 1 / 50


def _falls(batch):
  """Per env step of the trunks; a return is known only when they end."""
  return ((batch.ends & End.TERMINATED) != 0).sum() / batch.lengths.sum()


def test_states_of_dropped_trunks_are_left_out(tmp_path):
  path = tmp_path / 'fragile.py'
  worlds.write(tmp_path, worlds.LEVER)
  path.write_text(_FRAGILE_FILE)
  training = _training(
    task=f'{path}:FRAGILE',
    on_divergence='drop',
    rollout_set_size=60,
    total_env_steps=3000,
  )
  masked = 0
  for step in training.iterations():
    failed = (step.batch.branch_ends & End.DIVERGED) != 0
    lost = failed.any(axis=1).all(axis=1) | ~step.batch.at_rollout_set(
      step.batch.kept
    )
    assert step.record.masked_states == lost.sum()
    masked += (~step.batch.at_rollout_set(step.batch.kept)).sum()
  assert masked > 0


def test_bootstrap_uses_the_value_network():
  training = _training(
    baseline='value_network',
    branch_length=5,
    total_env_steps=2000,
  )
  records = [step.record for step in training.iterations()]
  assert all(r.step_status == 'accepted' for r in records[1:])
  assert records[0].branch_steps <= 10 * 3 * 2 * 5


@pytest.mark.slow
def test_resumes_to_the_same_bytes():
  def thetas(training):
    return [step.state.theta.tobytes() for step in training.iterations()]

  whole = _training(total_env_steps=4000)
  first = _training(total_env_steps=2000)
  begun = thetas(first)
  settings = config.settings(whole.config)
  rest = Training(config.from_settings(settings), first.state.tree())
  assert begun + thetas(rest) == thetas(whole)
  assert len(begun) > 2


@pytest.mark.parametrize(
  'changes, text',
  [
    (dict(branch_actions=1), 'branch_actions'),
    (dict(branch_actions=1, vine_objective='mean_baseline'), 'branch_actions'),
    (dict(branch_actions=0), 'branch_actions=0'),
    (dict(branch_length=0), 'branch_length=0'),
    (dict(branch_trials=0), 'branch_trials=0'),
    (dict(rollout_set_size=0), 'rollout_set_size=0'),
    (dict(rollout_set_size=241), 'rollout_set_size=241 exceeds'),
    (dict(whole_episodes=True), 'whole_episodes'),
    (dict(baseline='linear'), '--baseline=value_network or none'),
    (dict(baseline='time'), '--baseline=value_network or none'),
    (dict(baseline='time', whole_episodes=True), 'value_network or none'),
    (dict(branch_proposal='all'), 'all_actions'),
    (dict(vine_objective='all_actions'), 'branch_proposal'),
  ],
)
def test_settings_that_make_no_vine_are_refused(changes, text):
  with pytest.raises(ValueError, match=text) as caught:
    config.from_settings(_SMALL | changes)
  assert '\n' not in str(caught.value)


def test_one_action_is_enough_for_importance_sampling():
  config.from_settings(
    _SMALL | dict(branch_actions=1, vine_objective='importance_sampled')
  )


@pytest.mark.parametrize('proposal', ['all', 'uniform'])
def test_proposals_that_do_not_fit_the_task(tmp_path, proposal):
  free = worlds.LEVER.replace(' ctrlrange="-3 3" ctrllimited="true"', '')
  world = worlds.make(tmp_path, free)
  with pytest.raises(UserError, match=f'--branch_proposal={proposal}'):
    _sample(world, branch_proposal=proposal)
