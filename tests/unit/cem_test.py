"""The cross-entropy method: its elite, its noise, its optimum."""

import dataclasses

import numpy as np
import pytest

from trpo_tf import config
from trpo_tf.errors import UserError
from trpo_tf.experiment import checkpoint
from trpo_tf.methods import population
from trpo_tf.methods.cem import Cem
from trpo_tf.policies import gaussian, mlp
from trpo_tf.sampling.batch import Batch, End

POLICY = gaussian.GaussianPolicy(mlp.MLP(2, (), 1), -0.5)
D, S = 3, 40
THETA = np.array([0.1, -0.2, 0.3, -0.5], np.float32)
TARGET = np.array([0.6, 0.2, -0.4])


def settings(num_slots=S, **method):
  return config.ExperimentConfig(
    sampler=config.SamplerConfig(
      num_slots=num_slots, batch_steps=num_slots, whole_episodes=True
    ),
    method=config.MethodConfig(method='cem', **method),
  )


def batch_of(rewards, ends=None, kept=None):
  """A batch [S, T] with all that a population method may look at."""
  rewards = np.asarray(rewards, float)
  if ends is None:
    ends = np.full(rewards.shape, End.TERMINATED, np.uint8)
  kept = np.ones(rewards.shape, bool) if kept is None else np.array(kept)
  unused = dict.fromkeys(f.name for f in dataclasses.fields(Batch))
  return Batch(
    **unused
    | dict(
      rewards=rewards,
      ends=np.array(ends, np.uint8),
      kept=kept,
      diverged=(),
      lengths=np.full(len(rewards), rewards.shape[1]),
    )
  )


def objective(candidates):
  return -np.sum((candidates[:, :D] - TARGET) ** 2, axis=1, keepdims=True)


def iterate(learner, theta, state, begin, end):
  for i in range(begin, end):
    drawn = learner.candidates(theta, state, i)
    update = learner.update(theta, state, None, batch_of(objective(drawn)), i)
    theta, state = update.theta, update.state
  return theta, state


def start(learner):
  return learner.initial_state(THETA, np.random.default_rng(0))


def test_candidates_surround_the_policy_and_share_its_noise():
  learner = Cem(POLICY, settings(2000, extra_std=0.2))
  drawn = learner.candidates(THETA, start(learner), 0)
  assert drawn.shape == (2000, D + 1) and drawn.dtype == np.float32
  np.testing.assert_array_equal(drawn[:, D], THETA[D])
  deviations = drawn[:, :D].astype(float) - THETA[:D]
  # 5 standard errors of a mean and of a deviation of 2,000 draws
  std = np.sqrt(0.1**2 + 0.2**2)
  np.testing.assert_allclose(deviations.mean(0), 0, atol=5 * std / 2000**0.5)
  np.testing.assert_allclose(deviations.std(0), std, rtol=5 / 4000**0.5)


def test_slots_act_by_the_mean_of_a_candidate_each():
  learner = Cem(POLICY, settings())
  calls = []

  class Sampler:
    def sample(self, theta, normalizer, iteration, deterministic=False):
      calls.append((theta, normalizer, iteration, deterministic))
      return 'batch'

  state = start(learner)
  assert learner.sample(Sampler(), THETA, state, 'normalizer', 3) == 'batch'
  ((theta, *rest),) = calls
  np.testing.assert_array_equal(theta, learner.candidates(THETA, state, 3))
  assert rest == ['normalizer', 3, True]


def test_learns_mean_and_deviation_of_the_elite():
  learner = Cem(POLICY, settings(10, elite_fraction=0.3))
  state = start(learner)
  drawn = learner.candidates(THETA, state, 4)
  scores = np.array([1, -5, 7, 2, 6, 0, 9, -1, 3, 4.0])
  update = learner.update(THETA, state, None, batch_of(scores[:, None]), 4)
  elite = drawn[[6, 2, 4], :D].astype(float)
  mean = sum(elite) / 3
  np.testing.assert_allclose(update.state['mean'], mean, rtol=1e-14)
  std = np.sqrt(sum((row - mean) ** 2 for row in elite) / 3)
  np.testing.assert_allclose(update.state['std'], std, rtol=1e-12)
  np.testing.assert_array_equal(update.theta[:D], mean.astype(np.float32))
  assert update.theta[D] == THETA[D] and update.theta.dtype == np.float32
  assert update.record.step_status == 'accepted'
  np.testing.assert_array_equal(update.histograms['scores'], scores)


def test_finds_the_optimum():
  learner = Cem(POLICY, settings(100))
  theta, state = iterate(learner, THETA, start(learner), 0, 50)
  np.testing.assert_allclose(theta[:D], TARGET, atol=1e-3)
  assert state['std'].max() < 1e-3


def test_extra_variance_falls_linearly_to_exactly_nothing():
  noisy = Cem(POLICY, settings(extra_std=0.4, extra_std_iterations=8))
  plain = Cem(POLICY, settings(extra_std=0.0))
  state = start(noisy) | {'mean': np.zeros(D)}
  for i, variance in [(0, 0.16), (2, 0.12), (7, 0.02)]:
    more, less = (l.candidates(THETA, state, i) for l in (noisy, plain))
    expected = np.sqrt((0.01 + variance) / 0.01)
    np.testing.assert_allclose((more / less)[:, :D], expected, rtol=1e-6)
  for i in (8, 9, 100):
    np.testing.assert_array_equal(
      noisy.candidates(THETA, state, i), plain.candidates(THETA, state, i)
    )


def test_resumes_to_the_same_bits(tmp_path):
  whole = Cem(POLICY, settings())
  expected = iterate(whole, THETA, start(whole), 0, 6)
  theta, state = iterate(Cem(POLICY, settings()), THETA, start(whole), 0, 3)
  checkpoint.save(tmp_path, 3, {'theta': theta, 'learner': state}, 1)
  saved = checkpoint.load_newest(tmp_path).state
  resumed = Cem(POLICY, settings())
  theta, state = iterate(resumed, saved['theta'], saved['learner'], 3, 6)
  np.testing.assert_array_equal(theta, expected[0])
  for name in ('mean', 'std'):
    np.testing.assert_array_equal(state[name], expected[1][name])


def test_iterations_and_seeds_draw_anew():
  learner = Cem(POLICY, settings(extra_std=0.0))
  other = Cem(
    POLICY,
    dataclasses.replace(settings(extra_std=0.0), run=config.RunConfig(seed=1)),
  )
  state = start(learner)
  first = learner.candidates(THETA, state, 0)
  np.testing.assert_array_equal(first, learner.candidates(THETA, state, 0))
  assert (first != learner.candidates(THETA, state, 1))[:, :D].all()
  assert (first != other.candidates(THETA, state, 0))[:, :D].all()


def test_scores_are_mean_returns_of_a_slots_paths():
  cut, end = End.DIVERGED, End.TRUNCATED
  rewards = [[1, 2, 3, 4], [5, 6, 7, 9], [1, 1, 1, 9], [2, 2, 8, 8]]
  ends = [[0, end, 0, end], [0, 0, end, 0], [0, cut, end, 0], [0, cut, 0, cut]]
  lengths = np.array([4, 3, 3, 4])
  kept = np.arange(4) < lengths[:, None]
  np.testing.assert_array_equal(
    population.scores(batch_of(rewards, ends, kept)), [5, 18, 1.5, 10]
  )
  kept[2, :2] = kept[3] = False  # as --on_divergence=drop does
  np.testing.assert_array_equal(
    population.scores(batch_of(rewards, ends, kept)), [5, 18, 1, -np.inf]
  )


def test_a_dropped_candidate_is_never_elite():
  learner = Cem(POLICY, settings(4, elite_fraction=0.75))
  state = start(learner)
  kept = np.array([[True], [False], [True], [False]])
  drawn = learner.candidates(THETA, state, 0)
  update = learner.update(
    THETA, state, None, batch_of(np.ones((4, 1)), kept=kept), 0
  )
  np.testing.assert_allclose(
    update.state['mean'], drawn[[0, 2], :D].astype(float).mean(0), rtol=1e-14
  )
  assert update.histograms['scores'].size == 2
  kept[2] = False
  with pytest.raises(UserError, match='left 1 of 4 candidates.*cut'):
    learner.update(THETA, state, None, batch_of(np.ones((4, 1)), kept=kept), 0)


def test_refuses_an_elite_of_one():
  with pytest.raises(UserError) as caught:
    Cem(POLICY, settings(14))
  assert str(caught.value) == (
    '--method=cem fits a deviation to the best --elite_fraction=0.1 of the '
    'candidates, 1 of --num_slots=14: take --num_slots=20 or more'
  )
  Cem(POLICY, settings(20))
