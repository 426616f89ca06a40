"""--vine_objective=every_step on native tasks, from the sampler to a resume."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
import worlds

from trpo_tf import config, seeding
from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.estimation.amortized import Amortized
from trpo_tf.estimation.value_network import ValueNetwork, ValueState
from trpo_tf.experiment import checkpoint
from trpo_tf.experiment.training import Training
from trpo_tf.policies.gaussian import GaussianPolicy
from trpo_tf.policies.mlp import MLP
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.sampling.actors import GaussianActor
from trpo_tf.sampling.batch import Batch, End, VineBatch
from trpo_tf.sampling.draws import Draws
from trpo_tf.sampling.native.branching import Brancher, FrozenPolicy
from trpo_tf.sampling.native.paths import NativePathSampler
from trpo_tf.sampling.native.vine import NativeVine
from trpo_tf.sampling.vine import VineSampler
from trpo_tf.seeding import Stream
from trpo_tf.tasks.language import sqrt, square
from trpo_tf.tasks.registry import NATIVE_TASKS
from trpo_tf.tasks.task import CompiledTask, Definition, compile_task

N, K, M, L = 20, 4, 2, 7
LIMIT, GAMMA, LAMBDA = 12, 0.9, 0.8
SETTINGS = dict(
  sampler='vine',
  batch_steps=240,
  num_slots=4,
  rollout_set_size=N,
  branch_actions=K,
  branch_trials=M,
  branch_length=L,
  vine_objective='every_step',
  baseline='value_network',
  gamma=GAMMA,
  gae_lambda=LAMBDA,
  hidden_sizes=(8,),
  value_hidden_sizes=(8,),
  value_epochs=1,
  initial_log_std=0.0,
  output_scale=1.0,
  seed=4,
)


def settings(**changes) -> ExperimentConfig:
  return config.from_settings(SETTINGS | changes)


@functools.cache
def pendulum() -> CompiledTask:
  """Falls after a few steps of a random policy, or ends at step 12."""
  task = NATIVE_TASKS['InvertedPendulum-v5']
  return compile_task(dataclasses.replace(task, time_limit=LIMIT))


def actor(compiled: CompiledTask) -> FrozenPolicy:
  """A random policy whose normaliser has seen something."""
  size = compiled.observation_size
  policy = GaussianPolicy(
    MLP(size, (8,), compiled.action_size), initial_log_std=0.0, output_scale=1.0
  )
  theta = policy.initial_parameters(np.random.default_rng(3))
  seen = 0.2 + 0.5 * np.random.default_rng(4).normal(size=(50, size))
  start = Normalizer(np.zeros(()), np.zeros(size), np.zeros(size))
  return FrozenPolicy(policy, theta, start.update(seen))


def sample(compiled: CompiledTask, iteration=1, **changes) -> VineBatch:
  """A batch of the second iteration."""
  experiment, acting = settings(**changes), actor(compiled)
  paths = NativePathSampler(compiled, acting.policy, experiment)
  sampler = VineSampler(
    NativeVine(paths, experiment), experiment.sampler, experiment.run.seed
  )
  batches = [
    sampler.sample(acting.theta, acting.normalizer, i)
    for i in range(iteration + 1)
  ]
  return batches[-1]


@pytest.fixture(scope='module')
def batch() -> VineBatch:
  """Of the pendulum; branches end in every way but by a divergence."""
  found = sample(pendulum())
  ends = found.branch_ends
  assert {0, End.TERMINATED, End.TRUNCATED} <= set(ends.ravel().tolist())
  return found


def taken(branches: Batch) -> np.ndarray:
  """Steps that a branch took, [B, L]."""
  return np.arange(L) < branches.lengths[:, np.newaxis]


def roots_of(batch: VineBatch, field: np.ndarray) -> np.ndarray:
  """A field of the trunks at the root of each branch, [B, ...]."""
  return np.repeat(batch.at_rollout_set(field), K * M, axis=0)


# --- the sampler ---


def test_steps_are_those_of_a_brancher(batch):
  """Bit by bit, from the same states, first actions and noise."""
  compiled, acting = pendulum(), actor(pendulum())
  paths = NativePathSampler(compiled, acting.policy, settings())
  paths.sample(acting.theta, acting.normalizer, 0)
  _, states = paths.sample_with_states(
    acting.theta, acting.normalizer, 1, batch.rollout_set
  )
  noise = Draws(SETTINGS['seed'], 1).branch_noise(
    GaussianActor.draw, (N, M, L, 1)
  )
  want = Brancher(compiled, acting.policy).branch(
    states,
    batch.first_actions,
    L,
    acting,
    noise,
    gamma=GAMMA,
    time_limit=True,
    trajectories=True,
  )
  branches = batch.branches
  kept = taken(branches)
  np.testing.assert_array_equal(branches.kept, kept)
  np.testing.assert_array_equal(branches.lengths, want.lengths.ravel())
  for name in ('observations', 'actions', 'rewards', 'outputs'):
    found = getattr(branches, name)[kept]
    expected = getattr(want, name).reshape(getattr(branches, name).shape)
    if name == 'outputs':  # those of first steps follow below
      found, expected = branches.outputs[:, 1:], expected[:, 1:]
      found, expected = found[kept[:, 1:]], expected[kept[:, 1:]]
    else:
      expected = expected[kept]
    assert found.tobytes() == expected.tobytes(), name
  np.testing.assert_array_equal(
    branches.last_observations, want.final_observations.reshape(N * K * M, -1)
  )
  assert batch.num_branch_steps == kept.sum() == want.num_steps
  discounts = GAMMA ** np.arange(L)
  returns = (np.where(kept, branches.rewards, 0) * discounts).sum(axis=1)
  np.testing.assert_allclose(returns, batch.branch_returns.ravel(), rtol=1e-12)


def test_first_steps_are_at_the_root(batch):
  branches = batch.branches
  for name in ('observations', 'outputs'):
    found = getattr(branches, name)[:, 0]
    expected = roots_of(batch, getattr(batch, name))
    assert found.tobytes() == expected.tobytes(), name
  first = np.repeat(batch.first_actions.reshape(N * K, -1), M, axis=0)
  assert branches.actions[:, 0].tobytes() == first.tobytes()
  started = roots_of(batch, batch.timesteps)
  expected = started[:, np.newaxis] + np.arange(L)
  kept = taken(branches)
  np.testing.assert_array_equal(branches.timesteps[kept], expected[kept])
  assert branches.timesteps[kept].max() == LIMIT - 1


def test_log_probs_and_outputs_are_tensorflow_s(batch):
  acting = actor(pendulum())
  theta = tf.constant(acting.theta)
  x = batch.inputs(batch.steps('observations'), acting.normalizer)
  outputs = acting.policy.outputs(theta, tf.constant(x))
  distribution = acting.policy.distribution(
    tf.cast(theta, tf.float64), tf.cast(outputs, tf.float64)
  )
  np.testing.assert_allclose(batch.steps('outputs'), outputs, atol=1e-5)
  np.testing.assert_allclose(
    batch.steps('log_probs'),
    distribution.log_prob(batch.steps('actions')),
    atol=1e-4,
  )
  log_q = np.repeat(batch.log_q.ravel(), M)
  np.testing.assert_allclose(batch.branches.log_probs[:, 0], log_q, atol=1e-5)


def test_each_end_is_on_the_last_step(batch):
  branches = batch.branches
  expected = np.zeros((N * K * M, L), np.uint8)
  expected[np.arange(N * K * M), branches.lengths - 1] = (
    batch.branch_ends.ravel()
  )
  np.testing.assert_array_equal(branches.ends, expected)
  cut = np.argwhere(expected == End.TRUNCATED)
  np.testing.assert_array_equal(branches.boundary_index, cut)
  np.testing.assert_array_equal(
    branches.boundary_observations,
    batch.final_observations.reshape(N * K * M, -1)[cut[:, 0]],
  )
  assert (branches.timesteps[tuple(cut.T)] == LIMIT - 1).all()
  alive = batch.branch_ends.ravel() == 0
  assert (branches.lengths[alive] == L).all()


def test_parts_of_other_objectives_are_the_trunks_alone():
  found = sample(pendulum(), vine_objective='self_normalized')
  assert found.branches is None and found.parts == (found,)


@pytest.mark.parametrize('count', [2, 4])
def test_antithetic_pairs(count):
  found = sample(pendulum(), branch_proposal='antithetic', branch_actions=count)
  pairs = found.first_actions.reshape(N, count // 2, 2)
  means = found.at_rollout_set(found.outputs).astype(np.float64)
  np.testing.assert_allclose(
    pairs.sum(axis=2), 2 * means * np.ones(count // 2), rtol=0, atol=1e-12
  )
  assert len(np.unique(found.first_actions)) == N * count


def _fragile(sim):
  """The reward of an action beyond 1.5 is not a number."""
  return Definition(sim.qpos, sqrt(2.25 - square(sim.action[0])))


@pytest.fixture(scope='module')
def fragile(tmp_path_factory) -> CompiledTask:
  return worlds.make(tmp_path_factory.mktemp('fragile'), worlds.LEVER, _fragile)


def _failed(batch: VineBatch) -> np.ndarray:
  return ((batch.branch_ends & End.DIVERGED) != 0).ravel()


def test_a_branch_that_diverges_ends_at_its_last_finite_state(fragile):
  found = sample(fragile)
  branches, failed = found.branches, _failed(found)
  assert failed.any() and not failed.all()
  np.testing.assert_array_equal(branches.kept, taken(branches))
  lengths = branches.lengths
  assert (lengths[failed] == 0).any() and (lengths[failed] > 0).any()
  (some,) = np.nonzero(failed & (lengths > 0))
  assert (branches.ends[some, lengths[some] - 1] == End.DIVERGED).all()
  assert (np.count_nonzero(branches.ends[some], axis=1) == 1).all()
  assert not branches.ends[lengths == 0].any()
  assert not np.isin(
    branches.boundary_index[:, 0], np.flatnonzero(failed)
  ).any()
  for name in ('observations', 'actions', 'outputs', 'rewards', 'log_probs'):
    assert np.isfinite(found.steps(name)).all(), name
  assert (np.abs(branches.flat(branches.actions)) <= 1.5).all()


def test_a_branch_that_diverges_is_dropped(fragile):
  cut, found = (sample(fragile, on_divergence=c) for c in ('cut', 'drop'))
  failed = _failed(found)
  np.testing.assert_array_equal(failed, _failed(cut))
  gone = ~roots_of(found, found.kept)
  assert gone.any() and not gone.all()
  expected = taken(found.branches) & ~(failed | gone)[:, np.newaxis]
  np.testing.assert_array_equal(found.branches.kept, expected)
  assert expected.any()
  assert found.num_steps == cut.num_steps


# --- the learner ---


def training(**changes) -> Training:
  values = dict(task='InvertedPendulum-v5', time_limit=LIMIT) | changes
  return Training(settings(**values))


def value_of(run: Training):
  """Returns V as a function of raw observations [N, O]."""
  network = ValueNetwork(run.config.estimator, run.policy.network)
  state = ValueState(**run.state.learner['baseline'])

  def value(observations: np.ndarray) -> np.ndarray:
    x = run.state.normalizer(observations)
    return network.predict(state, x, np.zeros(len(x), int))

  return value


def slow_gae(part: Batch, slot: int, value) -> list[float]:
  """Advantages of a slot, a sum of deltas for each step."""
  length = int(part.lengths[slot])
  boundary = {
    tuple(at): seen
    for at, seen in zip(
      part.boundary_index.tolist(), part.boundary_observations, strict=True
    )
  }
  values = value(part.observations[slot, :length])
  deltas = []
  for t in range(length):
    ends = int(part.ends[slot, t])
    if ends & (End.TERMINATED | End.DIVERGED):
      following = 0.0
    elif ends & End.TRUNCATED:
      following = value(boundary[slot, t][np.newaxis])[0]
    elif t + 1 < length:
      following = values[t + 1]
    else:
      following = value(part.last_observations[slot][np.newaxis])[0]
    deltas.append(part.rewards[slot, t] + GAMMA * following - values[t])
  advantages = []
  for t in range(length):
    total, discount = 0.0, 1.0
    for u in range(t, length):
      total += discount * deltas[u]
      discount *= GAMMA * LAMBDA
      if part.ends[slot, u]:
        break
    advantages.append(total)
  return advantages


@pytest.fixture(scope='module')
def trained() -> Training:
  """One iteration old, so that V and the normaliser do something."""
  run = training(branch_proposal='antithetic')
  next(run.iterations())
  return run


@pytest.mark.slow
@pytest.mark.parametrize('c', [0.0, 0.5])
def test_advantages_by_slow_loops(trained, c):
  """Bootstrapped at each cut, controlled by the other pair."""
  state = trained.state
  found = trained.sampler.sample(state.theta, state.normalizer, 1)
  ends = set(found.branch_ends.ravel().tolist())
  assert {0, End.TERMINATED, End.TRUNCATED} <= ends
  value = value_of(trained)

  def by_slot(part):
    return [slow_gae(part, slot, value) for slot in range(len(part.lengths))]

  trunks, branches = by_slot(found), by_slot(found.branches)
  first = np.array([advantages[0] for advantages in branches])
  d = first.reshape(N, 2, 2, M)
  others = d[:, ::-1].mean(axis=2, keepdims=True)  # of the other pair
  for b, partner in enumerate(np.broadcast_to(others, d.shape).ravel()):
    branches[b][0] -= c * partner
  expected = np.concatenate([*trunks, *branches])
  learner = state.learner | {'partners': dict(products=c, squares=1.0)}
  update = trained.learner.update(
    state.theta, learner, state.normalizer, found, 1
  )
  advantages = update.histograms['advantages']
  # V of a float32 network on batches of other sizes
  np.testing.assert_allclose(advantages, expected, rtol=0, atol=1e-4)
  products = 0.8 * c + 0.2 * (d * others).mean()
  squares = 0.8 + 0.2 * (np.broadcast_to(others, d.shape) ** 2).mean()
  after = update.state['partners']
  assert after['products'] == pytest.approx(products, rel=1e-3)
  assert after['squares'] == pytest.approx(squares, rel=1e-3)


@pytest.mark.slow
def test_the_value_network_is_fitted_to_the_trunks_alone(trained):
  state, baseline = trained.state, trained.learner._baseline
  batch = trained.sampler.sample(state.theta, state.normalizer, 1)
  update = trained.learner.update(
    state.theta, state.learner, state.normalizer, batch, 1
  )
  value = value_of(trained)
  x = state.normalizer(batch.flat(batch.observations))
  targets = np.concatenate(
    [slow_gae(batch, slot, value) for slot in range(len(batch.lengths))]
  ) + value(batch.flat(batch.observations))
  expected = baseline.fit(
    ValueState(**state.learner['baseline']),
    x,
    None,
    targets,
    seeding.generator(trained.config.run.seed, Stream.VALUE_MINIBATCHES, 1),
  )
  found = ValueState(**update.state['baseline'])
  assert found.adam_steps == expected.adam_steps
  assert found.return_mean == pytest.approx(expected.return_mean, rel=1e-5)
  # targets of a float32 network on batches of other sizes
  np.testing.assert_allclose(found.theta, expected.theta, rtol=0, atol=1e-4)
  assert update.record.value_loss == pytest.approx(
    np.square(baseline.predict(expected, x, None) - targets).mean(), rel=1e-3
  )


@pytest.mark.slow
@pytest.mark.parametrize('divergence', ['cut', 'drop'])
def test_learns_from_branches_that_diverge(tmp_path, divergence):
  worlds.write(tmp_path, worlds.LEVER)
  path = tmp_path / 'fragile.py'
  path.write_text(
    'import pathlib\n'
    'from trpo_tf.tasks.language import sqrt, square\n'
    'from trpo_tf.tasks.task import Definition, Task, uniform_reset\n'
    "MODEL = str(pathlib.Path(__file__).with_name('model.xml'))\n"
    "FRAGILE = Task('Fragile', MODEL, 1, 1000, lambda sim: Definition("
    'sim.qpos, sqrt(2.25 - square(sim.action[0]))), uniform_reset(0.1, 0.1))\n'
  )
  run = training(
    task=f'{path}:FRAGILE',
    time_limit=0,
    on_divergence=divergence,
    total_iterations=3,
  )
  for step in run.iterations():
    assert step.record.diverged > 0
    assert step.record.step_status == 'accepted'
    count = len(step.histograms['advantages'])
    assert count == sum(part.kept.sum() for part in step.batch.parts)
    assert np.isfinite(step.histograms['advantages']).all()
    assert np.isfinite(step.state.theta).all()
    assert np.isfinite(list(step.state.learner['partners'].values())).all()


@pytest.mark.slow
@pytest.mark.parametrize(
  'proposal, amortized',
  [('policy', False), ('antithetic', False), ('policy', True)],
)
def test_resumes_to_the_same_bytes(tmp_path, proposal, amortized):
  """Through a checkpoint, with the sums of the control variate and A_phi."""

  def states(run):
    return [
      (
        step.state.theta.tobytes(),
        step.state.learner['partners'],
        {
          name: np.asarray(value).tobytes()
          for name, value in step.state.learner.get('amortized', {}).items()
        },
        step.state.learner['baseline']['theta'].tobytes(),
        step.state.normalizer.mean.tobytes(),
      )
      for step in run.iterations()
    ]

  changes = dict(branch_proposal=proposal, amortized_advantage=amortized)
  whole = states(training(total_iterations=5, **changes))
  first = training(total_iterations=2, **changes)
  begun = states(first)
  checkpoint.save(tmp_path, 2, first.state.tree(), 1)
  saved = checkpoint.load_newest(tmp_path).state
  assert saved['learner']['partners']['squares'] > 0
  assert ('amortized' in saved['learner']) == amortized
  if amortized:
    assert saved['learner']['amortized']['squares'] > 0
  rest = training(total_iterations=5, **changes)
  rest.resume(saved)
  assert begun + states(rest) == whole
  assert len(begun) == 2 and len(whole) == 5


@pytest.mark.slow
def test_the_normaliser_and_the_record_see_every_step(trained):
  run = training(total_iterations=1)
  (step,) = run.iterations()
  steps = 240 + int(step.batch.branch_lengths.sum())
  assert step.batch.num_steps == step.record.env_steps == steps
  assert step.state.normalizer.count == steps
  assert step.record.branch_steps == steps - 240
  np.testing.assert_allclose(
    step.state.normalizer.mean,
    step.batch.steps('observations').astype(np.float64).mean(axis=0),
    rtol=1e-9,
    atol=1e-12,
  )
  assert step.record.masked_states == 0
  assert step.record.sampler_output_error < 1e-5


# --- settings that contradict each other ---


@pytest.mark.parametrize(
  'changes, texts',
  [
    (
      dict(branch_proposal='antithetic', branch_actions=3),
      ('--branch_proposal=antithetic', '--branch_actions', 'even', '3'),
    ),
    (
      dict(branch_proposal='antithetic', vine_objective='self_normalized'),
      ('--branch_proposal=antithetic', '--vine_objective=self_normalized'),
    ),
    (
      dict(branch_proposal='antithetic', vine_objective='mean_baseline'),
      ('--branch_proposal=antithetic', '--vine_objective=mean_baseline'),
    ),
    (
      dict(branch_proposal='uniform'),
      ('--vine_objective=every_step', '--branch_proposal=policy', 'uniform'),
    ),
    (dict(branch_proposal='all'), ('--branch_proposal=all', 'every_step')),
    (
      dict(baseline='none'),
      ('--vine_objective=every_step', '--baseline=value_network'),
    ),
    (dict(whole_episodes=True), ('--sampler=vine', '--whole_episodes')),
    (
      dict(amortized_advantage=True, sampler='single_path'),
      ('--amortized_advantage', '--sampler=vine', '--vine_objective'),
    ),
    (
      dict(amortized_advantage=True, vine_objective='mean_baseline'),
      ('--amortized_advantage', '--vine_objective=every_step'),
    ),
    (
      dict(amortized_advantage=True, branch_actions=1),
      ('--amortized_advantage', '--branch_actions of 2 or more, not 1'),
    ),
    (
      dict(amortized_advantage=True, baseline='none'),
      ('--vine_objective=every_step', '--baseline=value_network'),
    ),
  ],
)
def test_settings_that_contradict_each_other(changes, texts):
  with pytest.raises(ValueError) as caught:
    settings(**changes)
  message = str(caught.value)
  assert '\n' not in message
  assert all(text in message for text in texts), message


def test_amortized_discrete_actions_are_refused():
  with pytest.raises(UserError) as caught:
    Training(settings(task='CartPole-v1', amortized_advantage=True))
  message = str(caught.value)
  assert '\n' not in message
  assert '--amortized_advantage' in message


@pytest.mark.slow
def test_amortized_advantages_of_a_learner():
  """Later terms of the steps of a real vine, by slow loops."""
  run = training(branch_proposal='antithetic', amortized_advantage=True)
  for step in run.iterations():
    before, after = step.state, step.state.learner['amortized']
    if after['squares'] > 0:
      break
  batch = run.sampler.sample(before.theta, before.normalizer, 9)
  state = Amortized(**after)
  assert state.coefficient != 0
  partners = dict(products=0.0, squares=0.0)
  learner = before.learner | {'partners': partners}
  update = run.learner.update(
    before.theta, learner, before.normalizer, batch, 9
  )
  value = value_of(run)
  std = np.exp(run.policy.log_std(before.theta).astype(np.float64))
  expected = []
  for part in batch.parts:
    z = (part.actions - part.outputs) / std
    for slot, length in enumerate(part.lengths):
      later = state.values(before.normalizer(part.observations[slot]), z[slot])
      advantages = slow_gae(part, slot, value)
      for t in range(length):
        discount = 1.0
        for u in range(t, length - 1):
          if part.ends[slot, u]:
            break
          discount *= GAMMA * LAMBDA
          advantages[t] -= discount * later[u + 1]
      expected += advantages
  found = update.histograms['advantages']
  # V of a float32 network on batches of other sizes
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize('objective', ['every_step', 'importance_sampled'])
def test_pairs_of_discrete_actions_are_refused(objective):
  with pytest.raises(UserError) as caught:
    Training(
      settings(
        task='CartPole-v1',
        branch_proposal='antithetic',
        vine_objective=objective,
      )
    )
  message = str(caught.value)
  assert '\n' not in message
  assert '--branch_proposal=antithetic' in message


def test_pairs_are_fine_for_importance_sampling():
  settings(branch_proposal='antithetic', vine_objective='importance_sampled')


def test_one_action_is_enough():
  found = sample(pendulum(), branch_actions=1)
  assert found.branches.lengths.shape == (N * M,)
