"""Real runs of sampler and learner, held against closed forms in float64."""

import gc

import networks
import numpy as np
import pytest
import tensorflow as tf

from trpo_tf import config, errors
from trpo_tf.distributed import training as distributed
from trpo_tf.distributed.local import LocalEngine
from trpo_tf.experiment.training import Training
from trpo_tf.methods.consistency import SamplerMismatch

_HIDDEN = 8


def _training(**settings) -> Training:
  return Training(
    config.from_settings(
      dict(
        dict(
          task='InvertedPendulum-v5',
          batch_steps=200,
          num_slots=4,
          hidden_sizes=(_HIDDEN,),
          value_hidden_sizes=(),
          value_epochs=1,
          total_env_steps=10**9,
        ),
        **settings,
      )
    )
  )


def _iterate(training: Training, count: int):
  """Yields the state before each iteration, and the iteration."""
  iterations = training.iterations()
  for _ in range(count):
    before = training.state
    yield before, next(iterations)


def _sizes(policy) -> tuple[int, ...]:
  return policy.observation_size, _HIDDEN, policy.output_size


def _gaussian_kl(policy, x, old, new) -> tuple[float, float]:
  """Mean KL(old || new) and what float32 networks may add to it."""
  (mean0, error0), (mean1, error1) = (
    networks.outputs(theta, _sizes(policy), x) for theta in (old, new)
  )
  log0, log1 = (
    theta[-policy.output_size :].astype(np.float64) for theta in (old, new)
  )
  shift, error = mean1 - mean0, error0 + error1
  variance = np.exp(2 * log1)
  terms = log1 - log0 + (np.exp(2 * log0) + shift**2) / (2 * variance) - 0.5
  slack = (np.abs(shift) * error + error**2 / 2) / variance
  return terms.sum(1).mean(), slack.sum(1).mean() + 1e-12


def _categorical_kl(policy, x, old, new) -> tuple[float, float]:
  """The same for logits of one factor, from the KL's derivatives in them."""
  (logits0, error0), (logits1, error1) = (
    networks.outputs(theta, _sizes(policy), x) for theta in (old, new)
  )
  logs0, logs1 = (
    z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    for z in (logits0, logits1)
  )
  p0, p1 = np.exp(logs0), np.exp(logs1)
  kl = (p0 * (logs0 - logs1)).sum(1)
  slack = np.abs(p1 - p0) * error1 + (error0 + error1) ** 2
  slack += p0 * np.abs(logs0 - logs1 - kl[:, None]) * error0
  return kl.mean(), slack.sum(1).mean() + 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(
  ('task', 'mean_kl'),
  [('InvertedPendulum-v5', _gaussian_kl), ('CartPole-v1', _categorical_kl)],
)
def test_every_step_is_within_the_trust_region(task, mean_kl):
  """Half the steps are refused, since a single candidate is tried."""
  # A large region, so that its rounding errors are small beside it.
  training = _training(task=task, max_kl=0.05, max_backtracks=1)
  policy, accepted, refused = training.policy, 0, 0
  for before, iteration in _iterate(training, 12):
    record, after = iteration.record, iteration.state
    if record.step_status != 'accepted':
      refused += 1
      assert after.theta.tobytes() == before.theta.tobytes()
      assert record.mean_kl == record.step_fraction == 0
      assert record.surrogate_after == record.surrogate_before
      continue
    accepted += 1
    observations = iteration.batch.flat(iteration.batch.observations)
    x = networks.normalized(before.normalizer, observations)
    kl, slack = mean_kl(policy, x, before.theta, after.theta)
    assert slack < 1e-4 * kl
    assert abs(record.mean_kl - kl) <= slack
    assert 0 < kl <= 0.05 + slack
    assert record.surrogate_after > record.surrogate_before
    assert record.max_state_kl >= record.mean_kl
  assert accepted >= 2 and refused >= 2


def _entry(policy, name: str) -> int:
  """A place in theta: a weight of either layer or the log deviation."""
  inputs, hidden, _ = _sizes(policy)
  return {
    'input weight': 2 * hidden,
    'output weight': (inputs + 1) * hidden,
    'log deviation': -1,
  }[name]


@pytest.fixture(scope='module')
def trained() -> Training:
  """One iteration old, so that the normaliser does something."""
  training = _training(output_scale=1.0)
  next(training.iterations())
  return training


def _sample(training: Training, theta: np.ndarray):
  return training.sampler.sample(theta, training.state.normalizer, 1)


def _update(training: Training, batch):
  state = training.state
  return training.learner.update(
    state.theta, state.learner, state.normalizer, batch, 1
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  'name', ['input weight', 'output weight', 'log deviation']
)
@pytest.mark.parametrize(('change', 'seen'), [(1e-6, False), (0.03, True)])
def test_a_sampler_with_another_policy_is_noticed(trained, name, change, seen):
  """One entry of the theta that C++ runs with differs from TensorFlow's.

  A millionth is the rounding of float32, and less than the networks may differ
  by; a change of a few percent of a weight is seen on any batch.
  """
  theta = trained.state.theta.copy()
  theta[_entry(trained.policy, name)] += np.float32(change)
  batch = _sample(trained, theta)
  if seen:
    with pytest.raises(SamplerMismatch, match='policy and TensorFlow.s differ'):
      _update(trained, batch)
  else:
    assert _update(trained, batch).record.sampler_output_error < 1e-5


@pytest.mark.slow
def test_the_smallest_change_of_an_output_that_is_noticed(trained):
  """The output's bias, by a tolerance of 1e-4 of its size and one."""
  bias = -2
  for change, seen in ((0, False), (2e-5, False), (1e-3, True)):
    theta = trained.state.theta.copy()
    theta[bias] += np.float32(change)
    batch = _sample(trained, theta)
    assert np.abs(batch.outputs).max() < 3
    if seen:
      with pytest.raises(SamplerMismatch):
        _update(trained, batch)
    else:
      error = _update(trained, batch).record.sampler_output_error
      assert error == pytest.approx(change, abs=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize('field', ['outputs', 'log_probs'])
def test_a_nan_in_the_record_is_noticed(trained, field):
  batch = _sample(trained, trained.state.theta)
  getattr(batch, field)[2, 7] = np.nan
  with pytest.raises(SamplerMismatch, match='by nan at row'):
    _update(trained, batch)


@pytest.mark.slow
def test_a_batch_without_a_step_is_refused(trained):
  batch = _sample(trained, trained.state.theta)
  batch.kept[:] = False
  with pytest.raises(errors.UserError, match='left no step of 200'):
    _update(trained, batch)


def _tracings() -> int:
  """Traces of all graph functions that exist."""
  kind = tf.types.experimental.PolymorphicFunction
  return sum(
    found.experimental_get_tracing_count()
    for found in gc.get_objects()
    if isinstance(found, kind)
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  'settings',
  [
    dict(fisher_fraction=0.3),
    dict(whole_episodes=True),
    dict(whole_episodes=True, baseline='linear'),
  ],
)
def test_graphs_are_traced_once(settings):
  """Batches of whole episodes differ in size; the first two may retrace."""
  training = _training(**settings)
  iterations = list(_iterate(training, 2))
  before = _tracings()
  assert before > 0
  iterations += list(_iterate(training, 6))
  sizes = {iteration.batch.num_steps for _, iteration in iterations[2:]}
  assert (len(sizes) > 2) == ('whole_episodes' in settings)
  assert _tracings() == before


@pytest.mark.parametrize('standardize', [True, False])
@pytest.mark.parametrize('shards', [1, 2])
def test_equal_returns_leave_the_policy_as_it_is(standardize, shards):
  """Rounding makes advantages of 1e-14, and a step ignores their scale."""
  settings = config.from_settings(
    dict(
      task='CartPole-v1',
      env_kwargs='{"max_episode_steps": 5}',
      hidden_sizes=(8,),
      baseline='time',
      whole_episodes=True,
      batch_steps=200,
      num_slots=2,
      num_shards=shards,
      standardize_advantages=standardize,
      total_iterations=4,
      seed=1,
    )
  )
  run = (
    Training(settings)
    if shards == 1
    else distributed.on_engine(settings, LocalEngine(settings))
  )
  for iteration in run.iterations():
    record = iteration.record
    assert record.return_min == record.return_max == 5
    if record.iteration > 1:  # the first one has no baseline
      assert record.step_status == 'zero_gradient'
