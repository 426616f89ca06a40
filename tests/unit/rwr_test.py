"""Reward-weighted regression: against closed forms of weighted regressions."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from trpo_tf import config
from trpo_tf.errors import UserError
from trpo_tf.estimation import surrogate
from trpo_tf.methods.rwr import (
  Rwr,
  advantage_weights,
  elite_weights,
  paths,
)
from trpo_tf.optim import lbfgs
from trpo_tf.policies import categorical, gaussian, mlp, normalizer
from trpo_tf.sampling.batch import Batch, End

S, T, O, A = 6, 40, 3, 2
LINEAR = gaussian.GaussianPolicy(mlp.MLP(O, (), A), -0.5)
NORMALIZER = normalizer.Normalizer(
  np.array(10.0), np.full(O, 0.5), np.full(O, 40.0)
)  # (x - 0.5) / 2


def settings(log_std=-0.5, **method):
  return config.ExperimentConfig(
    policy=config.PolicyConfig(initial_log_std=log_std),
    sampler=config.SamplerConfig(
      num_slots=S, batch_steps=S * T, whole_episodes=True
    ),
    estimator=config.EstimatorConfig(gamma=0.9),
    method=config.MethodConfig(method='rwr', **method),
  )


def initial(policy):
  return policy.initial_parameters(np.random.default_rng(1))


def batch_of(policy=LINEAR, dropped=0, steps=T, seed=0):
  """S slots of two paths each, by the initial policy.

  Rewards differ by path; beyond `lengths` and in the dropped slots there is
  nonsense that must not matter.
  """
  rng = np.random.default_rng(seed)
  observations = rng.normal(size=(S, steps, O)).astype(np.float32)
  x = NORMALIZER(observations).reshape(-1, O)
  theta = tf.constant(initial(policy))
  outputs = policy.outputs(theta, tf.constant(x))
  drawn = surrogate.distribution64(policy, theta, outputs).sample(seed=(1, 2))
  actions = drawn.numpy().reshape(S, steps, -1)
  lengths = steps - rng.integers(0, 5, S)
  kept = np.arange(steps) < lengths[:, None]
  kept[:dropped] = False
  ends = np.zeros((S, steps), np.uint8)
  ends[:, steps // 2] = End.TERMINATED
  ends[np.arange(S), lengths - 1] = End.TRUNCATED
  rewards = rng.normal(size=(S, steps)) + 3 * actions[..., 0]
  rewards[~kept], observations[~kept] = 1e6, 1e6
  unused = dict.fromkeys(f.name for f in dataclasses.fields(Batch))
  timesteps = np.arange(steps) % (steps // 2 + 1)
  return Batch(
    **unused
    | dict(
      observations=observations,
      actions=actions,
      rewards=rewards,
      ends=ends,
      kept=kept,
      lengths=lengths,
      timesteps=np.tile(timesteps, (S, 1)),
      episode_returns=np.zeros(0),
      episode_lengths=np.zeros(0, np.int32),
      episode_terms={},
      clipped_fraction=0.0,
      diverged=(),
      deaths=(),
    )
  )


def by_hand(batch):
  """Of each path: its normalised observations, actions, rewards and return."""
  found = []
  for s in range(S):
    middle = batch.rewards.shape[1] // 2 + 1
    for rows in (slice(0, middle), slice(middle, batch.lengths[s])):
      if batch.kept[s, rows].all():
        x = (batch.observations[s, rows].astype(float) - 0.5) / 2
        rewards = batch.rewards[s, rows]
        found.append((x, batch.actions[s, rows], rewards, rewards.sum()))
  return found


def update(policy, batch, learner=None, **kwargs):
  learner = learner or Rwr(policy, settings(**kwargs))
  return learner.update(initial(policy), {}, NORMALIZER, batch, 0)


def closed_form(found, weights):
  """theta of the weighted least squares and its log-likelihood per step."""
  x, a, w = (
    np.concatenate(part)
    for part in zip(
      *(
        (x, a, np.broadcast_to(w, len(x)))
        for (x, a, *_), w in zip(found, weights, strict=True)
      ),
      strict=True,
    )
  )
  inputs = np.column_stack([x, np.ones(len(x))])
  root = np.sqrt(w)[:, None]
  layer = np.linalg.lstsq(root * inputs, root * a, rcond=None)[0]
  variance = w @ (a - inputs @ layer) ** 2 / w.sum()
  likelihood = -0.5 * np.sum(np.log(2 * np.pi * variance) + 1)
  return np.concatenate([layer.ravel(), np.log(variance) / 2]), likelihood


def weights_by_hand(found, kind):
  """Of each path: its weight, or those of its steps."""
  if kind == 'elite':
    path_returns = np.array([r for *_, r in found])
    best = sorted(path_returns)[-3:]  # a quarter of 12 paths
    return np.isin(path_returns, best).astype(float)
  to_go = [
    [
      sum(0.9**k * r for k, r in enumerate(rewards[t:]))
      for t in range(len(rewards))
    ]
    for _, _, rewards, _ in found
  ]
  longest = max(map(len, to_go))
  mean = [np.mean([g[t] for g in to_go if len(g) > t]) for t in range(longest)]
  advantages = [np.array(g) - mean[: len(g)] for g in to_go]
  deviation = np.concatenate(advantages).std()
  return [np.exp(a / (2 * deviation)) for a in advantages]


@pytest.mark.parametrize('kind', ['elite', 'exponential'])
def test_a_linear_policy_becomes_weighted_least_squares(kind):
  batch = batch_of()
  found = by_hand(batch)
  expected, likelihood = closed_form(found, weights_by_hand(found, kind))
  result = update(
    LINEAR, batch, rwr_weights=kind, elite_fraction=0.25, rwr_temperature=2.0
  )
  # L-BFGS stops at gradients of 1e-5 or at float32's resolution
  np.testing.assert_allclose(result.theta, expected, atol=5e-4)
  assert result.theta.dtype == np.float32 and result.state == {}
  record = result.record
  assert record.step_status == 'accepted'
  assert record.surrogate_after == pytest.approx(likelihood, abs=1e-5)
  assert record.surrogate_before < record.surrogate_after
  assert 1 < record.step_evaluations <= 100
  np.testing.assert_allclose(
    result.histograms['path_returns'], [r for *_, r in found], rtol=1e-12
  )


def test_dropped_paths_do_not_count():
  batch = batch_of(dropped=2)
  found = by_hand(batch)
  assert len(found) == 2 * (S - 2)
  returns = np.array([r for *_, r in found])
  expected, _ = closed_form(found, returns >= sorted(returns)[-2])
  result = update(LINEAR, batch, elite_fraction=0.25)
  np.testing.assert_allclose(result.theta, expected, atol=5e-4)
  with pytest.raises(UserError, match='left no step.*--on_divergence=cut'):
    update(LINEAR, batch_of(dropped=S))


def test_probabilities_become_weighted_frequencies():
  """A network that sees a constant: the softmax of its outputs is free."""
  policy = categorical.CategoricalPolicy(mlp.MLP(O, (), 5), (3, 2))
  batch = batch_of(policy)
  batch.observations[batch.kept] = 0.5  # normalised: zero
  actions = [a for _, a, *_ in by_hand(batch)]
  weights = weights_by_hand(by_hand(batch), 'elite')
  result = update(policy, batch, elite_fraction=0.25)
  logits = result.theta[-5:].astype(float)
  chosen = np.concatenate(
    [a for a, w in zip(actions, weights, strict=True) if w]
  )
  for factor, cut in enumerate((slice(0, 3), slice(3, 5))):
    frequencies = np.bincount(chosen[:, factor]) / len(chosen)
    p = np.exp(logits[cut]) / np.exp(logits[cut]).sum()
    np.testing.assert_allclose(p, frequencies, atol=1e-4)


def test_records_what_the_step_did():
  policy = gaussian.GaussianPolicy(mlp.MLP(O, (8,), A), -0.5)
  batch = batch_of(policy)
  result = update(policy, batch, elite_fraction=0.25, fit_evaluations=10)
  x = tf.constant(NORMALIZER(batch.flat(batch.observations)))
  old, new = (
    (
      policy.outputs(tf.constant(theta), x).numpy().astype(float),
      theta[-A:].astype(float),
    )
    for theta in (initial(policy), result.theta)
  )
  kl = np.sum(
    new[1]
    - old[1]
    + (np.exp(2 * old[1]) + (old[0] - new[0]) ** 2) / (2 * np.exp(2 * new[1]))
    - 0.5,
    axis=1,
  )
  record = result.record
  assert record.mean_kl == pytest.approx(kl.mean(), rel=1e-6)
  assert record.max_state_kl == pytest.approx(kl.max(), rel=1e-6)
  entropy = np.sum(old[1] + 0.5 * np.log(2 * np.pi * np.e))
  assert record.entropy == pytest.approx(entropy, rel=1e-6)
  assert np.isfinite(record.gradient_norm)
  # few evaluations, and few more than asked for
  assert record.step_evaluations <= 10 + 20


def test_stays_where_nothing_is_better():
  batch = batch_of()
  start = initial(LINEAR)
  start[0] = np.nan
  learner = Rwr(LINEAR, settings())
  result = learner.update(start, {}, NORMALIZER, batch, 0)
  np.testing.assert_array_equal(result.theta, start)
  assert result.record.step_status == 'no_improvement'


def test_refuses_a_worse_end_of_the_search(monkeypatch):
  worse = initial(LINEAR) + np.float32(1)
  monkeypatch.setattr(lbfgs, 'maximize', lambda *_: lbfgs.Maximum(worse, 7))
  result = update(LINEAR, batch_of())
  np.testing.assert_array_equal(result.theta, initial(LINEAR))
  record = result.record
  assert record.step_status == 'no_improvement'
  assert record.surrogate_after == record.surrogate_before
  assert record.mean_kl == 0 and record.step_evaluations == 7


def test_a_perfect_fit_stays_finite():
  """More parameters than steps: the likelihood has no bound."""
  policy = gaussian.GaussianPolicy(mlp.MLP(O, (16,), A), -0.5)
  batch = batch_of(policy, steps=9)
  result = update(policy, batch, elite_fraction=0.05)
  assert result.record.step_status == 'accepted'
  assert np.isfinite(result.theta).all()
  assert result.theta[-A:].max() < -1


@pytest.mark.slow
def test_same_bits_whatever_came_before():
  learner = Rwr(LINEAR, settings())
  for steps in (20, 30):
    update(LINEAR, batch_of(steps=steps), learner)
  later = update(LINEAR, batch_of(), learner).theta
  np.testing.assert_array_equal(later, update(LINEAR, batch_of()).theta)


def test_paths_end_with_their_episodes():
  batch = batch_of()
  index, returns = paths(batch)
  found = by_hand(batch)
  np.testing.assert_allclose(returns, [r for *_, r in found], rtol=1e-12)
  np.testing.assert_array_equal(np.bincount(index), [len(x) for x, *_ in found])
  assert (np.diff(index) >= 0).all()


def test_the_elite_are_the_best_paths():
  path_returns = np.array([3, -1, 7, 5, 5, 0, 2, 1, 4, 6.0])
  elite = elite_weights(path_returns, 0.3)
  np.testing.assert_array_equal(np.flatnonzero(elite), [2, 3, 9])
  assert set(elite) == {0, 1}
  assert elite_weights(path_returns, 0.01).sum() == 1


def test_equal_paths_get_equal_weights():
  """Also where their returns differ by noise."""
  batch = batch_of()
  noise = np.random.default_rng(3).normal(size=batch.rewards.shape)
  batch.rewards[:] = 10.0 + 1e-6 * noise
  batch.ends[:] = 0
  batch.lengths[:], batch.kept[:], batch.timesteps[:] = T, True, np.arange(T)
  np.testing.assert_allclose(advantage_weights(batch, 0.9, 0.5), 1, atol=1e-4)
  batch.rewards[:] = 0.0
  np.testing.assert_array_equal(advantage_weights(batch, 0.9, 0.5), 1)


def test_cold_weights_leave_the_best_step():
  with np.errstate(all='raise', under='ignore'):
    cold = advantage_weights(batch_of(), 0.9, 1e-6)
  assert np.count_nonzero(cold) == 1 and cold.max() == 1


def test_refuses_a_policy_without_noise():
  with pytest.raises(UserError, match='--method=rwr.*--method=cem or cma'):
    Rwr(LINEAR, settings(log_std=-10.5))
  Rwr(LINEAR, settings(log_std=-10.0))
  discrete = categorical.CategoricalPolicy(mlp.MLP(O, (), 5), (3, 2))
  Rwr(discrete, settings(log_std=-10.5))
