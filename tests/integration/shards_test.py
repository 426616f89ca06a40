"""A run in shards learns what a run in one part learns from the same batch."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from trpo_tf import config, errors
from trpo_tf.distributed import training as distributed
from trpo_tf.distributed.local import LocalEngine
from trpo_tf.estimation.value_network import ValueState
from trpo_tf.experiment.training import Training
from trpo_tf.methods.estimates import FitTargets
from trpo_tf.methods.registry import make_learner
from trpo_tf.methods.surrogate_data import Spread
from trpo_tf.moments import Moments

S = 4
SMALL = dict(
  batch_steps=800,
  num_slots=8,
  hidden_sizes=(16,),
  value_hidden_sizes=(8,),
  value_epochs=1,
  value_minibatch=64,
  total_env_steps=10**9,
)
VINE = dict(
  sampler='vine', rollout_set_size=40, branch_actions=2, branch_length=5
)
PATHS = dict(whole_episodes=True, time_limit=60)
KINDS = {
  'paths': dict(task='Hopper-v5'),
  'fisher_fraction': dict(task='Hopper-v5', fisher_fraction=0.2),
  'not_standardized': dict(task='Hopper-v5', standardize_advantages=False),
  'entropy': dict(task='CartPole-v1', entropy_coefficient=0.1),
  'time': dict(task='Swimmer-v5', baseline='time', **PATHS),
  'no_baseline': dict(task='Swimmer-v5', baseline='none', **PATHS),
  'natural_gradient': dict(
    task='Hopper-v5', method='natural_gradient', lagrange_multiplier=30.0
  ),
  'policy_gradient': dict(
    task='Hopper-v5', method='policy_gradient', l2_bound=1e-4
  ),
  'empirical_fisher': dict(task='Hopper-v5', method='empirical_fisher'),
  'max_kl': dict(task='Hopper-v5', method='max_kl', fisher_fraction=1.0),
  'kl_penalty': dict(
    task='Hopper-v5',
    method='kl_penalty',
    adapt_kl_coefficient=True,
    fit_evaluations=5,
  ),
  'vine': dict(task='Hopper-v5', **VINE),
  'every_step': dict(task='Swimmer-v5', vine_objective='every_step', **VINE),
  'cartpole': dict(task='CartPole-v1'),
  'choices_empirical_fisher': dict(
    task='CartPole-v1', method='empirical_fisher'
  ),
}
# Of the step. In float32 it differs by 1e-5 of its length, and by 3e-4 if the
# weights of max_kl are not of mean 1.
TOLERANCES = {'max_kl': 1e-4, 'kl_penalty': 1e-4}


def settings(**values):
  return config.from_settings(SMALL | values)


def joined(batches):
  """One batch of the slots of several."""
  kind = type(batches[0])
  longest = max(b.rewards.shape[1] for b in batches)
  slots = np.cumsum([0, *(len(b.lengths) for b in batches)])

  def field(name):
    values = [getattr(b, name) for b in batches]
    if name == 'branches':
      return None if values[0] is None else joined(values)
    if name in ('boundary_index', 'rollout_set'):
      values = [
        v + np.array([s, 0], np.int32)
        for v, s in zip(values, slots, strict=False)
      ]
    if name == 'episode_terms':
      return {k: np.concatenate([v[k] for v in values]) for k in values[0]}
    if isinstance(values[0], tuple):
      return sum(values, ())
    if isinstance(values[0], float):
      return float(np.mean(values))
    if batches[0].kept.shape == values[0].shape[:2]:
      pads = [longest - v.shape[1] for v in values]
      values = [
        np.pad(v, [(0, 0), (0, p), *[(0, 0)] * (v.ndim - 2)])
        for v, p in zip(values, pads, strict=True)
      ]
    return np.concatenate(values)

  return kind(**{f.name: field(f.name) for f in dataclasses.fields(kind)})


def both(values, count=2):
  """The same iterations by shards, and in one part on the joined batches."""
  c = settings(num_shards=S, **values)
  engine = LocalEngine(c)
  run = distributed.on_engine(c, engine)
  one = dataclasses.replace(
    c, sampler=dataclasses.replace(c.sampler, num_shards=1)
  )
  learner = make_learner(run.policy, one)
  for iteration, _ in zip(run.iterations(), range(count), strict=False):
    shards = engine._worker._shards.values()
    yield run, learner, joined([s._batch for s in shards]), iteration
  run.sampler.close()


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_a_step_is_that_of_the_joined_batch(kind):
  values = KINDS[kind]
  if values.get('baseline') is None:
    values = values | dict(value_minibatch=800)  # all rows in one step
  before = None
  for run, learner, batch, iteration in both(values):
    if before is None:
      parts = run.sampler, learner
      before = Training(
        settings(**values), make_parts=lambda *_, parts=parts: parts
      ).state
    expected = learner.update(
      before.theta,
      before.learner,
      before.normalizer,
      batch,
      before.iteration,
    )
    found, record = iteration.record, expected.record
    assert found.step_status == record.step_status == 'accepted'
    for name in (
      'mean_kl',
      'max_state_kl',
      'surrogate_after',
      'gradient_norm',
      'curvature',
      'cg_iterations',
      'step_evaluations',
      'entropy',
      'explained_variance',
      'value_loss',
      'masked_states',
    ):
      assert getattr(found, name) == pytest.approx(
        getattr(record, name), rel=2e-3, abs=2e-5, nan_ok=True
      ), name
    step = iteration.state.theta - before.theta
    atol = TOLERANCES.get(kind, 3e-3) * np.abs(step).max()
    np.testing.assert_allclose(step, expected.theta - before.theta, atol=atol)
    assert iteration.summary.env_steps == batch.num_steps
    normalizer = before.normalizer.update(batch.steps('observations'))
    np.testing.assert_allclose(
      iteration.state.normalizer.m2, normalizer.m2, rtol=1e-9
    )
    _assert_same_learner(iteration.state.learner, expected.state)
    before = iteration.state


def _assert_same_learner(found, expected):
  assert found.keys() == expected.keys()
  assert found.get('kl_coefficient') == expected.get('kl_coefficient')
  for name, value in expected.get('partners', {}).items():
    assert found['partners'][name] == pytest.approx(value, rel=1e-6)
  for name, value in expected['baseline'].items():
    # Adam divides by the size of a gradient, also of one that is nearly zero
    loose = name == 'theta'
    np.testing.assert_allclose(
      found['baseline'][name],
      value,
      rtol=1e-3 if name != 'second_moment' else 1e-2,
      atol=2e-3 if loose else 1e-4 * np.abs(value).max(initial=1e-12),
    )


@pytest.mark.slow
def test_minibatches_give_every_step_the_same_weight():
  """Shards of different sizes: the mean gradient is that over all steps."""
  values = dict(task='Swimmer-v5', baseline='value_network', **PATHS)
  engine = LocalEngine(settings(num_shards=S, value_minibatch=S, **values))
  run = distributed.on_engine(settings(num_shards=S, **values), engine)
  next(run.iterations())
  worker = engine._worker
  shards = [*worker._shards.values()]
  first = shards[0]._found
  cut = len(first.fit.targets) // 3  # makes the shards uneven
  shards[0]._found = first._replace(
    fit=FitTargets(*(field[:cut] for field in first.fit))
  )
  parts = [s._found.fit for s in shards]
  counts = {i: len(part.targets) for i, part in enumerate(parts)}
  total = sum(counts.values())
  state = ValueState(**run.state.learner['baseline'])
  mean, scale = float(state.return_mean), state.return_scale
  fit = worker._kit.fit
  expected = np.zeros(len(state.theta))
  for i, shard in enumerate(shards):
    # every row once, alone: the expectation of this shard's part
    rows = np.arange(counts[i], dtype=np.int32)[:, np.newaxis]
    data = shard.fit_data(mean, scale, counts, 0)
    fit.begin([data._replace(rows=rows)])
    mine = [fit.gradients(state.theta, k) for k in range(counts[i])]
    expected += np.mean(mine, axis=(0, 1))
  targets = (np.concatenate([part.targets for part in parts]) - mean) / scale
  found = run.learner._baseline.gradient(
    tf.constant(state.theta),
    np.float32(total),
    tf.constant(np.concatenate([part.x for part in parts])),
    tf.constant(targets.astype(np.float32)[:, np.newaxis]),
    tf.range(total),
  )
  np.testing.assert_allclose(expected, found, rtol=1e-3, atol=1e-6)
  run.sampler.close()


@pytest.mark.parametrize(
  'values, message',
  [
    (dict(num_slots=6, batch_steps=600), 'num_slots=6 is not a multiple'),
    (dict(value_minibatch=30), 'value_minibatch=30 is not a multiple'),
    (dict(VINE, rollout_set_size=42), 'rollout_set_size=42 is not a multiple'),
  ],
)
def test_sizes_that_shards_do_not_divide(values, message):
  with pytest.raises(ValueError, match=message):
    settings(num_shards=S, **values)


@pytest.mark.parametrize(
  'values, message',
  [
    (dict(method='max_kl', fisher_fraction=0.1), 'take --fisher_fraction=1'),
    (
      dict(method='max_kl', fisher_fraction=1.0, batch_steps=1_200_800),
      '300200 states of a shard, more than 300000: raise --num_shards',
    ),
    (dict(VINE, method='empirical_fisher'), 'take --sampler=single_path'),
    (
      dict(method='cem', elite_fraction=0.5, **PATHS),
      'num_shards=4 is for --method=trpo',
    ),
    (dict(baseline='linear', **PATHS), 'has no --baseline=linear'),
  ],
)
def test_what_shards_cannot_do(values, message):
  with pytest.raises(errors.UserError, match=message):
    distributed.on_engine(settings(num_shards=S, **values), None)


@pytest.mark.slow
def test_an_adapted_coefficient_goes_on_after_a_resume():
  c = settings(
    num_shards=S,
    task='CartPole-v1',
    method='kl_penalty',
    adapt_kl_coefficient=True,
    kl_coefficient=1000.0,
    fit_evaluations=5,
  )
  run = distributed.on_engine(c, LocalEngine(c))
  whole = [i.state for i in itertools.islice(run.iterations(), 3)]
  coefficients = [state.learner['kl_coefficient'] for state in whole]
  assert coefficients == [500.0, 250.0, 125.0]
  run.resume(whole[0].tree())
  again = [i.state for i in itertools.islice(run.iterations(), 2)]
  assert again[1].learner['kl_coefficient'] == 125.0
  assert again[1].theta.tobytes() == whole[2].theta.tobytes()
  run.sampler.close()


@pytest.mark.slow
def test_a_shard_without_states_adds_nothing():
  c = settings(
    num_shards=S,
    task='Hopper-v5',
    fisher_fraction=1.0,
    standardize_advantages=False,
  )
  engine = LocalEngine(c)
  run = distributed.on_engine(c, engine)
  next(run.iterations())
  first, *others = engine._worker._shards.values()
  given = first._found.given
  nothing = given._replace(
    x=given.x[:0],
    data=type(given.data)(*(column[:0] for column in given.data)),
    advantages=given.advantages[:0],
  )
  first._found = first._found._replace(given=nothing)
  counts = dict.fromkeys(range(S), 200) | {0: 0}
  spread = Spread(Moments.of(np.arange(2)), 1.0)
  prepared = engine.map('prepare', counts, spread, 1.0, 0)
  parts = [shard._problem for shard in others]
  expected = sum(part.at_theta.gradient for part in parts)
  np.testing.assert_allclose(prepared.at_theta.gradient, expected, rtol=1e-9)
  v = np.ones(len(expected))
  expected = sum(part.product(v) for part in parts)
  np.testing.assert_allclose(engine.map('product', v), expected, rtol=1e-9)
  run.sampler.close()


def test_shards_have_seeds_of_their_own():
  c = settings(num_shards=S, task='Swimmer-v5')
  engine = LocalEngine(c)
  run = distributed.on_engine(c, engine)
  next(run.iterations())
  batches = [
    s._batch.actions.tobytes() for s in engine._worker._shards.values()
  ]
  assert len(set(batches)) == S
  run.sampler.close()


_BREAKS = """
from trpo_tf.tasks import gymnasium_v5
from trpo_tf.tasks.language import concatenate, where
from trpo_tf.tasks.task import Definition, Task, uniform_reset


def define(sim):
  reward = 1 / where(sim.time > 0.1, 0.0, 1.0)
  return Definition(concatenate(sim.qpos, sim.qvel), reward)


model = gymnasium_v5.TASKS['InvertedPendulum-v5'].model_path
TASK = Task('breaks', model, 2, 100, define, uniform_reset(0.01, 0.01))
"""


def test_shards_share_a_task_that_is_read_once(tmp_path):
  counted = "open(__file__ + '.runs', 'a').write('1')\n"
  (tmp_path / 'task.py').write_text(counted + _BREAKS)
  c = settings(num_shards=S, task=f'{tmp_path}/task.py:TASK')
  engine = LocalEngine(c)
  assert len(engine._worker._shards) == S
  assert (tmp_path / 'task.py.runs').read_text() == '1'
  engine.close()


def test_divergences_of_different_shards_have_different_slots(tmp_path):
  (tmp_path / 'task.py').write_text(_BREAKS)
  c = settings(num_shards=S, task=f'{tmp_path}/task.py:TASK')
  run = distributed.on_engine(c, LocalEngine(c))
  summary = next(run.iterations()).summary
  assert {event.slot for event in summary.diverged} == set(range(8))
  keys = [(event.slot, event.episode) for event in summary.diverged]
  assert len(set(keys)) == len(keys) == summary.num_diverged
  run.sampler.close()


def test_a_state_of_another_number_of_shards_is_refused():
  c = settings(num_shards=S, task='Swimmer-v5')
  engine = LocalEngine(c)
  run = distributed.on_engine(c, engine)
  (iteration,) = (i for i, _ in zip(run.iterations(), range(1), strict=False))
  saved = iteration.state.tree()
  run.resume(saved)
  saved['sampler'] = {k: v for k, v in saved['sampler'].items() if k != '3'}
  with pytest.raises(ValueError, match='does not have 4 shards'):
    run.resume(saved)
  run.sampler.close()
