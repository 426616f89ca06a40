"""The extensions refuse what would have them read or write astray."""

import copy
import signal

import mujoco
import numpy as np
import pytest
import worlds

from trpo_tf.benchmarks import bare_physics
from trpo_tf.cloning.native import to_states
from trpo_tf.sampling.atari.emulator import extension as atari
from trpo_tf.sampling.native import engine
from trpo_tf.sampling.native.branching import Brancher, initial_snapshots
from trpo_tf.tasks.language import norm, prev, tanh
from trpo_tf.tasks.program import OPS
from trpo_tf.tasks.task import Definition

_ENORMOUS = 2**31 - 1


def _define(sim):
  speed = sim.site_xpos['tip'] - prev(sim.site_xpos['tip'])
  return Definition(sim.qpos, norm(speed) + norm(tanh(abs(speed)) ** sim.time))


@pytest.fixture(scope='module')
def compiled(tmp_path_factory):
  return worlds.make(
    tmp_path_factory.mktemp('model'), define=_define, time_limit=3
  )


@pytest.fixture
def slots(compiled):
  return worlds.slots(compiled, 2, threads=1)


@pytest.fixture
def arrays(compiled, slots):
  """Of a replay of given actions."""
  arrays = slots.new_arrays(5)
  arrays['reset_rows'] = worlds.Resets(compiled)(np.zeros(2, int), 4)
  return arrays


def _set(setup, path, value):
  *parents, last = path.split('.')
  for parent in parents:
    setup = setup[parent]
  setup[last] = value


@pytest.mark.parametrize('kind', ['Sampler', 'Brancher'])
@pytest.mark.parametrize(
  ('path', 'value'),
  [
    ('time_limit', 0),
    ('time_limit', -1),
    ('frame_skip', 0),
    ('frame_skip', -3),
    ('low', [0.0]),
    ('high', [1.0]),
    ('scale', []),
    ('offset', [0.0] * 3),
    ('activation', 3),
    ('activation', -1),
    ('layer_sizes', []),
    ('layer_sizes', [4]),
    ('layer_sizes', [4, 3]),
    ('layer_sizes', [5, 2]),
    ('layer_sizes', [4, 0, 2]),
    ('layer_sizes', [4, -8, 2]),
    ('program.num_registers', 0),
    ('program.num_registers', -1),
    ('program.outputs', -1),
    ('program.outputs', _ENORMOUS),
    ('program.num_outputs', 5),
    ('program.num_outputs', _ENORMOUS),
    ('program.prev', -1),
    ('program.prev', _ENORMOUS),
    ('program.action', -1),
    ('program.action', _ENORMOUS),
    ('program.current', [-1] * 3),
    ('program.current', [_ENORMOUS] * 3),
    ('program.constants', [0.0] * 10_000),
    ('program.observation_size', 0),
    ('program.observation_size', -4),
    ('program.reset_passes', 0),
    ('program.code', np.zeros((3, 8), np.int32)),
    ('program.code', np.zeros((3, 9))),
    ('program.code', np.zeros(9, np.int32)),
  ],
  ids=str,
)
def test_wrong_setups_are_refused(compiled, kind, path, value):
  setup = _setup(compiled)
  sizes = (2, 1) if kind == 'Sampler' else (1,)
  engine.make_engine(kind, compiled, setup, *sizes)
  _set(setup, path, value)
  with pytest.raises(ValueError):
    engine.make_engine(kind, compiled, setup, *sizes)


def _setup(compiled):
  policy = worlds.actor(compiled, hidden=()).policy
  _, controls = compiled.actions('raw', clip=True)
  return copy.deepcopy(engine.engine_setup(compiled, policy, controls))


def test_registers_that_nothing_writes_are_refused(compiled):
  """Zeros in them would fill the memory."""
  setup = _setup(compiled)
  setup['program']['num_registers'] = 2**31 - 1
  with pytest.raises(ValueError, match='malformed task program'):
    engine.make_engine('Sampler', compiled, setup, 2, 1)


@pytest.mark.parametrize(
  ('op', 'column', 'value'),
  [
    ('load', 0, -1),
    ('load', 0, len(OPS)),
    ('load', 1, 0),
    ('load', 1, 1000),
    ('load', 2, -1),
    ('load', 3, 12),
    ('load', 5, -1),
    ('load', 5, 1000),
    ('load', 6, -1),
    ('load', 6, 1000),
    ('subtract', 2, _ENORMOUS),
    ('subtract', 3, -1),
    ('subtract', 4, 1000),
    ('subtract', 5, _ENORMOUS),
    ('norm', 1, 1000),
    ('tanh', 1, 1000),
    ('tanh', 3, -1),
    ('power', 0, len(OPS)),
    ('power', 2, _ENORMOUS),
    ('power', 5, -1),
    ('time', 1, 0),
    ('time', 2, -1),
  ],
)
def test_wrong_instructions_are_refused(compiled, op, column, value):
  setup = _setup(compiled)
  code = setup['program']['code']
  wide = (code[:, 1] > 1) | (op == 'time')
  row = np.flatnonzero((code[:, 0] == OPS.index(op)) & wide)[0]
  code[row, column] = value
  with pytest.raises(ValueError, match='malformed task program'):
    engine.make_engine('Sampler', compiled, setup, 2, 1)


@pytest.mark.parametrize('sizes', [(0, 1), (-1, 1), (2, 0), (2, -1)])
def test_wrong_numbers_of_slots_and_threads_are_refused(compiled, sizes):
  with pytest.raises(ValueError, match='must be positive'):
    engine.make_engine('Sampler', compiled, _setup(compiled), *sizes)
  if sizes[1] < 1:
    with pytest.raises(ValueError, match='must be positive'):
      engine.make_engine('Brancher', compiled, _setup(compiled), sizes[1])


@pytest.mark.parametrize(
  ('name', 'other'),
  [
    ('resets_used', 'lengths'),
    ('num_boundaries', 'lengths'),
    ('resets_used', 'num_boundaries'),
    ('failures', 'lengths'),
    ('saved_steps', 'resets_used'),
  ],
)
def test_counters_that_share_memory_are_refused(slots, arrays, name, other):
  arrays[name] = arrays[other]
  with pytest.raises(ValueError, match='shares memory with'):
    slots._native.run([0, 1], arrays)


def test_records_that_overlap_a_counter_are_refused(slots, arrays):
  memory = np.zeros(100)
  arrays['rewards'] = memory[:10].reshape(2, 5)
  arrays['lengths'] = memory[9:10].view(np.int32)
  with pytest.raises(ValueError, match='shares memory with'):
    slots._native.run([0, 1], arrays)
  arrays['lengths'] = memory[10:11].view(np.int32)
  slots._native.run([0, 1], arrays)


@pytest.mark.parametrize('name', ['actions', 'rewards', 'lengths', 'ends'])
def test_arrays_that_are_not_writeable_are_refused(slots, arrays, name):
  arrays[name].flags.writeable = False
  with pytest.raises(ValueError, match=f'{name} must be writeable'):
    slots._native.run([0, 1], arrays)


def test_inputs_need_not_be_writeable(slots, arrays):
  arrays['reset_rows'].flags.writeable = False
  slots._native.run([0, 1], arrays)


def test_an_array_that_is_not_aligned_is_refused(slots, arrays):
  memory = np.zeros(81, np.uint8)
  arrays['rewards'] = memory[1:].view(np.float64).reshape(2, 5)
  with pytest.raises(ValueError, match='rewards must be aligned'):
    slots._native.run([0, 1], arrays)


def test_negative_episode_numbers_are_refused(slots, arrays):
  """A shortened limit would never end, and the truncations would overflow."""
  slots.slots['episode'][1] = -100
  slots.slots['limit'][1] = 1
  with pytest.raises(ValueError, match='episode must not be negative'):
    slots._native.run([0, 1], arrays)


def test_more_truncations_than_rows_are_refused(slots, arrays):
  arrays['num_boundaries'][0] = arrays['boundary_steps'].shape[1]
  with pytest.raises(ValueError, match='too few truncations'):
    slots._native.run([0, 1], arrays)


def test_registers_of_a_slot_that_is_not_there(slots):
  for wrong in (-1, 2):
    with pytest.raises(ValueError, match='no such simulation'):
      slots._native.registers(wrong)


def test_error_of_a_slot_that_is_not_there(slots):
  for slot in (-1, 2):
    with pytest.raises(ValueError):
      slots._native.error(slot)


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('reset_rows', np.zeros((2, 1, 17))),
    ('lengths', np.array([6, 0], np.int32)),
    ('lengths', np.array([-1, 0], np.int32)),
    ('ends', np.zeros((2, 4), np.uint8)),
    ('actions', np.zeros((2, 5, 3))),
  ],
)
def test_wrong_replays_of_slots_are_refused(slots, arrays, name, value):
  start = slots.state()
  slots._native.run([0, 1], arrays)
  slots.restore(start)
  bare_physics.replay_slots(slots, arrays)
  with pytest.raises(ValueError):
    bare_physics.replay_slots(slots, arrays | {name: value})


def test_wrong_replays_of_branches_are_refused(compiled):
  brancher = Brancher(compiled, threads=1)
  states = to_states(compiled, initial_snapshots(compiled, 0, 2))
  actions = np.zeros((2, 3, compiled.action_size))
  bare = brancher.branch(states, actions, 4)
  with pytest.raises(ValueError, match='actions should have 5 axes'):
    bare_physics.replay_branches(brancher, states, bare)
  branches = brancher.branch(states, actions, 4, trajectories=True)
  bare_physics.replay_branches(brancher, states, branches)
  with pytest.raises(ValueError, match='snapshots should have shape'):
    bare_physics.replay_branches(brancher, states[:1], branches)
  branches.lengths[0] = 5
  with pytest.raises(ValueError, match='lengths must lie in'):
    bare_physics.replay_branches(brancher, states, branches)


@pytest.mark.parametrize(
  'name', ['control', 'passive', 'contactfilter', 'sensor', 'act_gain']
)
def test_callbacks_of_mujoco_are_refused(compiled, slots, arrays, name):
  """They may come after the simulations were made."""
  brancher = Brancher(compiled, threads=1)
  states = to_states(compiled, initial_snapshots(compiled, 0, 2))
  actions = np.zeros((2, 3, compiled.action_size))
  set_callback = getattr(mujoco, f'set_mjcb_{name}')
  set_callback(lambda *args: 0)
  try:
    for run in (
      lambda: brancher.branch(states, actions, 4),
      lambda: slots._native.run([0, 1], arrays),
    ):
      with pytest.raises(ValueError, match="MuJoCo's callbacks: remove them"):
        run()
  finally:
    set_callback(None)
  slots._native.run([0, 1], arrays)
  assert brancher.branch(states, actions, 4).num_steps


@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize('horizon', [1000, 10**6])
def test_a_signal_ends_a_long_call(compiled, threads, horizon):
  """Its handler runs several times within the call, not once after it."""
  count = 10**8 // horizon
  brancher = Brancher(compiled, threads=threads)
  states = initial_snapshots(compiled, 0, 1)
  actions = np.zeros((1, count, compiled.action_size))
  noise = np.zeros((1, 1, horizon, compiled.action_size))
  before = brancher.branch(states, actions[:, :1], 2).returns
  calls = []

  def handler(number, frame):
    calls.append(number)
    if len(calls) == 3:
      raise KeyboardInterrupt

  old = signal.signal(signal.SIGALRM, handler)
  try:
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    with pytest.raises(KeyboardInterrupt):
      brancher.branch(states, actions, horizon, noise=noise)
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)
  after = brancher.branch(states, actions[:, :1], 2).returns
  assert after.tobytes() == before.tobytes()


@pytest.mark.parametrize(
  'wrong',
  [
    dict(frame=(0, 40)),
    dict(frame=(-52, 40)),
    dict(frame=(3, 40)),
    dict(frame=(52, 5)),
    dict(filters=()),
    dict(filters=(16, 0)),
    dict(filters=(-16,)),
    dict(hidden_sizes=(0,)),
    dict(hidden_sizes=(-20,)),
    dict(activation=3),
    dict(factors=()),
    dict(factors=(3, 0)),
    dict(factors=(3, -2)),
  ],
  ids=str,
)
def test_wrong_actors_are_refused(wrong):
  right = dict(
    frame=(52, 40),
    filters=(16, 16),
    hidden_sizes=(20,),
    activation=0,
    factors=(3, 2),
  )
  atari.Actor(**right)
  with pytest.raises(ValueError):
    atari.Actor(**(right | wrong))
