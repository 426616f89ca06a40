"""A simulation that breaks is cut, counted, replayable, and harms no other."""

import os

import mujoco
import numpy as np
import pytest
import worlds

from trpo_tf.config import SamplerConfig
from trpo_tf.errors import UserError
from trpo_tf.policies.gaussian import GaussianPolicy
from trpo_tf.policies.mlp import MLP
from trpo_tf.sampling.batch import End
from trpo_tf.sampling.native import engine
from trpo_tf.sampling.native.paths import (
  NativePathSampler,
  batch_from_arrays,
  drop_diverged,
)
from trpo_tf.tasks.gymnasium_v5 import TASKS
from trpo_tf.tasks.language import (
  concatenate,
  exp,
  log,
  norm,
  prev,
  sqrt,
  total,
  weighted_sum,
  where,
)
from trpo_tf.tasks.task import Definition, compile_task

_SLOTS, _STEPS, _WILD_SLOT = 4, 60, 2
# of the last call to C++, not of the batch
_SCRATCH = (
  'reset_rows',
  'resets_used',
  'failures',
  'saved_states',
  'saved_steps',
)


@pytest.fixture(autouse=True)
def quiet_directory(tmp_path, monkeypatch):
  """Runs in an empty directory; what MuJoCo's bindings warn is kept off."""
  monkeypatch.chdir(tmp_path)
  handler = mujoco.get_mju_user_warning()
  yield
  mujoco.set_mju_user_warning(handler)


def _reset(model, rng, n):
  """The mass at rest, the pole anywhere."""
  qpos, qvel = np.zeros((n, 2)), np.zeros((n, 2))
  qpos[:, 0] = rng.uniform(-1, 1, n)
  return qpos, qvel


def _swing(model, rng, n):
  """The pole leaves upright towards negative angles."""
  qpos, qvel = _reset(model, rng, n)
  return np.abs(qpos), qvel - [2.0, 0.0]


def _compiled(tmp_path, define=worlds.observe, **options):
  options = dict(time_limit=25, reset=_reset) | options
  return worlds.make(tmp_path, worlds.WILD, define, **options)


def _actions(wild):
  actions = np.zeros((_SLOTS, _STEPS, 2))
  rng = np.random.default_rng(0)
  actions[..., 0] = 0.1 * rng.standard_normal((_SLOTS, _STEPS))
  if wild:
    actions[_WILD_SLOT, :, 1] = rng.standard_normal(_STEPS)
  return actions


def _rollout(compiled, wild=True, **options):
  slots = worlds.slots(compiled, _SLOTS, threads=2)
  arrays = slots.new_arrays(_STEPS)
  arrays['actions'][:] = _actions(wild)
  diverged = slots.rollout(arrays, worlds.Resets(compiled), **options)
  return arrays, diverged


def _batch(compiled, arrays, diverged):
  return batch_from_arrays(arrays, compiled.actions('raw', True)[0], diverged)


def _assert_finite(values):
  for name, value in values.items():
    if isinstance(value, np.ndarray) and value.dtype.kind == 'f':
      assert np.isfinite(value).all(), name


def _replay(compiled, divergence):
  """Names of what plain MuJoCo warns of from the recorded state."""
  data = mujoco.MjData(compiled.model)
  mujoco.set_mju_user_warning(lambda text: None)
  mujoco.mj_setState(
    compiled.model, data, divergence.state, mujoco.mjtState.mjSTATE_INTEGRATION
  )
  for control in divergence.controls:
    assert not sum(w.number for w in data.warning)  # the last one alone fails
    data.ctrl[:] = control
    mujoco.mj_step(compiled.model, data, nstep=compiled.task.frame_skip)
  return tuple(
    mujoco.mjtWarning(i).name
    for i in range(mujoco.mjtWarning.mjNWARNING)
    if data.warning[i].number
  )


def test_trajectories_are_cut_and_counted(tmp_path):
  compiled = _compiled(tmp_path)
  arrays, diverged = _rollout(compiled)
  batch = _batch(compiled, arrays, diverged)
  assert (arrays['lengths'] == _STEPS).all()
  _assert_finite(arrays)
  _assert_finite(vars(batch))
  cuts = np.argwhere((batch.ends & End.DIVERGED) != 0)
  assert len(cuts) == len(batch.diverged) >= 3
  assert (cuts[:, 0] == _WILD_SLOT).all()
  assert (batch.ends[tuple(cuts.T)] == End.DIVERGED).all()
  for (slot, step), record in zip(cuts, batch.diverged, strict=True):
    assert record.slot == slot
    # the step before the failing one is the last, and a new episode follows
    assert batch.timesteps[slot, step] == record.step - 1
    assert batch.timesteps[slot, step + 1] == 0
    assert record.causes and record.message == ''
  # a cut is no end that is reported or bootstrapped from
  ended = batch.ends[(batch.ends != 0) & (batch.ends != End.DIVERGED)]
  assert len(batch.episode_returns) == len(ended)
  assert not any((batch.boundary_index == cut).all(1).any() for cut in cuts)


def test_other_slots_are_untouched(tmp_path):
  compiled = _compiled(tmp_path)
  wild, diverged = _rollout(compiled)
  calm, none = _rollout(compiled, wild=False)
  assert diverged and not none
  others = [s for s in range(_SLOTS) if s != _WILD_SLOT]
  for name in wild:
    if name in _SCRATCH:
      continue
    assert wild[name][others].tobytes() == calm[name][others].tobytes(), name


def test_divergence_is_replayed_from_its_record(tmp_path):
  compiled = _compiled(tmp_path)
  _, diverged = _rollout(compiled)
  for record in diverged:
    assert _replay(compiled, record) == record.causes
  assert {cause for record in diverged for cause in record.causes} <= {
    'mjWARN_BADQACC',
    'mjWARN_BADQVEL',
    'mjWARN_BADQPOS',
  }


def test_divergence_is_replayed_from_its_keys(tmp_path):
  """The reset row of (slot, episode) and the recorded actions lead there."""
  compiled = _compiled(tmp_path)
  arrays, diverged = _rollout(compiled, iteration=7)
  model, data = compiled.model, mujoco.MjData(compiled.model)
  mujoco.set_mju_user_warning(lambda text: None)
  cuts = np.flatnonzero(arrays['ends'][_WILD_SLOT] == End.DIVERGED)
  for cut, record in zip(cuts, diverged, strict=True):
    assert (record.iteration, record.slot) == (7, _WILD_SLOT)
    # episodes are counted from one
    row = worlds.Resets(compiled).row(_WILD_SLOT, record.episode - 1)
    mujoco.mj_resetData(model, data)
    data.qpos[:], data.qvel[:] = row[:2], row[2:]
    mujoco.mj_forward(model, data)
    first = cut - record.step + 1
    for t in range(first, cut + 2 - len(record.controls)):
      action = arrays['actions'][_WILD_SLOT, t]
      data.ctrl[:] = np.clip(action, compiled.low, compiled.high)
      mujoco.mj_step(model, data, nstep=2)
      assert not sum(w.number for w in data.warning)
    state = np.empty_like(record.state)
    mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
    # the controls that follow have not been set yet
    np.testing.assert_array_equal(state, record.state)


def test_recorded_control_is_what_the_simulator_received(tmp_path):
  compiled = _compiled(tmp_path)
  _, diverged = _rollout(compiled)
  for record in diverged:
    assert (record.controls >= compiled.low).all()
    assert (record.controls <= compiled.high).all()


def test_drop_removes_exactly_the_cut_trajectories(tmp_path):
  compiled = _compiled(tmp_path)
  arrays, diverged = _rollout(compiled)
  batch = _batch(compiled, arrays, diverged)
  dropped = drop_diverged(batch)
  expected = np.ones((_SLOTS, _STEPS), bool)
  for s in range(_SLOTS):
    begin = 0
    for t in range(_STEPS):
      if batch.ends[s, t] == End.DIVERGED:
        expected[s, begin : t + 1] = False
      if batch.ends[s, t]:
        begin = t + 1
  np.testing.assert_array_equal(dropped.kept, expected)
  assert batch.kept.all() and not dropped.kept.all()
  assert dropped.num_steps == batch.num_steps  # they were simulated
  assert len(dropped.flat(dropped.rewards)) == expected.sum()


@pytest.mark.parametrize('whole_episodes', [False, True])
def test_sampler_cuts_or_drops_by_its_setting(tmp_path, whole_episodes):
  compiled = _compiled(tmp_path)
  batches = {}
  for choice in ('cut', 'drop'):
    config = SamplerConfig(
      batch_steps=160,
      num_slots=4,
      on_divergence=choice,
      whole_episodes=whole_episodes,
    )
    policy = GaussianPolicy(MLP(4, (), 2))
    sampler = NativePathSampler(compiled, policy, worlds.experiment(config))
    theta = np.zeros(policy.num_parameters, np.float32)
    normalizer = worlds.identity_normalizer(4)
    batches[choice] = [sampler.sample(theta, normalizer, i) for i in range(2)]
  for cut, drop in zip(batches['cut'], batches['drop'], strict=True):
    _assert_finite(vars(cut))
    assert len(cut.diverged) == len(drop.diverged) > 0
    assert cut.kept.sum() == cut.num_steps > drop.kept.sum()
    np.testing.assert_array_equal(drop.kept, drop_diverged(cut).kept)
    assert not ((drop.flat(drop.ends) & End.DIVERGED) != 0).any()


def _assert_counts_non_finite(compiled, cause='non-finite output'):
  slots = worlds.slots(compiled, _SLOTS, threads=2)
  arrays = slots.new_arrays(_STEPS)
  arrays['actions'][:] = _actions(wild=False)
  diverged = slots.rollout(arrays, worlds.Resets(compiled))
  _assert_finite(arrays)
  assert diverged and {record.causes for record in diverged} == {(cause,)}
  return arrays, diverged


@pytest.mark.parametrize(
  'bad',
  [
    'reward NaN',
    'reward infinite',
    'observation NaN',
    'observation infinite',
    'observation beyond float32',
    'end NaN',
    'end infinite',
  ],
)
def test_non_finite_output(tmp_path, bad):
  """0/0 and friends where the pole has swung far; at a reset it has not."""

  def define(sim):
    what, value = bad.split(' ', 1)
    fine = where(sim.qpos[0] < -0.6, 0.0, 1.0)
    broken = {
      'NaN': 0 * fine / fine,
      'infinite': 1 / fine,
      'beyond float32': 1e39 * (1 - fine),
    }[value]
    state = concatenate(sim.qpos, sim.qvel)
    if what == 'reward':
      return Definition(state, broken)
    if what == 'end':  # 0 while it is fine
      return Definition(state, 0.0, broken - (value == 'infinite'))
    return Definition(concatenate(state, broken), 0.0)

  compiled = _compiled(tmp_path, define, reset=_swing)
  arrays, diverged = _assert_counts_non_finite(compiled)
  assert all(record.step > 0 for record in diverged)
  assert (arrays['ends'] == End.DIVERGED).any()


def test_non_finite_observation_at_a_reset(tmp_path):
  """Nothing of such an episode is recorded; the next one is tried."""

  def define(sim):
    state = concatenate(sim.qpos, sim.qvel)
    return Definition(concatenate(state, 1 / (abs(sim.qvel[0]) > 0)), 0.0)

  def reset(model, rng, n):
    qpos, qvel = _reset(model, rng, n)
    qvel[:, 0] = rng.choice([0.0, 0.1], n)  # at rest only the reset is bad
    return qpos, qvel

  compiled = _compiled(tmp_path, define, reset=reset, time_limit=3)
  arrays, diverged = _assert_counts_non_finite(compiled)
  assert all(record.step == 0 for record in diverged)
  assert set(arrays['ends'].ravel().tolist()) == {0, End.TRUNCATED}
  for record in diverged:
    row = worlds.Resets(compiled).row(record.slot, record.episode - 1)
    assert row[2] == 0
    data = mujoco.MjData(compiled.model)
    mujoco.mj_setState(
      compiled.model, data, record.state, mujoco.mjtState.mjSTATE_INTEGRATION
    )
    np.testing.assert_array_equal([*data.qpos, *data.qvel], row)


def test_task_that_always_diverges_is_refused(tmp_path):
  always = lambda sim: Definition(sim.qpos, sim.qvel[1] / 0.0)
  compiled = _compiled(tmp_path, always)
  with pytest.raises(
    UserError,
    match='test diverged .* times in one batch '
    r'\(non-finite output\): the physics is sound, but the reward divides by '
    r"zero at .*divergence_test\.py:\d+, '.*sim\.qvel\[1\] / 0\.0\)': bound "
    r'.*began at qpos=\[.*, qvel=\[',
  ):
    _rollout(compiled, max_divergences=50)


_zero = lambda sim: 0 * sim.qpos[0]
_negative = lambda sim: -1 - abs(sim.qpos[0])
# the observation, reward, end and terms; what is said of them
_FAULTS = {
  'log': (lambda sim: (sim.qpos, log(_zero(sim))), 'the reward takes the log'),
  'negative log': (
    lambda sim: (sim.qpos, 1 + log(_negative(sim))),
    'the reward takes the log of the negative number -1',
  ),
  'power': (
    lambda sim: (sim.qpos, _negative(sim) ** 0.5),
    'the reward takes the power 0.5 of the negative number -1',
  ),
  'power of zero': (
    lambda sim: (sim.qpos, norm(_zero(sim) ** [-1, 2])),
    'the reward takes a negative power of zero',
  ),
  'root': (
    lambda sim: (sim.qpos, total(sqrt(-1 - abs(sim.qpos)))),
    'the reward takes the square root of the negative number -1',
  ),
  'too large': (
    lambda sim: (sim.qpos, exp(1e4 - sim.qpos[0])),
    'the reward overflows: its exp is inf',
  ),
  'sum of large numbers': (
    lambda sim: (sim.qpos, total(1e308 * concatenate(1, 1, _zero(sim)))),
    'the reward overflows: its sum is inf',
  ),
  'observation': (
    lambda sim: (concatenate(sim.qpos, [3, 3] / concatenate(1, _zero(sim))), 0),
    'element 3 of the observation divides by zero',
  ),
  'beyond float32': (
    lambda sim: (concatenate(sim.qvel, 1e39 + sim.qpos), 0),
    'element 2 of the observation is 1e+39, which is too large for float32',
  ),
  'end': (
    lambda sim: (sim.qpos, 0, 1 / _zero(sim)),
    'the end divides by zero',
  ),
  'term': (
    lambda sim: (sim.qpos, *_terms(1 / _zero(sim))),
    "the reward's term 'near' divides by zero",
  ),
  'where': (
    lambda sim: (
      sim.qpos,
      where(abs(sim.qpos[0]) < 9, 1 / _zero(sim), log(_zero(sim))),
    ),
    'the reward divides by zero',
  ),
  'harmless': (
    lambda sim: (
      sim.qpos,
      where(abs(sim.qpos[0]) < 9, log(_zero(sim)), 1 / _zero(sim)),
    ),
    'the reward takes the log of zero',
  ),
  'weights': (
    lambda sim: (
      sim.qpos,
      weighted_sum([1, 2], 1 / (_zero(sim) * sim.xmat[:2, ::-1]))[3],
    ),
    'the reward divides by zero',
  ),
  'earlier': (
    lambda sim: (sim.qpos, prev(1 / (sim.time * _zero(sim)))),
    'the reward reads a prev() that is ',
  ),
}


def _terms(near):
  """A reward, no end, and the terms of the reward."""
  return 0.5 - near, 0, {'far': 0.5, 'near': -near}


@pytest.mark.parametrize('name', _FAULTS)
def test_the_expression_that_fails_is_named(tmp_path, name):
  make, text = _FAULTS[name]
  compiled = _compiled(tmp_path, lambda sim: Definition(*make(sim)))
  slots = worlds.slots(compiled, 1)
  with pytest.raises(UserError) as caught:
    slots.rollout(
      slots.new_arrays(3), worlds.Resets(compiled), max_divergences=1
    )
  message = str(caught.value)
  assert '\n' not in message
  assert f'the physics is sound, but {text}' in message
  assert f' at {__file__}:' in message


def test_a_divergence_keeps_what_failed(tmp_path):
  """Only where the physics is sound."""
  define = lambda sim: Definition(
    sim.qpos, where(sim.qpos[0] < -0.1, 1 / (0 * sim.qpos[0]), 1)
  )
  _, diverged = _assert_counts_non_finite(
    _compiled(tmp_path, define, reset=_swing)
  )
  assert all(
    record.message.startswith('the reward divides by zero at ')
    for record in diverged
  )
  _, diverged = _rollout(_compiled(tmp_path))
  assert diverged and not any(record.message for record in diverged)


def test_nan_policy_is_seen(tmp_path):
  """NaN parameters never reach the batch: MuJoCo refuses the control."""
  compiled = _compiled(tmp_path)
  slots = worlds.slots(compiled, 2)
  arrays = slots.new_arrays(5)
  theta = np.full((1, 12), np.nan, np.float32)
  arrays |= slots.policy_arrays(
    theta,
    np.zeros(2, np.int32),
    worlds.identity_normalizer(4),
    np.zeros((2, 5, 2)),
  )
  with pytest.raises(UserError, match="policy's parameters are not finite"):
    slots.rollout(arrays, worlds.Resets(compiled), max_divergences=20)


def _boxes(memory):
  """Boxes that need no memory apart and too much of it in a heap."""
  boxes = ''.join(
    '<body><freejoint/><geom type="box" size=".09 .09 .09"/></body>'
    for _ in range(20)
  )
  return f"""
  <mujoco>
    <size memory="{memory}"/>
    <option timestep="0.005"/>
    <worldbody>
      <geom type="plane" size="5 5 .1"/>
      <body pos="0 0 9">
        <joint name="slide" type="slide" axis="0 0 1"/>
        <geom size=".05"/>
      </body>
      {boxes}
    </worldbody>
    <actuator><motor joint="slide"/></actuator>
  </mujoco>
  """


def _box_resets(compiled, spread, heaps):
  """Reset rows; `heaps(slot, episode)` says which begin above a heap.

  With a wide spread the boxes of a heap land one after the other.
  """

  def row(slot, episode):
    row = np.zeros(compiled.model.nq + compiled.model.nv)
    poses = row[1 : compiled.model.nq].reshape(20, 7)
    k = np.arange(20)
    apart = np.stack([3.0 * k, 0 * k, 0 * k + 50], 1)
    heap = np.stack([spread * (k % 5), spread * (k // 5), 0.1 + 0.01 * k], 1)
    poses[:, :3] = heap if heaps(slot, episode) else apart
    poses[:, 3] = 1
    return row

  return lambda episodes, count: np.array(
    [[row(s, e + i) for i in range(count)] for s, e in enumerate(episodes)]
  )


def _box_rollout(compiled, spread, heaps):
  slots = worlds.slots(compiled, 4, threads=2)
  arrays = slots.new_arrays(50)
  arrays['actions'][:] = np.linspace(-1, 1, 200).reshape(4, 50, 1)
  return arrays, slots.rollout(arrays, _box_resets(compiled, spread, heaps))


@pytest.mark.parametrize(
  ('memory', 'spread', 'at_reset'), [('20K', 0.15, True), ('60K', 0.25, False)]
)
def test_mujoco_error_stays_in_its_simulation(
  tmp_path, memory, spread, at_reset
):
  """An arena that is too small, with both threads busy."""
  compiled = worlds.make(tmp_path, _boxes(memory), time_limit=15)
  arrays, diverged = _box_rollout(
    compiled, spread, lambda slot, e: slot == 1 and e in (0, 2)
  )
  fine, none = _box_rollout(compiled, spread, lambda slot, e: False)
  assert not none
  assert (arrays['lengths'] == 50).all()
  _assert_finite(arrays)
  assert [record.slot for record in diverged] == [1, 1]
  assert [record.episode for record in diverged] == [1, 3]
  cuts = arrays['timesteps'][1, arrays['ends'][1] == End.DIVERGED]
  if at_reset:
    assert not len(cuts)
  for i, record in enumerate(diverged):
    assert record.causes[-1] == 'error'
    assert 'out of memory' in record.message
    assert (record.step == 0) == at_reset
    assert at_reset or cuts[i] == record.step - 1
    with pytest.raises(mujoco.FatalError, match='out of memory'):
      _replay(compiled, record)
  for name in arrays:
    if name in _SCRATCH:
      continue
    for slot in (0, 2, 3):
      a, b = arrays[name][slot], fine[name][slot]
      assert a.tobytes() == b.tobytes(), name


@pytest.mark.parametrize(
  ('cause', 'remedy'),
  [
    ('mjWARN_CNSTRFULL', 'give the model more memory'),
    ('mjWARN_CONTACTFULL', 'give the model more memory'),
    ('error', 'give the model more memory'),
    ('mjWARN_BADCTRL', 'the controls are not finite'),
    ('mjWARN_BADQACC', 'lower the time step or the actuator forces'),
  ],
)
def test_remedies_tell_causes_apart(cause, remedy):
  fine = dict(theta=np.zeros(3), mean=np.zeros(2))
  assert engine.remedy((cause,), fine).startswith(remedy)
  fine['mean'][0] = np.nan
  assert 'normaliser numbers' in engine.remedy((cause,), fine)


def test_no_log_file_is_left(tmp_path):
  """Neither by a model that the compiler warns of nor by a divergence."""
  compile_task(TASKS['HalfCheetah-v5'])
  compiled = _compiled(tmp_path)
  _, diverged = _rollout(compiled)
  assert diverged
  assert os.listdir(tmp_path) == ['model.xml']
