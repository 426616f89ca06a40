"""CMA-ES: the library's search, resumed exactly and without side effects."""

import dataclasses

import cma
import numpy as np
import pytest
import threadpoolctl

from trpo_tf import config, seeding
from trpo_tf.errors import UserError
from trpo_tf.experiment import checkpoint
from trpo_tf.methods.cma import MAX_PARAMETERS, Cma
from trpo_tf.policies import categorical, gaussian, mlp
from trpo_tf.sampling.batch import Batch, End
from trpo_tf.seeding import Stream

POLICY = gaussian.GaussianPolicy(mlp.MLP(2, (), 1), -0.5)
D, S = 3, 8
THETA = np.array([0.1, -0.2, 0.3, -0.5], np.float32)
TARGET = np.array([0.6, 0.2, -0.4])


def settings(num_slots=S, **method):
  return config.ExperimentConfig(
    sampler=config.SamplerConfig(
      num_slots=num_slots, batch_steps=num_slots, whole_episodes=True
    ),
    method=config.MethodConfig(method='cma', **method),
    run=config.RunConfig(seed=5),
  )


def batch_of(scores, kept=None):
  """Slots of one step, which is a path."""
  rewards = np.asarray(scores, float)[:, None]
  ends = np.full(rewards.shape, End.TERMINATED, np.uint8)
  kept = np.ones(rewards.shape, bool) if kept is None else kept[:, None]
  unused = dict.fromkeys(f.name for f in dataclasses.fields(Batch))
  return Batch(**unused | dict(rewards=rewards, ends=ends, kept=kept))


def objective(candidates):
  scale = np.array([1, 10, 0.1])  # not a sphere: the covariance matters
  return -np.sum(scale * (candidates[:, :D] - TARGET) ** 2, axis=1)


def iterate(learner, theta, state, begin, end):
  for i in range(begin, end):
    drawn = learner.candidates(theta, state, i)
    update = learner.update(theta, state, None, batch_of(objective(drawn)), i)
    theta, state = update.theta, update.state
  return theta, state


def start(learner):
  return learner.initial_state(THETA, np.random.default_rng(0))


def test_is_the_library_driven_by_hand():
  learner = Cma(POLICY, settings(population_std=0.3))
  theta, state = THETA, start(learner)
  generators = []
  strategy = cma.CMAEvolutionStrategy(
    THETA[:D].astype(float),
    0.3,
    {
      'popsize': S,
      'verbose': -9,
      'seed': np.nan,
      'randn': lambda *shape: generators[-1].standard_normal(shape),
    },
  )
  for i in range(12):
    generators.append(seeding.generator(5, Stream.POPULATION, i))
    wanted = strategy.ask()
    drawn = learner.candidates(theta, state, i)
    assert drawn.shape == (S, D + 1) and drawn.dtype == np.float32
    np.testing.assert_array_equal(drawn[:, :D], np.float32(wanted))
    np.testing.assert_array_equal(drawn[:, D], THETA[D])
    scores = objective(drawn)
    strategy.tell(wanted, [-score for score in scores])
    update = learner.update(theta, state, None, batch_of(scores), i)
    theta, state = update.theta, update.state
    np.testing.assert_array_equal(theta[:D], np.float32(strategy.mean))
    assert theta[D] == THETA[D] and theta.dtype == np.float32
  assert update.record.step_status == 'accepted'
  np.testing.assert_array_equal(update.histograms['scores'], scores)


def test_finds_the_optimum():
  learner = Cma(POLICY, settings())
  theta, _ = iterate(learner, THETA, start(learner), 0, 60)
  np.testing.assert_allclose(theta[:D], TARGET, atol=1e-3)


def test_resumes_to_the_same_bits(tmp_path):
  whole = Cma(POLICY, settings())
  expected = iterate(whole, THETA, start(whole), 0, 30)
  theta, state = iterate(Cma(POLICY, settings()), THETA, start(whole), 0, 15)
  checkpoint.save(tmp_path, 15, {'theta': theta, 'learner': state}, 1)
  saved = checkpoint.load_newest(tmp_path).state
  resumed = Cma(POLICY, settings())
  theta, state = iterate(resumed, saved['theta'], saved['learner'], 15, 30)
  np.testing.assert_array_equal(theta, expected[0])
  assert state.keys() == expected[1].keys()
  for name in state:
    np.testing.assert_array_equal(state[name], expected[1][name])


def test_candidates_depend_on_the_arguments_alone():
  learner = Cma(POLICY, settings())
  begin = start(learner)
  first = learner.candidates(THETA, begin, 0)
  theta, state = iterate(learner, THETA, begin, 0, 3)
  later = learner.candidates(theta, state, 3)
  np.testing.assert_array_equal(learner.candidates(THETA, begin, 0), first)
  np.testing.assert_array_equal(learner.candidates(theta, state, 3), later)
  np.testing.assert_array_equal(
    learner.candidates(theta, state, 3)[:, D], THETA[D]
  )
  again = iterate(learner, THETA, begin, 0, 3)[0]
  np.testing.assert_array_equal(again, theta)


def test_touches_no_global_random_state_and_no_file(
  tmp_path, monkeypatch, capfd
):
  monkeypatch.chdir(tmp_path)
  np.random.seed(3)
  before = np.random.get_state()
  learner = Cma(POLICY, settings())
  theta, _ = iterate(learner, THETA, start(learner), 0, 5)
  for was, now in zip(before, np.random.get_state(), strict=True):
    np.testing.assert_array_equal(was, now)
  np.random.seed(4)
  other = Cma(POLICY, settings())
  np.testing.assert_array_equal(
    iterate(other, THETA, start(other), 0, 5)[0], theta
  )
  assert list(tmp_path.iterdir()) == [] and capfd.readouterr() == ('', '')


def test_a_dropped_candidate_ranks_last(capfd):
  scores = np.array([3, 1, 4, 2, 6, 5, 8, 7.0])
  dropped = np.array([0, 1, 0, 0, 0, 0, 0, 0], bool)
  thetas = []
  for values, kept in [(scores, None), (scores + 100 * dropped, ~dropped)]:
    learner = Cma(POLICY, settings())
    update = learner.update(
      THETA, start(learner), None, batch_of(values, kept), 0
    )
    thetas.append(update.theta)
  np.testing.assert_array_equal(*thetas)
  assert update.histograms['scores'].size == S - 1
  assert capfd.readouterr() == ('', '')
  with pytest.raises(UserError, match='left 0 of 8 candidates'):
    nothing = batch_of(scores, np.zeros(S, bool))
    learner.update(THETA, start(learner), None, nothing, 0)


def test_tells_when_the_search_does_not_repeat():
  learner = Cma(POLICY, settings())
  theta, state = iterate(learner, THETA, start(learner), 0, 3)
  wrong = state | {'scores': -state['scores']}
  with pytest.raises(UserError, match='did not reproduce'):
    Cma(POLICY, settings()).candidates(theta, wrong, 3)
  Cma(POLICY, settings()).candidates(theta, state, 3)


def test_refuses_a_population_too_small():
  with pytest.raises(UserError, match='needs 4 candidates.*--num_slots=3'):
    Cma(POLICY, settings(3))
  smallest = Cma(POLICY, settings(4))
  iterate(smallest, THETA, start(smallest), 0, 3)


def test_refuses_a_covariance_too_large():
  fits = mlp.MLP(MAX_PARAMETERS // 2 - 1, (), 2)
  Cma(categorical.CategoricalPolicy(fits, (2,)), settings())
  large = mlp.MLP(MAX_PARAMETERS // 2, (), 2)
  with pytest.raises(UserError, match='2002 x 2002.*--method=cem or rwr'):
    Cma(categorical.CategoricalPolicy(large, (2,)), settings())


def test_the_threads_of_the_blas_change_nothing():
  policy = gaussian.GaussianPolicy(mlp.MLP(100, (), 4), -0.5)
  origin, found = np.zeros(policy.num_parameters, np.float32), []
  for threads in (1, 2):
    learner = Cma(policy, settings(num_slots=64))
    with threadpoolctl.threadpool_limits(threads, 'blas'):
      state = learner.initial_state(origin, np.random.default_rng(0))
      found.append(iterate(learner, origin, state, 0, 8)[0])
  np.testing.assert_array_equal(*found)
