"""What branches promise whatever the task: splits, ends, failures, misuse."""

import concurrent.futures
import copy
import dataclasses
import pickle
import subprocess
import sys

import hypothesis
import mujoco
import numpy as np
import pytest
import worlds
from hypothesis import strategies as st
from oracle import Slots

from trpo_tf.cloning import native as native_state
from trpo_tf.errors import UserError
from trpo_tf.sampling.batch import End
from trpo_tf.sampling.draws import ResetTable
from trpo_tf.sampling.native.branching import (
  Brancher,
  initial_snapshots,
)
from trpo_tf.tasks.gymnasium_v5 import TASKS
from trpo_tf.tasks.language import (
  concatenate,
  norm,
  prev,
  square,
  total,
  where,
)
from trpo_tf.tasks.task import Definition, compile_task

_LIMIT = 20


def _define(sim):
  """Bounces, the time, values of two steps, an end that branches reach."""
  speed = (sim.site_xpos['tip'] - prev(sim.site_xpos['tip'])) / sim.dt
  return Definition(
    concatenate(
      sim.qpos, sim.qvel, speed, prev(speed), prev(sim.action), sim.time
    ),
    norm(speed) - 0.1 * total(square(sim.action)) + prev(sim.qvel[1]),
    abs(sim.qpos['hinge'][0]) > 1.0,
  )


@pytest.fixture(scope='module')
def compiled(tmp_path_factory):
  return worlds.make(
    tmp_path_factory.mktemp('model'), define=_define, time_limit=_LIMIT
  )


@pytest.fixture(scope='module')
def trunk(compiled):
  return worlds.trunk(compiled, 4, 60, log_std=-0.5)


@pytest.fixture(scope='module')
def brancher(trunk):
  return Brancher(trunk.compiled, trunk.actor.policy, threads=2)


def draws(compiled, N, K, M, L, seed=0):
  """First actions and noise."""
  rng = np.random.default_rng(seed)
  A = compiled.action_size
  return rng.standard_normal((N, K, A)), rng.standard_normal((N, M, L, A))


def starts(trunk, count) -> np.ndarray:
  """States of the trunk, spread over slots and steps."""
  rows = trunk.states.reshape(-1, trunk.states.shape[-1])
  return rows[np.linspace(0, len(rows) - 1, count).astype(int)]


def arrays(branches) -> dict[str, np.ndarray]:
  return {k: v for k, v in vars(branches).items() if isinstance(v, np.ndarray)}


def assert_same(a, b, index=...):
  """All arrays of two Branches at an index, byte by byte."""
  a, b = arrays(a), arrays(b)
  assert a.keys() == b.keys() and len(a) >= 5
  for name in a:
    assert a[name][index].tobytes() == b[name][index].tobytes(), name


def discounted(rewards, gamma):
  """Sums over the last axis and a bound on their rounding."""
  terms = rewards * gamma ** np.arange(rewards.shape[-1])
  bound = 3 * rewards.shape[-1] * 2.0**-53 * np.abs(terms).sum(-1)
  return terms.sum(-1), bound


settings = hypothesis.settings(
  max_examples=40,
  deadline=None,
  derandomize=True,
  database=None,
  suppress_health_check=list(hypothesis.HealthCheck),
)


def _follow(brancher, actor, whole, noise, states, cut, end, **options):
  """From `states` with the actions and the noise of whole[cut:end]."""
  flat = lambda x: x.reshape(-1, *x.shape[3:])
  N, K, M, L, A = whole.actions.shape
  each = flat(np.broadcast_to(noise[:, None], (N, K, M, L, A)))
  return brancher.branch(
    flat(states),
    flat(whole.actions)[:, [cut]],
    end - cut,
    actor,
    each[:, None, cut:end],
    trajectories=True,
    final_states=True,
    **options,
  )


@settings
@hypothesis.given(
  cuts=st.lists(st.integers(1, 24), min_size=1, max_size=4, unique=True),
  time_limit=st.booleans(),
  gamma=st.sampled_from([0.0, 0.9, 1.0]),
  seed=st.integers(0, 5),
)
def test_pieces_make_one_long_branch(
  trunk, brancher, cuts, time_limit, gamma, seed
):
  """Branching on from final states, at any points, changes no bit."""
  N, K, M, L = 5, 2, 2, 25
  options = dict(gamma=gamma, time_limit=time_limit)
  actions, noise = draws(trunk.compiled, N, K, M, L, seed)
  whole = brancher.branch(
    starts(trunk, N),
    actions,
    L,
    trunk.actor,
    noise,
    trajectories=True,
    final_states=True,
    **options,
  )
  borders = [0, *sorted(cuts), L]
  states = np.repeat(starts(trunk, N), K * M, axis=0).reshape(N, K, M, -1)
  earned = np.zeros(N * K * M)
  alive, lengths = np.ones(N * K * M, bool), np.zeros(N * K * M, int)
  for cut, end in zip(borders, borders[1:], strict=False):
    part = _follow(
      brancher, trunk.actor, whole, noise, states, cut, end, **options
    )
    states = part.final_states.reshape(N, K, M, -1)
    for name in ('observations', 'actions', 'rewards'):
      want = getattr(whole, name).reshape(N * K * M, L, -1)
      got = getattr(part, name).reshape(N * K * M, end - cut, -1)
      for b in np.flatnonzero(alive):
        kept = part.lengths[b, 0, 0]
        assert got[b, :kept].tobytes() == want[b, cut : cut + kept].tobytes(), (
          name
        )
    earned[alive] += gamma**cut * part.returns[alive, 0, 0]
    lengths[alive] += part.lengths[alive, 0, 0]
    ended = alive & (part.ends[:, 0, 0] != 0)
    last = ended | (alive & (end == L))
    for name in ('ends', 'final_observations', 'final_states'):
      want = getattr(whole, name).reshape(N * K * M, -1)[last]
      assert getattr(part, name)[last].tobytes() == want.tobytes(), name
    alive &= ~ended
  np.testing.assert_array_equal(lengths, whole.lengths.ravel())
  _, bound = discounted(whole.rewards, gamma)
  assert (np.abs(earned - whole.returns.ravel()) <= 2 * bound.ravel()).all()


def test_the_splits_above_meet_every_kind_of_end(trunk, brancher):
  seen = set()
  for seed in range(6):
    for time_limit in (False, True):
      got = brancher.branch(
        starts(trunk, 5),
        draws(trunk.compiled, 5, 2, 2, 25, seed)[0],
        25,
        trunk.actor,
        draws(trunk.compiled, 5, 2, 2, 25, seed)[1],
        time_limit=time_limit,
      )
      seen |= set(got.ends.ravel().tolist())
  assert seen >= {0, End.TERMINATED, End.TRUNCATED}


@settings
@hypothesis.given(
  gamma=st.floats(0, 1), horizon=st.integers(1, 20), time_limit=st.booleans()
)
def test_return_is_the_discounted_sum(
  trunk, brancher, gamma, horizon, time_limit
):
  actions, noise = draws(trunk.compiled, 6, 3, 2, horizon)
  got = brancher.branch(
    starts(trunk, 6),
    actions,
    horizon,
    trunk.actor,
    noise,
    gamma=gamma,
    time_limit=time_limit,
    trajectories=True,
  )
  want, bound = discounted(got.rewards, gamma)
  assert (np.abs(got.returns - want) <= bound).all()
  assert ((1 <= got.lengths) & (got.lengths <= horizon)).all()
  assert (got.lengths[got.ends == 0] == horizon).all()
  after = np.arange(horizon) >= got.lengths[..., None]
  assert not got.rewards[after].any()
  assert got.num_steps == got.lengths.sum()


@settings
@hypothesis.given(short=st.integers(1, 24))
def test_shorter_horizon_is_a_prefix(trunk, brancher, short):
  N, K, M, L = 6, 2, 2, 25
  actions, noise = draws(trunk.compiled, N, K, M, L, 3)
  runs = [
    brancher.branch(
      starts(trunk, N),
      actions,
      length,
      trunk.actor,
      noise[:, :, :length],
      trajectories=True,
    )
    for length in (L, short)
  ]
  long, cut = runs
  np.testing.assert_array_equal(cut.lengths, np.minimum(long.lengths, short))
  done = long.lengths <= short
  assert (
    cut.ends[done]
    == np.where(long.lengths == L, long.ends, End.TERMINATED)[done]
  ).all()
  assert not cut.ends[~done].any()
  assert cut.rewards.tobytes() == long.rewards[..., :short].tobytes()
  # what ended by then earns nothing more
  assert cut.returns[done].tobytes() == long.returns[done].tobytes()


@pytest.mark.parametrize('value', [0.0, 1e300, np.inf, np.nan])
def test_first_noise_is_not_used(trunk, brancher, value):
  actions, noise = draws(trunk.compiled, 5, 3, 2, 12)
  run = lambda rows: brancher.branch(
    starts(trunk, 5),
    actions,
    12,
    trunk.actor,
    rows,
    trajectories=True,
    final_states=True,
  )
  other = noise.copy()
  other[:, :, 0] = value
  want = run(noise)
  assert_same(run(other), want)
  other[2, 1, 1] += 1.0  # the second one is, in one trial of one state
  changed = run(other).returns != want.returns
  assert changed[2, :, 1].any()
  changed[2, :, 1] = False
  assert not changed.any()


@pytest.mark.parametrize('part', ['row', 'observation', 'prevs', 'elapsed'])
def test_every_part_of_a_state_counts(compiled, trunk, brancher, part):
  """A state with one part from another step goes on differently."""
  kind = mujoco.mjtState.mjSTATE_INTEGRATION
  row, O = mujoco.mj_stateSize(compiled.model, kind), compiled.observation_size
  where = {
    'row': np.s_[:row],
    'observation': np.s_[row : row + O],
    'prevs': np.s_[row + O : -1],
    'elapsed': np.s_[-1:],
  }[part]
  actions, noise = draws(compiled, 2, 1, 1, 12)
  run = lambda states: arrays(
    brancher.branch(
      states,
      actions,
      12,
      trunk.actor,
      noise,
      time_limit=True,
      trajectories=True,
      final_states=True,
    )
  )
  states = trunk.states[0, [2, 5]]
  assert (states[0, where] != states[1, where]).any()
  mixed = states.copy()
  mixed[0, where] = states[1, where]
  a, b = run(states), run(mixed)
  assert any(a[name][0].tobytes() != b[name][0].tobytes() for name in a)
  assert all(a[name][1].tobytes() == b[name][1].tobytes() for name in a)


def test_two_branchers_run_at_the_same_time(trunk):
  """The interpreter is free while one runs; each is as if it were alone."""
  actions, noise = draws(trunk.compiled, 40, 4, 4, 25)
  pool = [
    Brancher(trunk.compiled, trunk.actor.policy, threads=2) for _ in range(3)
  ]
  run = lambda own: own.branch(
    starts(trunk, 40), actions, 25, trunk.actor, noise, trajectories=True
  )
  want = run(pool[0])
  with concurrent.futures.ThreadPoolExecutor(3) as executor:
    for got in executor.map(run, pool):
      assert_same(got, want)


def test_inputs_are_left_as_they_were(trunk, brancher):
  given = [starts(trunk, 5), *draws(trunk.compiled, 5, 3, 2, 12)]
  copies = copy.deepcopy(given)
  states, actions, noise = given
  got = brancher.branch(states, actions, 12, trunk.actor, noise)
  assert got.observations is got.rewards is got.final_states is None
  for array, before in zip(given, copies, strict=True):
    assert array.tobytes() == before.tobytes()


def test_recording_changes_nothing(trunk, brancher):
  actions, noise = draws(trunk.compiled, 5, 3, 2, 12)
  runs = [
    brancher.branch(
      starts(trunk, 5),
      actions,
      12,
      trunk.actor,
      noise,
      trajectories=kept,
      final_states=kept,
    )
    for kept in (False, True)
  ]
  plain, recorded = map(arrays, runs)
  for name, value in plain.items():
    assert value.tobytes() == recorded[name].tobytes(), name


@pytest.mark.parametrize('time_limit', [False, True])
def test_elapsed_steps_count_towards_the_time_limit(
  trunk, brancher, time_limit
):
  """Two steps before the limit, at it, and past it."""
  elapsed = np.array([0, *range(_LIMIT - 3, _LIMIT + 1), _LIMIT + 7])
  states = np.repeat(starts(trunk, 1), len(elapsed), axis=0)
  states[:, -1] = elapsed
  actions = np.zeros((len(elapsed), 1, 2))
  got = brancher.branch(
    states, actions, 3, trunk.actor, time_limit=time_limit, final_states=True
  )
  assert not (got.ends & End.TERMINATED).any()
  lengths = np.clip(_LIMIT - elapsed, 1, 3) if time_limit else np.full(6, 3)
  np.testing.assert_array_equal(got.lengths.ravel(), lengths)
  truncated = time_limit & (elapsed + lengths >= _LIMIT)
  np.testing.assert_array_equal(got.ends.ravel() == End.TRUNCATED, truncated)
  np.testing.assert_array_equal(
    got.final_states[:, 0, 0, -1], elapsed + lengths
  )


def test_without_a_policy_the_noise_acts(compiled, trunk):
  """And without noise nothing does; both by the function and the class."""
  actions, noise = draws(compiled, 4, 2, 2, 8)
  states = starts(trunk, 4)
  own = Brancher(compiled)
  acted = own.branch(states, actions, 8, None, noise, trajectories=True)
  for n, k, m in np.ndindex(4, 2, 2):
    length = acted.lengths[n, k, m]
    np.testing.assert_array_equal(
      acted.actions[n, k, m, 1:length], noise[n, m, 1:length]
    )
  idle = own.branch(states, actions, 8, trajectories=True)
  assert idle.returns.shape == (4, 2, 1)
  np.testing.assert_array_equal(idle.actions[..., 0, :], actions[:, :, None])
  assert not idle.actions[..., 1:, :].any()
  snapshots = native_state.to_snapshots(compiled, states)
  assert_same(
    worlds.branch(compiled, snapshots, actions, 8, trajectories=True), idle
  )
  with_policy = worlds.branch(
    compiled, snapshots, actions, 8, trunk.actor, noise
  )
  want = Brancher(compiled, trunk.actor.policy, threads=1).branch(
    states, actions, 8, trunk.actor, noise
  )
  assert_same(with_policy, want)


@pytest.mark.parametrize(
  'options',
  [
    dict(clip_actions=False),
    dict(action_range='control'),
    dict(action_range='control', clip_actions=False),
  ],
  ids=str,
)
def test_treatment_of_actions(compiled, options):
  """The oracle's controls, far outside the range."""
  scaled = options.get('action_range') == 'control'
  low, high = compiled.low, compiled.high
  slots = Slots(
    compiled,
    1,
    clip_actions=options.get('clip_actions', True),
    scale=(high - low) / 2 if scaled else 1.0,
    offset=(high + low) / 2 if scaled else 0.0,
  )
  reset = slots.rollout(np.zeros((1, 1, 2)), ResetTable(compiled, 7))
  start = reset['starts'][0, 0]
  actions, noise = draws(compiled, 1, 3, 2, 10)
  actions *= 2
  got = Brancher(compiled, **options).branch(
    initial_snapshots(compiled, 7, 1),
    actions,
    10,
    None,
    2 * noise,
    trajectories=True,
  )
  for b in np.ndindex(1, 3, 2):
    want = slots.branch(start, got.actions[b][: got.lengths[b]])
    assert got.rewards[b][: got.lengths[b]].tobytes() == (
      want['rewards'].tobytes()
    )
  assert got.lengths.sum() > 20 and np.abs(got.actions).max() > 3


def _sensed(sim):
  d = _define(sim)
  return Definition(
    concatenate(
      d.observation,
      sim.sensordata,
      sim.cfrc_ext['ball'],
      sim.subtree_linvel['cart'],
    ),
    d.reward + 0.01 * total(sim.sensordata),
  )


_OPTION = '<option timestep="0.01"/>'
_TWIST = '<motor name="twist" joint="hinge"'
_VARIANTS = {
  **{
    name: (_OPTION, f'<option timestep="0.01" integrator="{name}"/>')
    for name in ('Euler', 'RK4', 'implicit', 'implicitfast', 'discrete')
  },
  **{
    solver: (
      _OPTION,
      f'<option timestep="0.01" solver="{solver}" '
      'cone="elliptic" noslip_iterations="2"/>',
    )
    for solver in ('PGS', 'CG', 'Newton')
  },
  'speculative': (
    _OPTION,
    '<option timestep="0.01"><flag speculative="enable"/></option>',
  ),
  'activation': (
    _TWIST,
    '<general name="twist" joint="hinge" dyntype="filter" dynprm=".05"',
  ),
  'delayed control': (_TWIST, _TWIST + ' delay=".05" nsample="8"'),
  'delayed sensor': (
    '<jointvel name="slide"',
    '<jointvel delay=".03" nsample="6" name="slide"',
  ),
}


@pytest.mark.parametrize('name', _VARIANTS)
def test_kinds_of_models(tmp_path, name):
  """Integrators, solvers, activations, delays: oracle and pieces agree."""
  old, new = _VARIANTS[name]
  assert worlds.CART.count(old) == 1
  compiled = worlds.make(tmp_path, worlds.CART.replace(old, new), _sensed)
  trunk = worlds.trunk(compiled, 2, 40)
  slots = Slots(compiled, 2, first_limits=trunk.limits)
  resets = ResetTable(compiled, 0)
  slots.rollout(trunk.earlier.actions, resets)
  reference = slots.rollout(trunk.batch.actions, resets)['starts']
  places = [(0, 3), (1, 11), (0, 19), (1, 27)]
  actions, noise = draws(compiled, 4, 2, 1, 16)
  own = Brancher(compiled, trunk.actor.policy, threads=2)
  whole = own.branch(
    np.stack([trunk.states[place] for place in places]),
    actions,
    16,
    trunk.actor,
    noise,
    trajectories=True,
    final_states=True,
  )
  for n, k in np.ndindex(4, 2):
    want = slots.branch(reference[places[n]], whole.actions[n, k, 0])
    for field in ('observations', 'rewards'):
      assert getattr(whole, field)[n, k, 0].tobytes() == want[field].tobytes()
  states = np.stack([trunk.states[place] for place in places])
  states = np.repeat(states, 2, axis=0).reshape(4, 2, 1, -1)
  for cut, end in ((0, 5), (5, 6), (6, 16)):
    part = _follow(own, trunk.actor, whole, noise, states, cut, end)
    states = part.final_states.reshape(4, 2, 1, -1)
    want = whole.rewards[..., cut:end].tobytes()
    assert part.rewards.tobytes() == want
  assert states.tobytes() == whole.final_states.tobytes()


# without the range that keeps its controls small
WILD = worlds.WILD.replace(' ctrlrange="-.5 .5" ctrllimited="true"', '')
# Boxes that one tendon pulls into a heap, for which there is too little memory.
HEAP = f"""
<mujoco>
  <size memory="40K"/>
  <option timestep="0.005" gravity="0 0 0"/>
  <worldbody>
    {
  ''.join(
    f'<body pos="{3 * k} {0.01 * k} 0"><joint name="x{k}" type="slide"'
    ' axis="1 0 0"/><geom type="box" size=".09 .09 .09" mass="1"/></body>'
    for k in range(20)
  )
}
  </worldbody>
  <tendon>
    <fixed name="all">
      {''.join(f'<joint joint="x{k}" coef="{-3 * k}"/>' for k in range(20))}
    </fixed>
  </tendon>
  <actuator><motor tendon="all" gear="500"/></actuator>
</mujoco>
"""


@pytest.fixture
def quiet():
  """Keeps off what MuJoCo's bindings warn of."""
  handler = mujoco.get_mju_user_warning()
  mujoco.set_mju_user_warning(lambda text: None)
  yield
  mujoco.set_mju_user_warning(handler)


def _at_rest(model, rng, n):
  """The mass at rest, the pole anywhere."""
  qpos = np.zeros((n, model.nq))
  qpos[:, 0] = rng.uniform(-1, 1, n)
  return qpos, np.zeros((n, model.nv))


def _fail(own, snapshots, failing, actions, noise):
  """Branches, and the same ones with idle first actions where some fail."""
  L = noise.shape[2]
  options = dict(gamma=0.9, trajectories=True, final_states=True)
  got = own.branch(snapshots, actions, L, None, noise, **options)
  idle = np.where(failing[..., None], 0.0, actions)
  calm = own.branch(snapshots, idle, L, None, noise, **options)
  again = own.branch(snapshots, actions, L, None, noise, **options)
  assert not calm.failures.any() and not calm.messages
  assert (calm.ends == 0).all() and (calm.lengths == L).all()
  assert_same(got, calm, ~failing)
  assert_same(again, got)
  assert again.messages == got.messages
  return got


def _assert_failed(got, failing):
  """Exactly those, after some steps whose return they keep."""
  np.testing.assert_array_equal(
    got.ends, np.where(failing, End.DIVERGED, 0)[..., None] + 0 * got.ends
  )
  assert ((got.failures != 0).all(axis=2) == failing).all()
  want, bound = discounted(got.rewards, 0.9)
  assert (np.abs(got.returns - want) <= bound).all()
  L = got.rewards.shape[-1]
  assert ((got.lengths < L).all(axis=2) == failing).all()
  assert not got.rewards[np.arange(L) >= got.lengths[..., None]].any()
  for name, value in arrays(got).items():
    # the action whose step failed may be the reason
    assert name == 'actions' or np.isfinite(value).all(), name
  for b in np.ndindex(got.ends.shape):
    assert np.isfinite(got.actions[b][: got.lengths[b]]).all()
    assert bool(got.causes(*b)) == failing[b[:2]]


def _mask(shape, *chosen):
  mask = np.zeros(shape, bool)
  mask[tuple(np.transpose(chosen))] = True
  return mask


def _replay(compiled, state, controls):
  """MuJoCo's row before the last control, and what it then warns of."""
  model, data = compiled.model, mujoco.MjData(compiled.model)
  kind = mujoco.mjtState.mjSTATE_INTEGRATION
  row = np.empty(mujoco.mj_stateSize(model, kind))
  mujoco.mj_setState(model, data, state[: len(row)], kind)
  for control in controls:
    assert not sum(w.number for w in data.warning)
    mujoco.mj_getState(model, data, row, kind)
    data.ctrl[:] = control
    mujoco.mj_step(model, data, nstep=compiled.task.frame_skip)
  return row, {
    mujoco.mjtWarning(i).name for i, w in enumerate(data.warning) if w.number
  }


@pytest.mark.parametrize('threads', [1, 2])
def test_divergence_stays_in_its_branches(tmp_path, quiet, threads):
  define = lambda sim: Definition(concatenate(sim.qpos, sim.qvel), sim.qvel[0])
  compiled = worlds.make(tmp_path, WILD, define, reset=_at_rest)
  N, K, M, L = 3, 3, 2, 40
  failing = _mask((N, K), (0, 1), (2, 0), (2, 2))
  actions, noise = 0.1 * np.array(draws(compiled, N, K, M, L)[0]), None
  noise = 0.1 * draws(compiled, N, K, M, L)[1]
  actions[..., 1] = np.where(failing, 0.5, 0.0)
  noise[..., 1] = 0.0
  snapshots = initial_snapshots(compiled, 0, N)
  states = native_state.to_states(compiled, snapshots)
  got = _fail(
    Brancher(compiled, threads=threads), snapshots, failing, actions, noise
  )
  _assert_failed(got, failing)
  assert not got.messages and (got.lengths[failing] > 3).all()
  ended = got.snapshots()
  assert [s is None for s in ended] == list((got.ends != 0).ravel())
  with pytest.raises(UserError, match='snapshot 2 is None'):
    worlds.branch(compiled, ended, np.zeros((len(ended), 1, 2)), 2)
  kept = [s for s in ended if s]
  assert native_state.to_states(compiled, kept).tobytes() == (
    got.final_states[got.ends == 0].tobytes()
  )
  for n, k, m in np.argwhere(got.ends == End.DIVERGED):
    length = got.lengths[n, k, m]
    controls = [actions[n, k], *noise[n, m, 1 : length + 1]]
    row, warned = _replay(compiled, states[n], controls)
    assert set(got.causes(n, k, m)) == warned
    reached = np.concatenate([row[1:3], row[3:5]])
    last = got.final_observations[n, k, m]
    np.testing.assert_array_equal(last, reached.astype(np.float32))


@pytest.mark.parametrize('threads', [1, 2])
def test_mujoco_error_stays_in_its_branches(tmp_path, quiet, threads):
  compiled = worlds.make(tmp_path, HEAP, time_limit=50, reset=_at_rest)
  N, K, M, L = 2, 4, 2, 30
  failing = _mask((N, K), (0, 0), (0, 3), (1, 2))
  actions = np.where(failing, 1.0, -1.0)[..., None]
  noise = np.zeros((N, M, L, 1))
  own = Brancher(compiled, threads=threads)
  snapshots = initial_snapshots(compiled, 0, N)
  got = _fail(own, snapshots, failing, actions, noise)
  _assert_failed(got, failing)
  # fewer branches than simulations, some of which have just failed
  lone = own.branch(snapshots[:1], actions[:1, 1:2], L, None, noise[:1, :1])
  assert not lone.failures.any() and own.explain(lone) == ''
  branches = [tuple(b) for b in np.argwhere(got.ends == End.DIVERGED).tolist()]
  raised = {b for b in branches if 'error' in got.causes(*b)}
  assert set(got.messages) == raised and 0 < len(raised) < len(branches)
  for b in branches:
    assert got.lengths[b] > 3
    assert got.final_observations[b].any() == (b not in raised)
    assert b not in raised or 'out of memory' in got.messages[b]


@pytest.mark.parametrize(
  ('bad', 'causes'),
  [
    (np.nan, {'mjWARN_BADCTRL', 'non-finite output'}),
    (np.inf, {'non-finite output'}),  # MuJoCo clips the control, not the cost
  ],
)
def test_failure_of_the_first_step(compiled, quiet, bad, causes):
  N, K, M, L = 3, 3, 2, 6
  failing = _mask((N, K), (1, 1))
  actions, noise = draws(compiled, N, K, M, L)
  actions[1, 1, 0] = bad
  snapshots = initial_snapshots(compiled, 0, N)
  got = _fail(
    Brancher(compiled, clip_actions=False),
    snapshots,
    failing,
    0.05 * actions,
    0.05 * noise,
  )
  _assert_failed(got, failing)
  assert (got.lengths[1, 1] == 0).all() and not got.returns[1, 1].any()
  assert set(got.causes(1, 1, 0)) == causes
  for m in range(M):  # it stays where it began
    np.testing.assert_array_equal(
      got.final_observations[1, 1, m], got.observations[1, 0, 0, 0]
    )


def test_non_finite_reward_is_a_failure(tmp_path):
  def define(sim):
    pushed = abs(sim.qpos[1]) > 1.0
    return Definition(sim.qpos, where(pushed, 0.0, 1.0) / ~pushed)

  compiled = worlds.make(tmp_path, WILD, define, reset=_at_rest)
  N, K, M, L = 2, 3, 1, 10
  failing = _mask((N, K), (0, 2))
  actions = np.zeros((N, K, 2))
  actions[0, 2, 1] = 1e-3
  got = _fail(
    Brancher(compiled),
    initial_snapshots(compiled, 0, N),
    failing,
    actions,
    np.zeros((N, M, L, 2)),
  )
  assert got.causes(0, 2, 0) == ('non-finite output',)
  _assert_failed(got, failing)
  own = Brancher(compiled, threads=3)
  snapshots = initial_snapshots(compiled, 0, 1)
  lone = own.branch(snapshots, actions[:1, 2:], L)
  assert own.explain(lone).startswith('the reward divides by zero at ')


def test_snapshot_is_a_value(compiled, trunk):
  states = starts(trunk, 4)
  snapshots = native_state.to_snapshots(compiled, states)
  again = native_state.to_snapshots(compiled, states.copy())
  assert snapshots == again and len({*snapshots, *again}) == 4
  thawed = pickle.loads(pickle.dumps(snapshots))
  assert thawed == snapshots and set(thawed) == set(snapshots)
  restored = native_state.to_states(compiled, thawed)
  assert restored.tobytes() == states.tobytes()
  assert snapshots[0] != snapshots[1]
  with pytest.raises(dataclasses.FrozenInstanceError):
    snapshots[0].data = b''


_ELSEWHERE = """
import pickle, sys
from trpo_tf.sampling.native.branching import Brancher
from trpo_tf.tasks.gymnasium_v5 import TASKS
from trpo_tf.tasks.task import compile_task
name, given = pickle.load(sys.stdin.buffer)
brancher = Brancher(compile_task(TASKS[name]), given[3].policy)
got = brancher.branch(*given, trajectories=True)
found = got.returns, got.lengths, got.ends, got.rewards, got.observations
sys.stdout.buffer.write(pickle.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize('name', ['Walker2d-v5', 'Ant-v5'])
def test_another_process_goes_on_from_snapshots(name):
  trunk = worlds.trunk(compile_task(TASKS[name]), 2, 50)
  compiled = trunk.compiled
  actions, noise = draws(compiled, 4, 2, 2, 12)
  snapshots = native_state.to_snapshots(compiled, starts(trunk, 4))
  given = snapshots, actions, 12, trunk.actor, noise
  process = subprocess.run(
    [sys.executable, '-c', _ELSEWHERE],
    input=pickle.dumps((name, given)),
    capture_output=True,
    timeout=120,
    check=True,
  )
  got = worlds.branch(compiled, *given, trajectories=True)
  want = got.returns, got.lengths, got.ends, got.rewards, got.observations
  for a, b in zip(pickle.loads(process.stdout), want, strict=True):
    assert a.tobytes() == b.tobytes()
  assert len(np.unique(got.returns)) == got.returns.size


_OTHERS = {
  'another kind': (dict(kind='ale'), 'kind ale'),
  'another version': (dict(version='mujoco 3.9.0'), 'version mujoco 3.9.0'),
  'another model': (dict(model='0' * 32), 'model 0000'),
  'cut': (lambda s: dict(data=s.data[:-8]), 'size'),
  'too long': (lambda s: dict(data=s.data + b'\0'), 'size'),
}


@pytest.mark.parametrize('change', _OTHERS)
def test_snapshot_of_another_simulator_is_refused(trunk, brancher, change):
  changes, message = _OTHERS[change]
  good = native_state.to_snapshots(trunk.compiled, starts(trunk, 3))
  changes = changes(good[1]) if callable(changes) else changes
  mixed = [good[0], dataclasses.replace(good[1], **changes), good[2]]
  with pytest.raises(UserError, match=message) as caught:
    brancher.branch(mixed, np.zeros((3, 1, 2)), 5, trunk.actor)
  _assert_one_clear_line(caught)


def test_snapshot_of_another_model_or_task_is_refused(trunk, tmp_path):
  """A heavier cart of the same shape; the same model with another reward."""
  heavier = worlds.CART.replace('mass="1"', 'mass="1.001"')
  snapshots = native_state.to_snapshots(trunk.compiled, starts(trunk, 1))

  def rewarded(sim):
    d = _define(sim)
    return Definition(d.observation, 2.0 * d.reward, d.terminated)

  for xml, define in ((heavier, _define), (worlds.CART, rewarded)):
    other = worlds.make(tmp_path, xml, define, time_limit=_LIMIT)
    with pytest.raises(UserError, match='has model') as caught:
      worlds.branch(other, snapshots, np.zeros((1, 1, 2)), 5)
    _assert_one_clear_line(caught)
  same = worlds.make(tmp_path, define=_define, time_limit=_LIMIT)
  assert worlds.branch(same, snapshots, np.zeros((1, 1, 2)), 5).num_steps > 0


def _assert_one_clear_line(caught):
  text = str(caught.value)
  assert text and '\n' not in text and len(text) < 300


_GOOD = dict(states=4, actions=(4, 2, 2), horizon=5, noise=(4, 3, 5, 2))
_BAD = {
  'no snapshots': dict(states=0),
  'no snapshots at all': dict(states=0, actions=(0, 2, 2), noise=(0, 3, 5, 2)),
  'a horizon of zero': dict(horizon=0, noise=(4, 3, 0, 2)),
  'a horizon of zero, no noise': dict(horizon=0, noise=None),
  'a negative horizon': dict(horizon=-1, noise=(4, 3, 5, 2)),
  'a negative horizon, no noise': dict(horizon=-1, noise=None),
  'no actions': dict(actions=(4, 0, 2)),
  'no trials': dict(noise=(4, 0, 5, 2)),
  'actions of another number of states': dict(actions=(3, 2, 2)),
  'the same without noise': dict(actions=(3, 2, 2), noise=None),
  'actions of another width': dict(actions=(4, 2, 3)),
  'actions without K': dict(actions=(4, 2)),
  'a single action': dict(actions=(2,), noise=None),
  'a number as action': dict(actions=(), noise=None),
  'noise of another number of states': dict(noise=(5, 3, 5, 2)),
  'noise of another width': dict(noise=(4, 3, 5, 1)),
  'noise that is too short': dict(noise=(4, 3, 4, 2)),
  'noise that is too long': dict(noise=(4, 3, 6, 2)),
  'noise without M': dict(noise=(4, 5, 2)),
}


@pytest.mark.parametrize('case', _BAD)
@pytest.mark.parametrize('as_snapshots', [False, True])
def test_bad_counts_and_shapes_are_refused(trunk, brancher, case, as_snapshots):
  given = _GOOD | _BAD[case]
  states = starts(trunk, given['states'])
  if as_snapshots:
    states = native_state.to_snapshots(trunk.compiled, states)
  noise = None if given['noise'] is None else np.zeros(given['noise'])
  with pytest.raises(UserError) as caught:
    brancher.branch(
      states, np.zeros(given['actions']), given['horizon'], trunk.actor, noise
    )
  _assert_one_clear_line(caught)


def test_good_counts_and_shapes_are_not(trunk, brancher):
  got = brancher.branch(
    starts(trunk, _GOOD['states']),
    np.zeros(_GOOD['actions']),
    _GOOD['horizon'],
    trunk.actor,
    np.zeros(_GOOD['noise']),
  )
  assert got.returns.shape == (4, 2, 3)


@pytest.mark.parametrize('shape', [(4, 10), (10,), (4, 2, 10)], ids=str)
def test_states_of_another_shape_are_refused(trunk, brancher, shape):
  with pytest.raises(UserError) as caught:
    brancher.branch(np.zeros(shape), np.zeros((4, 1, 2)), 5, trunk.actor)
  _assert_one_clear_line(caught)


_POLICIES = {
  'other units': dict(hidden=(15,)),
  'another activation': dict(activation='softplus'),
  'no hidden layer': dict(hidden=()),
}


@pytest.mark.parametrize('options', _POLICIES.values(), ids=_POLICIES.keys())
def test_policy_of_another_network_is_refused(trunk, brancher, options):
  other = worlds.actor(trunk.compiled, **options)
  with pytest.raises(UserError, match='network') as caught:
    brancher.branch(starts(trunk, 2), np.zeros((2, 1, 2)), 5, other)
  _assert_one_clear_line(caught)


def test_brancher_without_policy_refuses_one_and_the_reverse(trunk, brancher):
  states, actions = starts(trunk, 2), np.zeros((2, 1, 2))
  with pytest.raises(UserError, match='network'):
    Brancher(trunk.compiled).branch(states, actions, 5, trunk.actor)
  with pytest.raises(UserError, match='made for a policy: give branch one'):
    brancher.branch(states, actions, 5)  # noise alone cannot act here either


def test_misuse_of_the_branching_api_is_one_line(trunk, brancher):
  def initial(*arguments):
    return initial_snapshots(trunk.compiled, *arguments)

  [state], actions = initial(0, 1), np.zeros((1, 1, 2))
  for says, call in {
    "action_range='RAW': take 'raw' or 'control'": lambda: Brancher(
      trunk.compiled, action_range='RAW'
    ),
    'branch from a list of one snapshot': lambda: brancher.branch(
      state, actions, 5, trunk.actor
    ),
    'count=10001: take a whole number, 1 to 10,000': lambda: initial(0, 10_001),
    'count=2.5: take a whole number': lambda: initial(0, 2.5),
    'seed=-1: take a whole number, 0 or more': lambda: initial(-1, 1),
    "seed='a': take a whole number": lambda: initial('a', 1),
    'threads=1.5: take a whole number': lambda: Brancher(
      trunk.compiled, threads=1.5
    ),
    'horizon=5.0: take a whole number, 1 or more': lambda: brancher.branch(
      [state], actions, 5.0, trunk.actor
    ),
    'snapshot 0 is a float': lambda: brancher.branch(
      [1.0], actions, 5, trunk.actor
    ),
  }.items():
    with pytest.raises(UserError, match=says) as caught:
      call()
    _assert_one_clear_line(caught)


@pytest.mark.parametrize('extra', [-3, -1, 1, 2, 50])
def test_parameters_of_another_number_are_refused(trunk, brancher, extra):
  """Else the deviations are read from the wrong place."""
  theta = trunk.actor.theta
  theta = theta[:extra] if extra < 0 else np.append(theta, [0.0] * extra)
  other = trunk.actor._replace(theta=theta.astype(np.float32))
  with pytest.raises(UserError, match='theta') as caught:
    brancher.branch(starts(trunk, 2), np.zeros((2, 1, 2)), 5, other)
  _assert_one_clear_line(caught)


def test_normalizer_of_another_width_is_refused(trunk, brancher):
  other = trunk.actor._replace(normalizer=worlds.identity_normalizer(3))
  with pytest.raises(UserError, match='normaliser is of 3') as caught:
    brancher.branch(starts(trunk, 2), np.zeros((2, 1, 2)), 5, other)
  _assert_one_clear_line(caught)


@pytest.mark.parametrize(
  ('flag', 'integrator'), [('sleep', 'Euler'), ('ipc', 'discrete')]
)
def test_model_that_cannot_be_cloned_is_refused(tmp_path, flag, integrator):
  xml = worlds.CART.replace(
    'timestep="0.01"/>',
    f'timestep="0.01" integrator="{integrator}"><flag {flag}="enable"/>'
    '</option>',
  )
  compiled = worlds.make(tmp_path, xml)
  with pytest.raises(UserError, match=f'(?i)cannot run this model.*{flag}'):
    Brancher(compiled)


def test_action_range_without_limits_is_refused(tmp_path):
  compiled = worlds.make(tmp_path, WILD)
  with pytest.raises(UserError, match='needs a ctrlrange on every actuator'):
    Brancher(compiled, action_range='control')


def test_a_mistake_leaves_the_brancher_usable(trunk, brancher):
  actions, noise = draws(trunk.compiled, 3, 2, 2, 6)
  run = lambda: brancher.branch(
    starts(trunk, 3), actions, 6, trunk.actor, noise
  )
  want = run()
  with pytest.raises(UserError):
    brancher.branch(starts(trunk, 3), actions[:2], 6, trunk.actor, noise)
  assert_same(run(), want)
