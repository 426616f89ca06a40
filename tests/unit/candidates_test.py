"""Candidates that are refused early, against evaluations of every state."""

import numpy as np
import pytest
import tensorflow as tf

from trpo_tf.estimation import surrogate
from trpo_tf.estimation.surrogate import PathData, WeightedPathData
from trpo_tf.optim import candidates
from trpo_tf.policies import categorical, mlp

N = 2 * candidates.PART + 300


@pytest.fixture(scope='module')
def problem():
  rng = np.random.default_rng(0)
  policy = categorical.CategoricalPolicy(mlp.MLP(3, (4,), 5), (3, 2))
  theta = tf.constant(rng.normal(size=policy.num_parameters), tf.float32)
  x = tf.constant(rng.normal(size=(N, 3)), tf.float32)
  outputs = policy.outputs(theta, x)
  old = surrogate.distribution64(policy, theta, outputs)
  actions = old.sample(seed=(1, 2))
  data = PathData(actions, old.log_prob(actions), rng.normal(size=N))
  candidate = theta + tf.constant(
    0.1 * rng.normal(size=policy.num_parameters), tf.float32
  )
  return policy, theta, outputs, x, data, candidate


def evaluated(problem, rows=slice(None), weights=None):
  """Sums over some rows, divided by N."""
  policy, theta, outputs, x, data, candidate = problem
  data = PathData(*(field[rows] for field in data))
  if weights is not None:
    data = WeightedPathData(*data, weights[rows])
  old = surrogate.distribution64(policy, theta, outputs[rows])
  found = surrogate.evaluate(
    policy,
    surrogate.importance_sampled,
    data,
    old,
    candidate,
    policy.outputs(candidate, x[rows]),
  )
  share = len(data.advantages) / N
  return share * found.surrogate, share * found.mean_kl, found.max_kl


def evaluate(problem, refuse, weights=None):
  policy, theta, outputs, x, data, candidate = problem
  if weights is not None:
    data = WeightedPathData(*data, weights)
  return tf.function(candidates.evaluate)(
    policy,
    surrogate.importance_sampled,
    theta,
    outputs,
    x,
    data,
    candidate,
    refuse,
  )


@pytest.mark.parametrize('weighted', [False, True])
def test_a_candidate_within_its_bound_is_evaluated_on_every_state(
  problem, weighted
):
  weights = None
  if weighted:
    weights = np.random.default_rng(1).uniform(0.1, 2, N)
    weights /= weights.mean()
  found = evaluate(problem, lambda so_far: so_far.mean_kl > 1e9, weights)
  expected = evaluated(problem, weights=weights)
  # sums of three parts in float64; the network's outputs are float32
  np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize('parts', [1, 2])
def test_the_parts_after_a_refusal_are_left_out(problem, parts):
  rows = slice(0, parts * candidates.PART)
  expected = evaluated(problem, rows)
  bound = 0.99 * float(expected[1])
  found = evaluate(problem, lambda so_far: so_far.mean_kl > bound)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert float(found.mean_kl) < float(evaluated(problem)[1])


def test_a_part_can_exceed_the_bound_of_the_worst_state(problem):
  expected = evaluated(problem, slice(0, candidates.PART))
  bound = 0.99 * float(expected[2])
  found = evaluate(problem, lambda so_far: so_far.max_kl > bound)
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_nan_is_not_refused_early(problem):
  *before, candidate = problem
  found = evaluate(
    (*before, candidate * np.nan), lambda so_far: so_far.mean_kl > 0
  )
  assert np.isnan(found.mean_kl)
