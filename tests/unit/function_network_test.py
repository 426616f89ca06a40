"""TRPO's step, Fisher products and CG on a function of one's own."""

import numpy as np
import pytest
import tensorflow as tf

import trpo_tf
from trpo_tf.policies.mlp import MLP

_N, _O, _A = 40, 3, 2
_MLP = MLP(_O, (4,), _A)


def _data(policy, theta, x, seed=0):
  """Actions of the policy and drawn advantages."""
  rng = np.random.default_rng(seed)
  found = policy.distribution(theta, policy.outputs(tf.constant(theta), x))
  tf.random.set_seed(seed)
  actions = found.sample().numpy()
  return trpo_tf.PathData(
    actions, found.log_prob(actions).numpy(), rng.standard_normal(_N)
  )


def _inputs():
  rng = np.random.default_rng(1)
  x = rng.standard_normal((_N, _O)).astype(np.float32)
  return x, _MLP.initial_parameters(rng, 1.0)


@pytest.mark.parametrize('kind', ['gaussian', 'categorical'])
def test_a_function_steps_as_the_network_does(kind):
  x, initial = _inputs()
  network = trpo_tf.FunctionNetwork(_MLP.outputs, initial, _A, _O)
  if kind == 'gaussian':
    own, reference = map(trpo_tf.GaussianPolicy, (network, _MLP))
  else:
    own, reference = (
      trpo_tf.CategoricalPolicy(n, (_A,)) for n in (network, _MLP)
    )
  theta = own.initial_parameters(np.random.default_rng(0))
  np.testing.assert_array_equal(own.network_parameters(theta), initial)
  data = _data(own, theta, x)
  steps = [
    trpo_tf.make_trust_region_step(policy, max_kl=0.02)(theta, x, data)
    for policy in (own, reference)
  ]
  assert steps[0].status.name == 'ACCEPTED'
  assert 0.01 < steps[0].mean_kl <= 0.02
  assert steps[0].surrogate_after > steps[0].surrogate_before
  np.testing.assert_allclose(steps[0].theta, steps[1].theta, atol=1e-4)


def test_a_function_may_branch_on_a_tensor():
  x, initial = _inputs()

  @tf.function
  def halved(theta, x):
    found = 2 * _MLP.outputs(theta, x)
    if tf.reduce_sum(found) < 1e9:
      found /= 2
    return found

  thetas = []
  for function in (_MLP.outputs, halved):
    network = trpo_tf.FunctionNetwork(function, initial, _A, _O)
    policy = trpo_tf.GaussianPolicy(network)
    theta = policy.initial_parameters(np.random.default_rng(0))
    step = trpo_tf.make_trust_region_step(policy, max_kl=0.02)
    thetas.append(step(theta, x, _data(policy, theta, x)).theta)
  np.testing.assert_allclose(*thetas, atol=1e-5)


def test_products_are_those_of_the_hessian_of_the_kl():
  x, initial = _inputs()
  network = trpo_tf.FunctionNetwork(_MLP.outputs, initial, _A, _O)
  policy = trpo_tf.GaussianPolicy(network)
  theta = policy.initial_parameters(np.random.default_rng(0))
  at = tf.Variable(theta, dtype=tf.float64)
  x64, start = x.astype(np.float64), tf.constant(theta, tf.float64)
  old = policy.distribution(start, policy.outputs(start, x64))
  with tf.GradientTape() as outer:
    with tf.GradientTape() as inner:
      new = policy.distribution(at, policy.outputs(at, x64))
      kl = tf.reduce_mean(old.kl_divergence(new))
    slope = inner.gradient(kl, at)
  hessian = outer.jacobian(slope, at).numpy()
  product = trpo_tf.fisher_vector_product(policy, theta, x)
  v = np.random.default_rng(2).standard_normal(theta.size)
  np.testing.assert_allclose(product(v), hessian @ v, rtol=1e-4, atol=1e-5)
  found = trpo_tf.conjugate_gradient(lambda u: product(u) + 0.1 * u, v, 200)
  want = np.linalg.solve(hessian + 0.1 * np.eye(v.size), v)
  np.testing.assert_allclose(found.solution, want, rtol=1e-3, atol=1e-3)


def test_a_keras_model():
  keras = tf.keras
  keras.utils.set_random_seed(0)
  model = keras.Sequential(
    [
      keras.Input([_O]),
      keras.layers.Dense(5, 'tanh'),
      keras.layers.BatchNormalization(),
      keras.layers.Dense(_A),
    ]
  )
  x, _ = _inputs()
  network = trpo_tf.KerasNetwork(model)
  assert (network.input_size, network.output_size) == (_O, _A)
  policy = trpo_tf.GaussianPolicy(network)
  theta = policy.initial_parameters(np.random.default_rng(0))
  before = policy.outputs(tf.constant(theta), x).numpy()
  np.testing.assert_allclose(before, model(x).numpy(), rtol=1e-6)
  step = trpo_tf.make_trust_region_step(policy)
  result = step(theta, x, _data(policy, theta, x))
  assert result.status.name == 'ACCEPTED' and result.mean_kl <= 0.01
  np.testing.assert_array_equal(model(x).numpy(), before)
  network.assign(policy.network_parameters(result.theta))
  after = policy.outputs(tf.constant(result.theta), x).numpy()
  np.testing.assert_allclose(model(x).numpy(), after, rtol=1e-6)
  assert (after != before).any()


@pytest.mark.parametrize(
  ('settings', 'says'),
  [
    (dict(max_kll=1), 'max_kll: the step has the settings backtrack_ratio'),
    (dict(gamma=0.9), 'gamma: the step has the settings'),
    (dict(fisher_fraction=0.1), 'give it fisher_rows'),
    (dict(max_kl=-1), '--max_kl=-1.0 is outside'),
  ],
)
def test_wrong_settings_of_the_step(settings, says):
  with pytest.raises(trpo_tf.UserError, match=says):
    trpo_tf.make_trust_region_step(trpo_tf.GaussianPolicy(_MLP), **settings)


@pytest.mark.parametrize('own', [False, True])
def test_integers_and_lists_are_numbers_and_a_wrong_call_spoils_none(own):
  x, initial = _inputs()
  network = trpo_tf.FunctionNetwork(_MLP.outputs, initial, _A, _O)
  policy = trpo_tf.GaussianPolicy(network if own else _MLP)
  theta = policy.initial_parameters(np.random.default_rng(0))
  data = _data(policy, theta, x)._replace(advantages=np.arange(len(x)))
  floats = data._replace(advantages=data.advantages.astype(float))
  step = trpo_tf.make_trust_region_step(policy)
  if own:  # its function multiplies floats
    with pytest.raises((TypeError, ValueError, tf.errors.OpError)):
      step(theta, np.ones(x.shape, int), data)
  else:
    step(theta, np.ones(x.shape, int), data)
  one, two, three = (
    step(theta, *given).theta
    for given in ((x, data), (x, floats), (x.tolist(), data))
  )
  np.testing.assert_array_equal(one, two)
  np.testing.assert_array_equal(one, three)


def test_outputs_of_another_width_are_refused():
  x, initial = _inputs()
  network = trpo_tf.FunctionNetwork(_MLP.outputs, initial, _A + 1, _O)
  policy = trpo_tf.GaussianPolicy(network)
  theta = policy.initial_parameters(np.random.default_rng(0))
  with pytest.raises(trpo_tf.UserError, match=rf'instead of \[N, {_A + 1}\]'):
    policy.outputs(tf.constant(theta), x)


def test_an_objective_that_returns_a_number_is_refused():
  x, _ = _inputs()
  policy = trpo_tf.GaussianPolicy(_MLP)
  theta = policy.initial_parameters(np.random.default_rng(0))
  step = trpo_tf.make_trust_region_step(policy, lambda *_: 1.0)
  with pytest.raises(trpo_tf.UserError, match=r'returned shape \(\) instead'):
    step(theta, x, _data(policy, theta, x))


def test_shapes_that_would_broadcast_are_refused():
  x, initial = _inputs()
  network = trpo_tf.FunctionNetwork(_MLP.outputs, initial, _A, _O)
  policy = trpo_tf.GaussianPolicy(network)
  theta = policy.initial_parameters(np.random.default_rng(0))
  data = _data(policy, theta, x)
  step = trpo_tf.make_trust_region_step(policy)
  column = data.advantages[:, np.newaxis]
  wrong = {
    r'advantages have shape \(40, 1\) instead of \(40,\)': data._replace(
      advantages=column
    ),
    r'log_probs have shape \(40, 1\)': data._replace(log_probs=column),
    r'actions have shape \(40,\) instead of \(40, 2\)': data._replace(
      actions=data.actions[:, 0]
    ),
    r'data of shape \(39,\) for 40 states': data._replace(
      advantages=data.advantages[1:]
    ),
  }
  wrong[r'actions have shape \(40, 1\) instead of \(40, 2\)'] = data._replace(
    actions=data.actions[:, :1]
  )
  for says, given in wrong.items():
    with pytest.raises(trpo_tf.UserError, match=says):
      step(theta, x, given)
  with pytest.raises(trpo_tf.UserError, match=r'x has shape \(40, 2\) inst'):
    step(theta, x[:, :2], data)
  for repeats in (0, 2):
    other = trpo_tf.make_trust_region_step(
      policy,
      lambda distribution, data, repeats=repeats: tf.concat(
        [distribution.log_prob(data.actions)[:1]]
        + repeats * [distribution.log_prob(data.actions)],
        0,
      ),
    )
    with pytest.raises(trpo_tf.UserError, match='other than one term for each'):
      other(theta, x, data)
  with pytest.raises(trpo_tf.UserError, match='theta has shape'):
    step(theta[1:], x, data)
  mean = trpo_tf.make_trust_region_step(
    policy,
    lambda distribution, data: tf.reduce_mean(
      distribution.log_prob(data.actions)
    ),
  )
  with pytest.raises(trpo_tf.UserError, match=r'returned shape \(\) instead'):
    mean(theta, x, data)
  with pytest.raises(trpo_tf.UserError, match='num_states=0'):
    trpo_tf.make_trust_region_step(policy, num_states=0)


def test_a_keras_model_that_is_not_built_is_refused():
  model = tf.keras.Sequential([tf.keras.layers.Dense(_A)])
  with pytest.raises(trpo_tf.UserError, match='begin a Sequential model with'):
    trpo_tf.KerasNetwork(model)


def test_inputs_in_float64_are_those_in_float32():
  x, initial = _inputs()
  network = trpo_tf.FunctionNetwork(_MLP.outputs, initial, _A, _O)
  policy = trpo_tf.GaussianPolicy(network)
  theta = policy.initial_parameters(np.random.default_rng(0))
  step = trpo_tf.make_trust_region_step(policy)
  data = _data(policy, theta, x)
  both = [step(theta, given, data).theta for given in (x, x.astype(float))]
  np.testing.assert_array_equal(*both)
  v = np.ones(theta.size)
  both = [
    trpo_tf.fisher_vector_product(policy, theta, given)(v)
    for given in (x, x.astype(float))
  ]
  np.testing.assert_array_equal(*both)


def test_choices_are_checked_and_cast():
  policy = trpo_tf.CategoricalPolicy(MLP(3, (4,), 5), (3, 2))
  rng = np.random.default_rng(0)
  theta, x = policy.initial_parameters(rng), rng.normal(size=(40, 3))
  actions = np.stack([rng.integers(n, size=40) for n in (3, 2)], 1)
  data = trpo_tf.PathData(actions, np.full(40, -np.log(6)), rng.normal(size=40))
  step = trpo_tf.make_trust_region_step(policy)
  found = [
    step(theta, x, data._replace(actions=actions.astype(kind))).theta
    for kind in (np.int32, np.int64, np.uint8)
  ]
  for other in found[1:]:
    np.testing.assert_array_equal(other, found[0])
  for wrong, says in (
    (actions + 1, r'outside of the choices \(3, 2\)'),
    (-actions, 'outside of the choices'),
    (actions.astype(float), 'float64, not the numbers of choices'),
  ):
    with pytest.raises(trpo_tf.UserError, match=says):
      step(theta, x, data._replace(actions=wrong))
