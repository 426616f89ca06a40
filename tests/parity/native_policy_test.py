"""The policy inside the native loop against an independent float64 network."""

import itertools
import types

import numpy as np
import pytest
import worlds
from oracle import network

from trpo_tf.sampling import _native
from trpo_tf.tasks import language as lang
from trpo_tf.tasks.task import Definition

_SLOTS, _STEPS = 6, 40


@pytest.fixture(scope='module')
def compiled(tmp_path_factory):
  def define(sim):
    # one entry that the normaliser's clip has to bound
    return Definition(
      lang.concatenate(sim.qpos, sim.qvel, 1e3 * sim.qvel[0]), 0.0
    )

  return worlds.make(tmp_path_factory.mktemp('model'), define=define)


def _inputs(compiled, hidden, policies, seed=0, scale=1.0, noise_scale=1.0):
  """theta, policy_index, normaliser, noise and the network's sizes."""
  rng = np.random.default_rng(seed)
  sizes = compiled.observation_size, *hidden, compiled.action_size
  layers = [
    np.vstack(
      [
        scale * rng.standard_normal((a, b)) / np.sqrt(a),
        0.3 * rng.standard_normal((1, b)),
      ]
    ).ravel()
    for a, b in itertools.pairwise(sizes)
  ]
  theta = np.stack(
    [
      np.concatenate([*layers, rng.uniform(-2, 0.5, compiled.action_size)])
      * rng.choice([-1, 1], sum(map(len, layers)) + compiled.action_size)
      for _ in range(policies)
    ]
  ).astype(np.float32)
  size = compiled.observation_size
  normalizer = types.SimpleNamespace(
    mean32=rng.standard_normal(size).astype(np.float32) * np.float32(0.1),
    inv_std32=rng.uniform(0.5, 2, size).astype(np.float32),
    clip=5.0,
  )
  noise = noise_scale * rng.standard_normal(
    (_SLOTS, _STEPS, compiled.action_size)
  )
  index = rng.permutation(_SLOTS).astype(np.int32) % policies
  return (theta, index, normalizer, noise), sizes


def _rollout(compiled, inputs, hidden, activation, **options):
  slots = worlds.slots(compiled, _SLOTS, hidden, activation, **options)
  arrays = slots.new_arrays(_STEPS)
  arrays |= slots.policy_arrays(*inputs)
  assert not slots.rollout(arrays, worlds.Resets(compiled))
  return arrays


def _normalized(observations, normalizer):
  """In float64; the clip is on the normalised value."""
  mean, factor = (
    x.astype(np.float64) for x in (normalizer.mean32, normalizer.inv_std32)
  )
  x = (observations.astype(np.float64) - mean) * factor
  return np.clip(x, -normalizer.clip, normalizer.clip)


@pytest.mark.parametrize('activation', ['tanh', 'softplus', 'relu'])
@pytest.mark.parametrize('hidden', [(), (1,), (64, 64), (7, 33, 5)], ids=str)
@pytest.mark.parametrize('policies', [1, 4])
def test_means_and_log_probabilities(compiled, activation, hidden, policies):
  """Step by step, on the observations that were recorded."""
  inputs, sizes = _inputs(compiled, hidden, policies, noise_scale=3.0)
  theta, index, normalizer, noise = inputs
  arrays = _rollout(compiled, inputs, hidden, activation)
  x = _normalized(arrays['observations'], normalizer)
  assert (np.abs(x) == normalizer.clip).any()
  assert (np.abs(x) < normalizer.clip).any()
  count = compiled.action_size
  for s in range(_SLOTS):
    own = theta[index[s]]
    means = network(own[:-count], sizes, activation, x[s])
    error = np.abs(arrays['outputs'][s] - means) / np.maximum(1, np.abs(means))
    assert error.max() < 1e-5
    log_std = own[-count:].astype(np.float64)
    actions = arrays['actions'][s]
    # the action is the float32 mean plus float64 noise, unclipped
    np.testing.assert_allclose(
      actions,
      arrays['outputs'][s] + np.exp(log_std) * noise[s],
      rtol=1e-15,
      atol=1e-15,
    )
    deviations = (actions - arrays['outputs'][s]) / np.exp(log_std)
    densities = -0.5 * deviations**2 - log_std - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(
      arrays['log_probs'][s], densities.sum(1), rtol=1e-6, atol=1e-6
    )
  assert (arrays['actions'] > compiled.high).any()
  assert (arrays['actions'] < compiled.low).any()


def test_each_slot_follows_its_own_policy(compiled):
  """A slot's records depend on its policy only, not on its place in theta."""
  inputs, _ = _inputs(compiled, (8,), 3)
  theta, index, normalizer, noise = inputs
  together = _rollout(compiled, inputs, (8,), 'tanh')
  for policy in range(3):
    alone = _rollout(
      compiled,
      (theta[[policy]], np.zeros(_SLOTS, np.int32), normalizer, noise),
      (8,),
      'tanh',
    )
    own = index == policy
    assert own.any() and not own.all()
    for name in ('actions', 'outputs', 'log_probs', 'observations'):
      assert (alone[name][own] == together[name][own]).all()
    assert (alone['outputs'][~own] != together['outputs'][~own]).any()


def test_one_changed_weight_is_seen(compiled):
  """The comparison above is sharp enough to see a single weight."""
  inputs, sizes = _inputs(compiled, (8,), 1)
  theta, _, normalizer, _ = inputs
  arrays = _rollout(compiled, inputs, (8,), 'tanh')
  x = _normalized(arrays['observations'], normalizer)[0]
  changed = theta[0, :-2].copy()
  changed[5] += 1e-2
  difference = network(changed, sizes, 'tanh', x) - arrays['outputs'][0]
  assert np.abs(difference).max() > 1e-4


def test_zero_noise_acts_by_the_mean(compiled):
  inputs, _ = _inputs(compiled, (8,), 1, noise_scale=0.0)
  arrays = _rollout(compiled, inputs, (8,), 'tanh')
  np.testing.assert_array_equal(arrays['actions'], arrays['outputs'])
  log_std = inputs[0][0, -2:].astype(np.float64)
  mode = -log_std.sum() - np.log(2 * np.pi)
  np.testing.assert_array_equal(arrays['log_probs'], np.float32(mode))


def test_action_range_changes_the_control_and_not_the_record(compiled):
  """In the control range a mean of one is the upper limit."""
  inputs, sizes = _inputs(compiled, (), 1, noise_scale=0.0)
  theta = 0 * inputs[0]
  theta[0, sum((a + 1) * b for a, b in itertools.pairwise(sizes)) - 2 :][:2] = 1
  inputs = theta, np.zeros(_SLOTS, np.int32), *inputs[2:]
  scaled = _rollout(compiled, inputs, (), 'tanh', action_range='control')
  assert (scaled['actions'] == 1).all()
  slots = worlds.slots(compiled, _SLOTS)
  replay = slots.new_arrays(_STEPS)
  replay['actions'][:] = compiled.high
  slots.rollout(replay, worlds.Resets(compiled))
  np.testing.assert_array_equal(replay['observations'], scaled['observations'])


def _tanh(x):
  x = np.array(x, np.float32)
  _native.tanh(x)
  return x


def test_tanh_is_within_4e_7():
  x = np.concatenate(
    [
      np.linspace(-20, 20, 2_000_001),
      np.linspace(-1e-3, 1e-3, 20_001),
      np.geomspace(1e-45, 1e38, 10_000),
      -np.geomspace(1e-45, 1e38, 10_000),
    ]
  ).astype(np.float32)
  error = np.abs(_tanh(x).astype(np.float64) - np.tanh(x.astype(np.float64)))
  assert error.max() < 4e-7


def test_tanh_of_special_values():
  assert _tanh([0.0])[0] == 0 and np.signbit(_tanh([-0.0])[0])
  assert np.isnan(_tanh([np.nan])[0])
  np.testing.assert_allclose(_tanh([np.inf, -np.inf]), [1, -1], atol=4e-7)
  denormal = np.float32(1e-42)
  assert denormal > 0 and _tanh([denormal])[0] == denormal
  x = np.linspace(-10, 10, 10_001)
  np.testing.assert_array_equal(_tanh(-x), -_tanh(x))
  assert np.abs(_tanh(x)).max() <= np.float32(1 + 1.2e-7)


@pytest.mark.parametrize('size', range(1, 20))
def test_tanh_does_not_depend_on_the_place_in_a_vector(size):
  x = np.linspace(-3, 3, size).astype(np.float32)
  alone = np.concatenate([_tanh(x[i : i + 1]) for i in range(size)])
  assert alone.tobytes() == _tanh(x).tobytes()
