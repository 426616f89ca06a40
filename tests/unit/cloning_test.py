"""What can be cloned, what is refused, and what the check finds."""

import collections
import dataclasses
import pickle
import re
import struct

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium import spaces, wrappers
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv

from trpo_tf.cloning import packing
from trpo_tf.cloning.check import check_cloning
from trpo_tf.cloning.cloner import cloner
from trpo_tf.errors import UserError

CLASSIC = (
  'Acrobot-v1',
  'CartPole-v1',
  'MountainCar-v0',
  'Pendulum-v1',
  'MountainCarContinuous-v0',
  'Blackjack-v1',
  'CliffWalking-v1',
  'CliffWalkingSlippery-v1',
  'FrozenLake-v1',
  'Taxi-v4',
)


class Walk(gymnasium.Env):
  """A noisy walk that becomes tired; it clones itself."""

  observation_space = spaces.Box(-np.inf, np.inf, (1,))
  action_space = spaces.Discrete(2)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.place, self.steps = self.np_random.standard_normal(), 0
    return self.observe(), {}

  def observe(self):
    return np.array([self.place], np.float32)

  def step(self, action):
    self.steps += 1
    self.place += (2 * action - 1) / self.steps + self.np_random.normal()
    return self.observe(), -abs(self.place), self.steps == 100, False, {}

  def snapshot(self):
    rng = self.np_random.bit_generator.state['state']
    return struct.pack('dq', self.place, self.steps) + b''.join(
      rng[name].to_bytes(16, 'little') for name in ('state', 'inc')
    )

  def restore(self, data):
    self.place, self.steps = struct.unpack('dq', data[:16])
    rng = self.np_random.bit_generator
    words = [int.from_bytes(data[i : i + 16], 'little') for i in (16, 32)]
    rng.state = dict(rng.state, state=dict(state=words[0], inc=words[1]))


class Forgetful(Walk):
  """Leaves one thing out of its snapshots."""

  def __init__(self, forgets):
    self.forgets = forgets

  def restore(self, data):
    steps = getattr(self, 'steps', 0)
    rng = self.np_random.bit_generator.state
    super().restore(data)
    if self.forgets == 'counter':
      self.steps = steps
    elif self.forgets == 'generator':
      self.np_random.bit_generator.state = rng


class Silent(gymnasium.Env):
  """Says nothing of its state."""

  observation_space, action_space = Walk.observation_space, Walk.action_space


class Half(Silent):
  def snapshot(self):
    return b''


class Echo(gymnasium.Wrapper):
  """A wrapper with a state."""


class Delayed(gymnasium.Wrapper):
  """Acts one step late; clones itself by the cloner of what it wraps."""

  def __init__(self, env):
    super().__init__(cloner(env, 'inner'))
    self.late = 0

  def step(self, action):
    action, self.late = self.late, action
    return self.env.step(action)

  def snapshot(self):
    return pickle.dumps((self.late, self.env.snapshot()))

  def restore(self, data):
    self.late, inner = pickle.loads(data)
    self.env.restore(inner)


def moved(env, steps=7):
  """A cloner some steps after a reset."""
  made = cloner(env, 'X')
  made.reset(seed=3)
  made.action_space.seed(3)
  for _ in range(steps):
    made.step(made.action_space.sample())
  return made


@pytest.mark.parametrize(
  'value',
  [
    None,
    True,
    -3,
    2**127 + 1,
    0.1,
    -0.0,
    float('inf'),
    'ü',
    b'\0\xff',
    np.float32(0.1),
    np.int8(-3),
    np.bool_(True),
    [1, [2.5]],
    (1, (2,), []),
    {'a': {3: (4,)}},
    collections.deque([1, 2], 2),
    collections.deque([1]),
    np.zeros((2, 0, 3)),
    np.arange(6, dtype='>i2').reshape(2, 3),
    np.array(1.5),
    np.full((100, 100), 7, np.uint8),
    np.str_(''),
    np.bytes_(b''),
  ],
  ids=repr,
)
def test_packing_keeps_value_and_type(value):
  data = packing.pack(value)
  back = packing.unpack(data)
  assert type(back) is type(value)
  assert packing.pack(back) == data and packing.packed_size(data) == len(data)
  if isinstance(value, np.ndarray):
    assert back.dtype == value.dtype and back.shape == value.shape
    assert back.flags.writeable
  np.testing.assert_equal(back, value)
  if isinstance(value, collections.deque):
    assert back.maxlen == value.maxlen


@pytest.mark.parametrize(
  'value',
  [
    object(),
    {1, 2},
    lambda: 0,
    [np.array([None])],
    np.zeros(2, 'i4,f8'),
  ],
  ids=['object', 'set', 'function', 'objects', 'record'],
)
def test_packing_refuses_what_is_not_plain(value):
  with pytest.raises(TypeError, match='is not plain data'):
    packing.pack(value)


def test_frames_are_packed_small():
  frame = np.zeros((210, 160, 3), np.uint8)
  assert len(packing.pack(frame)) < frame.size / 50


@pytest.mark.parametrize('task_id', CLASSIC)
def test_gymnasium_environments_restore_exactly(task_id):
  assert (
    check_cloning(lambda: cloner(gymnasium.make(task_id), task_id), steps=300)
    == []
  )


@pytest.mark.parametrize(
  'wrap',
  [
    lambda env: wrappers.FrameStackObservation(env, 3, padding_type='zero'),
    lambda env: wrappers.FrameStackObservation(env, 3),
    lambda env: wrappers.StickyAction(env, 0.5, (1, 3)),
    lambda env: wrappers.DelayObservation(env, 2),
    wrappers.TimeAwareObservation,
    lambda env: wrappers.MaxAndSkipObservation(env, 3),
    lambda env: wrappers.RepeatAction(env, 2),
    wrappers.Autoreset,
    lambda env: wrappers.FlattenObservation(wrappers.TimeLimit(env, 20)),
  ],
  ids=[
    'zeros',
    'stack',
    'sticky',
    'delay',
    'time',
    'skip',
    'repeat',
    'autoreset',
    'limit',
  ],
)
def test_wrappers_restore_exactly(wrap):
  def make():
    return cloner(wrap(gymnasium.make('CartPole-v1')), 'CartPole-v1')

  assert check_cloning(make, steps=200) == []


def test_a_wrapper_is_restored_to_its_reset():
  def make():
    return cloner(wrappers.StickyAction(gymnasium.make('Pendulum-v1'), 0.5), '')

  env = make()
  env.reset(seed=0)
  start = env.snapshot()
  results = []
  for _ in range(2):
    results.append([env.step(np.array([t / 9])) for t in range(9)])
    env.restore(start)
  np.testing.assert_equal(*results)


@pytest.mark.parametrize(
  'make',
  [Walk, lambda: Delayed(Walk()), lambda: wrappers.TimeLimit(Walk(), 30)],
)
def test_own_methods_restore_exactly(make):
  assert check_cloning(lambda: cloner(make(), 'X'), steps=300) == []
  assert moved(make()).snapshot().kind == 'environment'


@pytest.mark.parametrize(
  'forgets, what',
  [('counter', 'terminated|the obs'), ('generator', 'the observation')],
)
def test_check_finds_what_a_snapshot_leaves_out(forgets, what):
  findings = check_cloning(lambda: cloner(Forgetful(forgets), 'X'), steps=300)
  line = (
    r'restored in (the same|a second) instance, the snapshot before step '
    rf'\d+: ({what}).* of step \d+ is \S+ instead of \S+'
  )
  assert findings and re.match(line, findings[0]), findings
  assert any('a second instance' in f for f in findings)
  assert any('alternate' in f for f in findings)


@pytest.mark.parametrize(
  'make, steps, says',
  [
    (lambda: cloner(Walk(), 'X'), 0, 'steps=0: take a whole number, 1 or'),
    (lambda: cloner(Walk(), 'X'), 1.5, 'steps=1.5: take a whole'),
    (Walk, 9, 'make returned a Walk: wrap the environment by cloner'),
    (cloner(Walk(), 'X'), 9, 'make is a Cloner: give a function'),
  ],
)
def test_check_says_what_it_cannot_check(make, steps, says):
  with pytest.raises(UserError, match=says):
    check_cloning(make, steps=steps)


class Lucky(Walk):
  """Chance is in resets alone; the generator is not in its snapshots."""

  def step(self, action):
    self.steps += 1
    self.place += action
    return self.observe(), 0.0, self.steps == 20, False, {}

  def restore(self, data):
    state = self.np_random.bit_generator.state
    super().restore(data)
    self.np_random.bit_generator.state = state


@pytest.mark.parametrize(
  ('keep', 'says'),
  [
    (lambda env: dict(speed=env.data.qvel[:2]), r'in \.kept a view of mjData'),
    (lambda env: env.init_qpos, r'same array in \.init_qpos and \.kept'),
  ],
)
def test_arrays_that_a_restore_would_part_are_refused(keep, says):
  env = gymnasium.make('Hopper-v5')
  env.unwrapped.kept = keep(env.unwrapped)
  with pytest.raises(UserError, match=says):
    cloner(env, 'X')
  env.unwrapped.kept = np.array(env.unwrapped.init_qpos)
  assert cloner(env, 'X')


class Late(InvertedPendulumEnv):
  """An environment that prepares something in its second reset."""

  resets = 0

  def reset_model(self):
    observation = super().reset_model()
    self.resets += 1
    if self.resets == 2:
      self.prepare()
    return observation


def _randomized(env):
  env.model.body_mass *= env.np_random.uniform(0.5, 2)


def _heavier(env):
  env.model.opt.gravity[2] -= 1


def _faster(env):
  env.model.opt.timestep *= 1.1


def _bodiless(env):
  env.model.geom_contype[:] ^= 1


def _coarser(env):
  env.frame_skip += 1


def _painted(env):
  env.model.geom_rgba[:] = env.np_random.uniform(size=4)


def _view(env):
  env.kept = env.data.qpos


def _views(env):
  env.kept = collections.deque([env.data.qpos], 3)


def _one_list(env):
  env.kept = env.log = []


def _circle(env):
  env.kept = []
  env.kept.append(env.kept)


def _generator(env):
  env.kept = np.random.default_rng(1)


@pytest.mark.parametrize(
  ('prepare', 'says'),
  [
    (_randomized, 'changes its model or frame_skip after its constructor'),
    (_heavier, 'changes its model or frame_skip after its constructor'),
    (_faster, 'changes its model or frame_skip after its constructor'),
    (_bodiless, 'changes its model or frame_skip after its constructor'),
    (_coarser, 'changes its model or frame_skip after its constructor'),
    (_view, r'keeps in \.kept a view of mjData'),
    (_views, r'keeps in \.kept a view of mjData'),
    (_one_list, r'keeps the same list in \.\w+ and \.\w+, which a restore'),
    (_circle, r'keeps in \.kept what cannot be stored \(it is in itself\)'),
    (_generator, r'keeps in \.kept what cannot be stored'),
  ],
)
def test_what_a_reset_makes_is_checked_too(monkeypatch, prepare, says):
  monkeypatch.setattr(Late, 'prepare', prepare, raising=False)
  env = moved(Late())
  before = env.snapshot()
  env.reset(seed=0)
  message = f'^--task=X: class Late {says}.*: implement snapshot'
  with pytest.raises(UserError, match=message):
    env.snapshot()
  if says.startswith('changes'):
    with pytest.raises(UserError, match=message):
      env.restore(before)


def test_colours_may_change(monkeypatch):
  monkeypatch.setattr(Late, 'prepare', _painted, raising=False)
  env = moved(Late())
  before = env.snapshot()
  env.reset(seed=0)
  env.restore(before)
  assert env.snapshot() == before


def test_check_goes_on_over_a_reset():
  findings = check_cloning(lambda: cloner(Lucky(), 'X'), steps=100)
  what = 'the reset without a seed after the end of step'
  assert findings and what in findings[0]


def test_check_passes_what_forgets_nothing():
  assert check_cloning(lambda: cloner(Forgetful(''), 'X'), steps=300) == []


@pytest.mark.parametrize(
  'env, reason',
  [
    (Silent(), r'class Silent has no snapshot\(\) and restore\(\)'),
    (Half(), r'class Half has no restore\(\)'),
    (Echo(Walk()), r'class Echo has no snapshot\(\) and restore\(\)'),
    (wrappers.TransformReward(Walk(), abs), 'class TransformReward has no'),
    (
      wrappers.NormalizeObservation(Walk()),
      'class NormalizeObservation has no',
    ),
    (wrappers.TimeLimit(Silent(), 3), 'class Silent has no'),
  ],
  ids=['env', 'half', 'wrapper', 'function', 'running', 'inner'],
)
def test_refusal_says_why_and_the_way_out(env, reason):
  with pytest.raises(UserError, match=f'^--task=X: {reason}') as caught:
    cloner(env, 'X')
  message = str(caught.value)
  assert message.endswith(
    ': implement snapshot() and restore(), or use --sampler=single_path'
  )
  assert '\n' not in message


def test_own_methods_decide_on_the_generator():
  with pytest.raises(UserError, match='decides itself'):
    cloner(Walk(), 'X', include_rng=False)


def test_generators_left_out():
  first = cloner(
    gymnasium.make('Taxi-v4', is_rainy=True), 'X', include_rng=False
  )
  first.reset(seed=1)
  snapshot = first.snapshot()

  def branch(env, seed):
    env.reset(seed=seed)
    env.restore(snapshot)
    return [int(env.step(0)[0]) for _ in range(40)]

  other = cloner(
    gymnasium.make('Taxi-v4', is_rainy=True), 'X', include_rng=False
  )
  with pytest.raises(UserError, match=r'reset\(seed=...\) before the restore'):
    other.restore(snapshot)
  assert branch(first, 5) == branch(other, 5) != branch(other, 6)


def test_cloner_of_a_cloner_is_itself():
  made = cloner(Walk(), 'X')
  assert cloner(made, 'X') is made


def test_snapshot_needs_a_reset():
  with pytest.raises(UserError, match='before its first reset: reset it'):
    cloner(Walk(), 'X').snapshot()


def test_keywords_that_are_objects():
  class Place:
    pass

  class Placed(Walk):
    def __init__(self, place):
      assert isinstance(place, Place)

  gymnasium.registry.pop('Placed-v0', None)
  gymnasium.register('Placed-v0', Placed, kwargs={'place': Place()})
  assert check_cloning(lambda: cloner(gymnasium.make('Placed-v0'), 'X')) == []


def test_check_of_a_cloner_without_generators():
  def make():
    return cloner(gymnasium.make('CartPole-v1'), 'X', include_rng=False)

  assert check_cloning(make, steps=30) == []


def test_snapshots_are_values():
  env = moved(gymnasium.make('CartPole-v1'))
  one, again = env.snapshot(), env.snapshot()
  assert one == again and hash(one) == hash(again)
  assert pickle.loads(pickle.dumps(one)) == one
  env.step(0)
  assert env.snapshot() != one
  env.restore(one)
  assert env.snapshot() == one


def test_restored_observation_is_the_callers_own():
  env = moved(Walk())
  snapshot, expected = env.snapshot(), env.unwrapped.observe()
  env.restore(snapshot)[:] = 99
  assert env.snapshot() == snapshot
  assert env.restore(snapshot).tobytes() == expected.tobytes()


def test_snapshots_hold_observations_as_they_were_returned():
  env = cloner(Walk(), 'X')
  observation, _ = env.reset(seed=0)
  before = env.snapshot()
  observation[:] = 99
  assert env.snapshot() == before
  observation, *_ = env.step(0)
  before = env.snapshot()
  observation[:] = 99
  assert env.snapshot() == before


def test_a_snapshot_can_be_rendered():
  plain = moved(gymnasium.make('CartPole-v1'))
  drawn = cloner(gymnasium.make('CartPole-v1', render_mode='rgb_array'), 'X')
  drawn.restore(plain.snapshot())
  assert drawn.render().any()


def test_own_states_are_plain_data():
  class Own(Walk):
    def snapshot(self):
      return {1, 2}

    def restore(self, data):
      pass

  env = cloner(Own(), 'X')
  env.reset(seed=0)
  with pytest.raises(UserError, match=r'Own has a state .*set is not plain'):
    env.snapshot()


@pytest.mark.parametrize(
  'field, value',
  [
    ('kind', 'native'),
    ('version', 'gymnasium 0.1'),
    ('model', '0123'),
  ],
)
def test_snapshot_of_another_simulator_is_refused(field, value):
  env = moved(gymnasium.make('CartPole-v1'))
  wrong = dataclasses.replace(env.snapshot(), **{field: value})
  with pytest.raises(UserError, match=f'has {field} {value}, this simulator'):
    env.restore(wrong)


@pytest.mark.parametrize('cut', [slice(0, 5), slice(0, -1)])
def test_snapshot_of_another_size_is_refused(cut):
  env = moved(gymnasium.make('CartPole-v1'))
  snapshot = env.snapshot()
  with pytest.raises(UserError, match='the snapshot has size'):
    env.restore(dataclasses.replace(snapshot, data=snapshot.data[cut]))


@pytest.mark.parametrize(
  'other',
  [
    lambda: gymnasium.make('CartPole-v0'),
    lambda: gymnasium.make('CartPole-v1', sutton_barto_reward=True),
    lambda: gymnasium.make('CartPole-v1', max_episode_steps=7),
    lambda: wrappers.DelayObservation(gymnasium.make('CartPole-v1'), 1),
  ],
  ids=['id', 'arguments', 'limit', 'wrapper'],
)
@pytest.mark.filterwarnings('ignore:.*out of date')
def test_snapshot_of_other_settings_is_refused(other):
  snapshot = moved(gymnasium.make('CartPole-v1')).snapshot()
  with pytest.raises(UserError, match='has model'):
    moved(other()).restore(snapshot)


@pytest.mark.parametrize(
  'text',
  [
    '{"array":"|O","shape":[1],"size":8,"zip":false}',
    '{"array":"O,i4","shape":[1],"size":8,"zip":false}',
    '{"array":"<f8","shape":[2],"size":8,"zip":false}',
    '{"array":"<f8","shape":[-1],"size":8,"zip":false}',
    '{"array":"<f8","shape":[1000000000000],"size":8,"zip":true}',
    '{"array":"<f8","shape":[1],"size":-8,"zip":false}',
    '{"array":"<f8","size":8}',
    '{"array":["f8"],"shape":[1],"size":8,"zip":false}',
    '{"bytes":9}',
    '{"bytes":-1}',
    '{"bytes":7}',
    '{"bytes":"8"}',
    '{"deque":[],"max":-1}',
    '{"dict":[[[1],2]]}',
    '{"tuple":8}',
    '{}',
    '[' * 100_000,
    '1' * 5000,
    '',
    '\\',
  ],
  ids=lambda text: text[:40],
)
def test_forged_packed_data_is_refused(text):
  body = len(text).to_bytes(8, 'little') + text.encode() + bytes(8)
  with pytest.raises(ValueError, match='packed data with'):
    packing.unpack((8 + len(body)).to_bytes(8, 'little') + body)


def test_a_few_bytes_do_not_unpack_to_many():
  packed = packing.pack(np.zeros((10_000, 1000), np.uint8))
  forged = packed.replace(b'[10000,1000]', b'[1000,10000]')
  assert packing.unpack(forged).shape == (1000, 10_000)
  with pytest.raises(ValueError, match='in 1000001 bytes'):
    packing.unpack(packed.replace(b'[10000,1000]', b'[1, 1000000]'))


def test_bools_are_0_or_1():
  packed = packing.pack(np.zeros(3, bool))
  assert packing.unpack(packed[:-1] + b'\7').sum() == 1


def _forged(env, change):
  """A snapshot whose values (observation, layers, generator, state) changed."""
  snapshot = env.snapshot()
  values = packing.unpack(snapshot.data)
  change(values)
  return dataclasses.replace(snapshot, data=packing.pack(values))


@pytest.mark.parametrize(
  ('generator', 'path', 'value'),
  [
    (np.random.MT19937, ('state', 'pos'), 10**6),
    (np.random.MT19937, ('state', 'pos'), -5),
    (np.random.MT19937, ('state', 'key'), np.zeros(3, np.uint32)),
    (np.random.Philox, ('buffer_pos',), 10**6),
    (np.random.PCG64, ('bit_generator',), 'MT19937'),
    (np.random.PCG64, ('state',), None),
  ],
)
def test_forged_generators_are_refused(generator, path, value):
  env = moved(gymnasium.make('CartPole-v1'))
  env.unwrapped.np_random = np.random.Generator(generator(3))

  def change(values):
    inner = values[2]
    for name in path[:-1]:
      inner = inner[name]
    inner[path[-1]] = value

  forged = _forged(env, change)
  with pytest.raises(UserError, match='the snapshot is damaged or forged'):
    env.restore(forged)
  with pytest.raises(UserError, match='before its first reset'):
    env.snapshot()


@pytest.mark.parametrize(
  ('form', 'refused'),
  [
    (lambda frames: collections.deque(frames, 4), False),
    (list, True),
    (lambda frames: collections.deque([frames[0][:1]] * 4, 4), True),
    (lambda frames: collections.deque([frames[0] + 1j] * 4, 4), True),
    (lambda frames: np.stack(frames), True),
  ],
)
def test_forged_arrays_of_wrappers_are_refused(form, refused):
  env = moved(wrappers.FrameStackObservation(gymnasium.make('CartPole-v1'), 4))

  def change(values):
    values[1][0][0] = form(values[1][0][0])

  forged = _forged(env, change)
  if not refused:
    env.restore(forged)
    return
  with pytest.raises(UserError, match=r'forged \(an? '):
    env.restore(forged)


@pytest.mark.parametrize('name', ['data', 'model', 'frame_skip', 'step'])
def test_forged_attributes_are_refused(name):
  env = moved(gymnasium.make('InvertedPendulum-v5'))

  def change(values):
    values[3][0][name] = 7

  with pytest.raises(UserError, match=f'forged .an attribute {name}'):
    env.restore(_forged(env, change))


def test_models_whose_bodies_sleep_are_refused():
  env = gymnasium.make('InvertedPendulum-v5')
  env.unwrapped.model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_SLEEP
  with pytest.raises(UserError, match='whose bodies sleep'):
    cloner(env, 'X')
