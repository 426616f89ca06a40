"""The paper's tasks against Barto's equations and plain MuJoCo in Python."""

import dataclasses
import functools

import mujoco
import numpy as np
import pytest
import worlds
from oracle import TERMINATED, TRUNCATED, Graph

from trpo_tf.errors import UserError
from trpo_tf.policies.gaussian import GaussianPolicy
from trpo_tf.policies.mlp import MLP
from trpo_tf.tasks.paper import HOPPER_START, TASKS, WALKER_START
from trpo_tf.tasks.registry import find_task
from trpo_tf.tasks.task import compile_task

_EPS = np.finfo(np.float64).eps
_RUNNERS = ('paper/hopper', 'paper/walker')
_TORQUES = {
  'paper/swimmer': [50, 50],
  'paper/hopper': [15, 60, 70],
  'paper/walker': [
    (174.942 + 149.765) / 2,
    (90.502 + 62.8) / 2,
    (93.728 + 48.932) / 2,
    (179.281 + 174.121) / 2,
    (85.147 + 55.733) / 2,
    (92.963 + 46.422) / 2,
  ],
}


@functools.cache
def _compiled(name):
  return compile_task(TASKS[name])


@dataclasses.dataclass(frozen=True)
class Barto:
  """Barto, Sutton and Anderson (1983), appendix, semi-implicit Euler steps.

  Attributes:
    g: gravity.
    cart, pole: masses.
    l: half length of the pole.
    mu_c, mu_p: friction of the cart and of the hinge.
    dt: seconds of a step.
    reaction: sign of the pole's push on the cart.
  """

  g: float = 10.0
  cart: float = 1.0
  pole: float = 0.1
  l: float = 1.0
  mu_c: float = 5e-4
  mu_p: float = 2e-6
  dt: float = 0.05
  reaction: float = -1.0

  def step(self, state: np.ndarray, force: np.ndarray) -> np.ndarray:
    """[N, 4] (x, x', theta, theta') and [N] forces to the next states."""
    x, v, theta, omega = state.T
    total, sine, cosine = self.cart + self.pole, np.sin(theta), np.cos(theta)
    friction = self.mu_c * np.sign(v)
    swing = self.pole * self.l * omega**2 * sine
    alpha = (
      self.g * sine
      + cosine * (friction - force - swing) / total
      - self.mu_p * omega / (self.pole * self.l)
    ) / (self.l * (4 / 3 - self.pole * cosine**2 / total))
    a = (
      force
      + swing
      + self.reaction * self.pole * self.l * alpha * cosine
      - friction
    ) / total
    v, omega = v + self.dt * a, omega + self.dt * alpha
    return np.stack([x + self.dt * v, v, theta + self.dt * omega, omega], 1)

  def mass_matrix(self, theta: float) -> np.ndarray:
    """Of (x, theta)."""
    coupling = self.pole * self.l * np.cos(theta)
    return np.array(
      [
        [self.cart + self.pole, coupling],
        [coupling, 4 / 3 * self.pole * self.l**2],
      ]
    )


# Some ten roundings of accelerations up to 20 /s^2, amplified by the condition
# of the mass matrix; dt takes a factor of 20 off again.
_ROUNDING = 16 * np.linalg.cond(Barto().mass_matrix(0.0)) * _EPS
# MuJoCo's dry friction has the sign of v + a / b: b is 1e6 / dmax, dmax 0.95,
# and |a| stays below 15 m/s^2 here. Slower carts may feel it with either sign.
_SLOW = 15 * 0.95 / 1e6


def _cartpole_states(n, seed=0):
  """States and forces of all sizes, a quarter of them with a very slow cart."""
  rng = np.random.default_rng(seed)
  states = rng.uniform(-1, 1, (n, 4)) * [2.4, 3, 0.2, 3]
  states[::4, 1] *= 10.0 ** -rng.uniform(0, 8, len(states[::4]))
  return states, rng.uniform(-10, 10, n)


def _mujoco_cartpole(states, forces):
  model = _compiled('paper/cartpole').model
  data, after = mujoco.MjData(model), np.empty_like(states)
  for row, state, force in zip(after, states, forces, strict=True):
    mujoco.mj_resetData(model, data)
    data.qpos[:], data.qvel[:], data.ctrl[:] = state[::2], state[1::2], force
    mujoco.mj_step(model, data)
    row[::2], row[1::2] = data.qpos, data.qvel
  return after


def test_cartpole_steps_as_bartos_equations():
  states, forces = _cartpole_states(8000)
  error = np.abs(
    _mujoco_cartpole(states, forces) - Barto().step(states, forces)
  )
  slow = np.abs(states[:, 1]) <= _SLOW
  assert error[~slow].max() < _ROUNDING
  assert 500 < slow.sum() < 2000
  # the most that friction of the other sign can do
  response = np.linalg.inv(Barto().mass_matrix(0.0))[:, 0]
  x, theta = 2 * Barto.mu_c * Barto.dt * np.abs(response)
  bound = np.array([Barto.dt * x, x, Barto.dt * theta, theta])
  assert (error[slow] <= bound + _ROUNDING).all()


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('g', 9.8),
    ('cart', 1.01),
    ('pole', 0.101),
    ('l', 0.5),
    ('mu_c', 0.0),
    ('mu_p', 0.0),
    ('dt', 0.02),
    ('mu_p', -2e-6),
    ('reaction', 1.0),
  ],
)
def test_every_constant_of_the_cartpole_is_seen(field, value):
  """The comparison above fails by far when one of Barto's terms is changed.

  The last two are the signs of the authors' code.
  """
  states, forces = _cartpole_states(200, seed=1)
  changed = Barto(**{field: value}).step(states, forces)
  error = np.abs(_mujoco_cartpole(states, forces) - changed)
  assert error[np.abs(states[:, 1]) > _SLOW].max() > 1e4 * _ROUNDING


def _before(data):
  return data.qpos.copy(), data.qvel.copy()


def _cartpole_outputs(model, data, action, before, center):
  (_, angle), _ = before
  (x, theta), (v, omega) = data.qpos, data.qvel
  terms = [10.0, -(1 - np.cos(angle)), -1e-5 * np.clip(action[0], -10, 10) ** 2]
  fallen = not (-2.4 <= x <= 2.4 and -0.2 <= theta <= 0.2)
  return [x, v, theta, omega], fallen, terms


def _effort(name, action):
  return -1e-5 * np.sum((np.array(_TORQUES[name]) * action) ** 2)


def _swimmer_outputs(model, data, action, before, center):
  terms = [before[1][0], _effort('paper/swimmer', action)]
  return [*data.qpos[1:], *data.qvel], False, terms


def _distances(model, data):
  """Of every body's geom from the floor, by MuJoCo's own collision code."""
  return np.array(
    [
      mujoco.mj_geomDistance(model, data, 0, geom, 10.0, None)
      for geom in range(1, model.ngeom)
    ]
  )


def _runner_outputs(name, model, data, action, before, center):
  dt = 0.01
  impulse = np.zeros(model.nv)
  if data.nefc:
    mujoco.mj_mulJacTVec(model, data, impulse, data.efc_force)
  impulse *= dt
  state = np.concatenate([data.qpos, data.qvel])
  height, lean = data.qpos[1:3]
  upright = 0.8 < height < 2 and -1 < lean < 1 and np.abs(state).max() < 500
  distances = np.clip(_distances(model, data), 0, 0.1)
  terms = [
    1.0,
    (_center(model, data) - center) / dt,
    _effort(name, action),
    -0.5 * 0.01 * impulse @ impulse,
  ]
  return [*state[1:], *impulse, *distances], not upright, terms


def _center(model, data):
  """x of the centre of mass."""
  return model.body_mass @ data.xipos[:, 0] / model.body_mass.sum()


_OUTPUTS = {
  'paper/cartpole': _cartpole_outputs,
  'paper/swimmer': _swimmer_outputs,
} | {name: functools.partial(_runner_outputs, name) for name in _RUNNERS}


def _compare(name, row, actions, *, clip_actions=True):
  """One native episode against MuJoCo's bindings; its End and length."""
  compiled = _compiled(name)
  slots = worlds.slots(compiled, 1, clip_actions=clip_actions, threads=1)
  arrays = slots.new_arrays(len(actions), details=True)
  arrays['actions'][0] = actions
  assert not slots.rollout(arrays, worlds.fixed_rows(row))
  model = compiled.model
  data = mujoco.MjData(model)
  data.qpos[:], data.qvel[:] = row[: model.nq], row[model.nq :]
  mujoco.mj_forward(model, data)
  for t, action in enumerate(actions):
    if clip_actions:
      action = np.clip(action, compiled.low, compiled.high)
    before, center = _before(data), _center(model, data)
    data.ctrl[:] = action
    mujoco.mj_step(model, data, nstep=compiled.task.frame_skip)
    observation, fallen, terms = _OUTPUTS[name](
      model, data, action, before, center
    )
    want = np.array([*observation, sum(terms), fallen, *terms])
    # a sum of ten terms, and a difference of positions over 0.01 s
    tolerance = 100 * 16 * _EPS * np.maximum(1, np.abs(want).max())
    np.testing.assert_allclose(
      arrays['task_outputs'][0, t],
      want,
      rtol=0,
      atol=tolerance,
      err_msg=f'{name} step {t}',
    )
    truncated = t + 1 == compiled.task.time_limit
    end = int(arrays['ends'][0, t])
    assert end == TERMINATED * fallen + TRUNCATED * truncated
    if end:
      return end, t + 1
  return 0, len(actions)


def _actions(compiled, steps, scale, seed=0):
  rng = np.random.default_rng(seed)
  shape = steps, compiled.action_size
  return rng.uniform(scale * compiled.low, scale * compiled.high, shape)


@pytest.mark.parametrize('clip_actions', [True, False])
@pytest.mark.parametrize('name', TASKS)
def test_episodes_equal_plain_mujoco(name, clip_actions):
  """From drawn states, with actions inside and outside the control range."""
  compiled, ends = _compiled(name), []
  for seed, scale in enumerate((0.0, 0.5, 1.0, 1.5)):
    actions = _actions(compiled, 100, scale, seed)
    row = worlds.Resets(compiled, seed).row(0, 0)
    ends.append(_compare(name, row, actions, clip_actions=clip_actions)[0])
  assert (TERMINATED in ends) == (name != 'paper/swimmer')


def _balanced_cartpole():
  """1000 noisy actions of a linear controller, and their start."""
  compiled = _compiled('paper/cartpole')
  model, rng = compiled.model, np.random.default_rng(0)
  row = worlds.Resets(compiled).row(0, 0)
  data, actions = mujoco.MjData(model), np.empty((1000, 1))
  data.qpos[:], data.qvel[:] = row[:2], row[2:]
  for action in actions:
    action[:] = [1, 40] @ data.qpos + [2, 13] @ data.qvel + rng.normal()
    data.ctrl[:] = action
    mujoco.mj_step(model, data)
  return row, actions


def test_cartpole_to_its_horizon():
  """A whole balanced episode; each step is Barto's as well."""
  compiled = _compiled('paper/cartpole')
  row, actions = _balanced_cartpole()
  assert np.abs(actions).max() < 10
  assert _compare('paper/cartpole', row, actions) == (TRUNCATED, 1000)
  slots = worlds.slots(compiled, 1, threads=1)
  arrays = slots.new_arrays(1000, details=True)
  arrays['actions'][0] = actions
  slots.rollout(arrays, worlds.fixed_rows(row))
  states = arrays['task_outputs'][0, :, :4]
  states = np.vstack([row[[0, 2, 1, 3]], states])
  error = np.abs(Barto().step(states[:-1], actions[:, 0]) - states[1:])
  assert error[np.abs(states[:-1, 1]) > _SLOW].max() < _ROUNDING
  assert arrays['rewards'][0].mean() > 9.9


def test_swimmer_to_its_horizon():
  compiled = _compiled('paper/swimmer')
  actions = _actions(compiled, 500, 1.0)
  row = worlds.Resets(compiled).row(0, 0)
  assert _compare('paper/swimmer', row, actions) == (TRUNCATED, 500)


# (index of qpos, lowest and highest value that does not end an episode)
_LIMITS = {
  'paper/cartpole': [(0, -2.4, 2.4), (1, -0.2, 0.2)],
} | {
  name: [
    (index, np.nextafter(low, high), np.nextafter(high, low))
    for index, low, high in (
      (0, -500, 500),
      (1, 0.8, 2),
      (2, -1, 1),
      (4, -500, 500),
    )
  ]
  for name in _RUNNERS
}


@pytest.mark.parametrize('name', _LIMITS)
def test_limits_are_strict_or_closed_as_the_authors(name):
  """The last value inside and the first one outside, without a step between."""
  compiled = _compiled(name)
  graph, data = Graph(compiled), mujoco.MjData(compiled.model)
  for index, low, high in _LIMITS[name]:
    outside = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
    for value in (low, high, *outside):
      mujoco.mj_resetData(compiled.model, data)
      data.qpos[index] = value
      outputs, _ = graph.evaluate(data, np.zeros(compiled.action_size), None)
      assert outputs[compiled.observation_size + 1] == (value in outside)


@pytest.mark.parametrize('name', _LIMITS)
def test_clips_at_both_ends(name):
  """The comparison's episodes reach every side of every clip."""
  compiled = _compiled(name)
  graph, data = Graph(compiled), mujoco.MjData(compiled.model)
  for seed in range(4):
    row = worlds.Resets(compiled, seed).row(0, 0)
    mujoco.mj_resetData(compiled.model, data)
    data.qpos[:] = row[: compiled.model.nq]
    before = None
    for action in _actions(compiled, 100, 1.5, seed):
      data.ctrl[:] = action
      mujoco.mj_step(compiled.model, data, nstep=compiled.task.frame_skip)
      _, before = graph.evaluate(data, action, before)
  assert not [x for x in graph.unseen() if x.startswith('clip')]


def _resets(name, n=2000):
  compiled = _compiled(name)
  rng = np.random.default_rng(2)
  return compiled.model, *compiled.task.reset(compiled.model, rng, n)


@pytest.mark.parametrize(
  ('name', 'width'), [('paper/cartpole', 0.05), ('paper/swimmer', 0.2)]
)
def test_resets_are_uniform_about_zero(name, width):
  _, qpos, qvel = _resets(name)
  state = np.hstack([qpos, qvel])
  assert np.abs(state).max() <= width
  assert (state.max(0) > 0.99 * width).all()
  assert (state.min(0) < -0.99 * width).all()
  # uniform: standard deviation width / sqrt(3), its error 0.45 / sqrt(n)
  deviation = state.std(0) * np.sqrt(3) / width
  assert np.abs(deviation - 1).max() < 6 * 0.45 / np.sqrt(len(state))


@pytest.mark.parametrize(
  ('name', 'start'),
  [('paper/hopper', HOPPER_START), ('paper/walker', WALKER_START)],
)
def test_runners_start_above_the_ground(name, start):
  model, qpos, qvel = _resets(name)
  data, noise = mujoco.MjData(model), np.hstack([qpos, qvel]) - start
  lowest = np.empty(len(qpos))
  for i, row in enumerate(qpos):
    data.qpos[:] = row
    mujoco.mj_kinematics(model, data)
    lowest[i] = _distances(model, data).min()
  others = np.delete(noise, 1, axis=1)
  assert np.abs(others).max() <= 0.2 + 4 * _EPS
  assert (np.abs(others).max(0) > 0.198).all()
  # Lifted to touch the ground, or where the noise put it and above: 1e-14 for
  # the roundings of some five rotations of lengths about 1.
  lifted = np.abs(lowest) < 1e-14
  assert (lifted | ((lowest > 0) & (np.abs(noise[:, 1]) <= 0.2 + _EPS))).all()
  assert 0 < lifted.mean() < 1
  assert (np.abs(qpos[:, 2]) < 1).all() and (qpos[:, 1] < 2).all()
  assert (qpos[:, 1] > 0.8).all()


@pytest.mark.parametrize(
  ('name', 'observations', 'dt', 'horizon'),
  [
    ('paper/cartpole', 4, 0.05, 1000),
    ('paper/swimmer', 9, 0.04, 500),
    ('paper/hopper', 11 + 6 + 4, 0.01, 1000),
    ('paper/walker', 17 + 9 + 7, 0.01, 1000),
  ],
)
def test_sizes_and_horizons(name, observations, dt, horizon):
  compiled = compile_task(find_task(name))
  assert compiled.observation_size == observations
  assert compiled.model.opt.timestep * compiled.task.frame_skip == dt
  assert compiled.task.time_limit == horizon


@pytest.mark.parametrize(
  ('name', 'hidden', 'count'),
  [
    ('paper/cartpole', (), 6),
    ('paper/swimmer', (30,), 364),
  ],
)
def test_policies_have_the_papers_parameter_counts(name, hidden, count):
  compiled = _compiled(name)
  network = MLP(compiled.observation_size, hidden, compiled.action_size)
  assert GaussianPolicy(network).num_parameters == count


def test_a_misspelt_name_is_corrected():
  with pytest.raises(UserError, match='did you mean paper/cartpole'):
    find_task('paper/cart-pole')
