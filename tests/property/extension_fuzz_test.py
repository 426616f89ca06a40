"""Direct calls of the extensions with wrong arguments raise and do not crash.

The extensions are private, but a wrong argument must raise. Calls are drawn in
a child process; if the child dies, the call of the next seed is to blame.
"""

import copy
import pathlib
import random

import children
import numpy as np
import pytest
import worlds

from trpo_tf.cloning.native import to_states
from trpo_tf.sampling.atari.emulator import extension as atari
from trpo_tf.sampling.native import engine
from trpo_tf.sampling.native.branching import Brancher, initial_snapshots
from trpo_tf.tasks.language import atan2, log, norm, prev, tanh
from trpo_tf.tasks.task import Definition

_NUMBERS = (-(2**31), -1000, -1, 0, 1, 2, 3, 7, 64, 1000, float('nan'), 1e300)
_HUGE = (2**31 - 1, 2**31, 2**63, -(2**63), 10**30)
_OTHERS = (None, 'x', b'x', [], {}, [None], object(), True, (1, 2, 3))


def _define(sim):
  speed = sim.site_xpos['tip'] - prev(sim.site_xpos['tip'])
  angle = atan2(speed, sim.site_xpos['tip']) + log(1 + abs(speed))
  return Definition(
    sim.qpos, norm(speed), terms={'term': norm(abs(tanh(angle)) ** sim.time)}
  )


def _array(array, rng):
  """Changes an array's values, dtype, shape or memory."""
  form = rng.randrange(10)
  if form == 0:
    return array.astype(rng.choice(('i1', 'i4', 'i8', 'f4', 'f8', 'c16', 'O')))
  if form == 1:
    return array[..., None] if rng.random() < 0.5 else array.ravel()
  if form == 2:
    return np.asfortranarray(array)
  if form == 3:
    return array[::-1]
  if form == 4 and array.ndim:
    axis = rng.randrange(array.ndim)
    cut = rng.choice((0, 1, array.shape[axis] - 1, array.shape[axis] + 1))
    return np.ascontiguousarray(np.resize(array, _changed(array, axis, cut)))
  if form == 5:
    array = array.copy()
    array.flags.writeable = False
    return array
  if form == 6:
    memory = np.zeros(array.nbytes + 1, np.uint8)
    return memory[1:].view(array.dtype).reshape(array.shape)
  if form == 7:
    return np.broadcast_to(array.dtype.type(1), array.shape)
  array = array.copy()
  if array.size:
    value = rng.choice((*_NUMBERS, *_HUGE))
    with np.errstate(all='ignore'):
      filled = np.array(value, float).astype(array.dtype)
    places = slice(None) if form == 8 else rng.randrange(array.size)
    array.reshape(-1)[places] = filled
  return array


def _changed(array, axis, size):
  return *array.shape[:axis], max(0, size), *array.shape[axis + 1 :]


def _value(value, rng, huge=True):
  """Changes an argument."""
  if rng.random() < 0.1:
    return rng.choice(_OTHERS)
  if isinstance(value, np.ndarray):
    return _array(value, rng)
  if isinstance(value, dict) and value:
    return _dict(value, rng, huge)
  if isinstance(value, list | tuple) and value and rng.random() < 0.8:
    changed = [*value]
    at = rng.randrange(len(changed))
    if rng.random() < 0.3:
      del changed[at]
    else:
      changed[at] = _value(changed[at], rng, huge)
    return type(value)(changed)
  return rng.choice((*_NUMBERS, *(_HUGE if huge else ())))


def _dict(values, rng, huge=True):
  """Changes a few entries: leaves out, mixes up or changes them."""
  changed = dict(values)
  for _ in range(rng.choice((1, 1, 1, 2, 4))):
    name = rng.choice([*values])
    form = rng.random()
    if form < 0.1:
      changed.pop(name, None)
    elif form < 0.25:
      changed[name] = values[rng.choice([*values])]
    else:
      changed[name] = _value(values[name], rng, huge)
  return changed


class _Calls:
  """Draws calls; right arguments are made once."""

  def __init__(self, directory):
    self.compiled = compiled = worlds.make(
      pathlib.Path(directory), define=_define, time_limit=3
    )
    actor = worlds.actor(compiled, hidden=(3,))
    _, controls = compiled.actions('raw', clip=True)
    self.setup = engine.engine_setup(compiled, actor.policy, controls)
    self.slots = worlds.slots(compiled, 2, hidden=(3,), threads=2)
    self.start = self.slots.state()
    self.arrays = self.slots.new_arrays(6, details=True)
    self.arrays['reset_rows'] = worlds.Resets(compiled)(np.zeros(2, int), 4)
    policy = self.slots.policy_arrays(
      actor.theta[None],
      np.zeros(2, np.int32),
      actor.normalizer,
      np.zeros((2, 6, 2)),
    )
    self.policy = policy | dict(
      snapshots=np.zeros(
        (3, len(to_states(compiled, initial_snapshots(compiled, 0, 1))[0]))
      ),
      snapshot_index=np.full((2, 6), -1, np.int32),
      min_steps=6,
    )
    self._make_branches(actor)

  def _make_branches(self, actor):
    compiled = self.compiled
    self.brancher = Brancher(compiled, actor.policy, threads=2)
    states = to_states(compiled, initial_snapshots(compiled, 0, 2))
    records = self.brancher._records((2, 3, 2), 4, True, True)
    self.branches = (
      records
      | engine.policy_arrays(actor.policy, actor.theta[None], actor.normalizer)
      | dict(
        snapshots=states,
        first_actions=np.zeros((2, 3, 2)),
        noise=np.zeros((2, 2, 4, 2)),
        gamma=0.9,
        time_limit=True,
      )
    )
    self.replay = dict(
      snapshots=states,
      actions=records['actions'],
      lengths=np.full((2, 3, 2), 4, np.int32),
    )

  def draw(self, rng):
    """Returns a name and a call with changed arguments."""
    kinds = (
      self.make,
      self.run,
      self.run,
      self.run_state,
      self.replay_slots,
      self.run_branches,
      self.run_branches,
      self.replay_branches,
      self.screens,
      self.actor,
      self.actor_calls,
      self.small,
    )
    return rng.choice(kinds)

  def make(self, rng):
    setup = _dict(copy.deepcopy(self.setup), rng)
    if rng.random() < 0.5:
      setup['program'] = _dict(copy.deepcopy(self.setup['program']), rng)
    kind = rng.choice(('Sampler', 'Brancher'))
    sizes = [2, 1] if kind == 'Sampler' else [1]
    if rng.random() < 0.2:
      sizes[-1] = rng.choice((*_OTHERS, -1, 0, -(2**31), 2**31))
    made = getattr(engine._native, kind)(
      self.compiled.model._address, setup, *sizes
    )
    if setup['frame_skip'] > 1000:
      return  # it may be, and takes long
    if kind == 'Sampler':
      made.run([0, 1], copy.deepcopy(self.arrays | self.policy))
    else:
      made.run(copy.deepcopy(self.branches))

  def run(self, rng):
    self.slots.restore(self.start)
    arrays = copy.deepcopy(
      self.arrays | (self.policy if rng.random() < 0.6 else {})
    )
    ids = [0, 1] if rng.random() < 0.8 else _value([0, 1], rng)
    self.slots._native.run(ids, _dict(arrays, rng))

  def run_state(self, rng):
    self.slots.restore(self.start)
    view = rng.choice([*self.slots._views().values()])
    changed = _array(view, rng)
    if isinstance(changed, np.ndarray) and changed.shape == view.shape:
      with np.errstate(all='ignore'):
        view[...] = changed.real
    self.slots._native.run([0, 1], copy.deepcopy(self.arrays | self.policy))
    native = self.slots._native
    rng.choice((native.error, native.registers))(rng.choice(_NUMBERS))

  def replay_slots(self, rng):
    self.slots.restore(self.start)
    arrays = copy.deepcopy(self.arrays)
    arrays['lengths'][:] = 6
    self.slots._native.replay_physics(_dict(arrays, rng))

  def run_branches(self, rng):
    arrays = copy.deepcopy(self.branches)
    self.brancher._native.run(_dict(arrays, rng))

  def replay_branches(self, rng):
    self.brancher._native.replay_physics(_dict(copy.deepcopy(self.replay), rng))

  def screens(self, rng):
    sizes = dict(screen=(210, 160), rows=(34, 194), frame=(84, 84))
    if rng.random() < 0.5:
      sizes = _dict(sizes, rng)
    made = atari.Screens(**sizes)
    for place in (0, 1):
      made.now(place)[:] = rng.randrange(256)
      if not made.see(place):
        made.learn(place, _value(np.zeros((210, 160), np.uint8), rng))
    made.frame(rng.choice((1, 2)), _value(np.zeros((84, 84), np.uint8), rng))
    made.now(rng.choice(_NUMBERS))

  def actor(self, rng):
    sizes = dict(
      frame=(20, 24),
      filters=(4, 3),
      hidden_sizes=(5,),
      activation=0,
      factors=(3, 2),
    )
    made = atari.Actor(**_dict(sizes, rng, huge=rng.random() < 0.1))
    made.act(None)

  def actor_calls(self, rng):
    made = atari.Actor((20, 24), (4, 3), (5,), 0, (3, 2))
    frame = np.zeros((20, 24), np.uint8)
    screens = atari.Screens((40, 48), (0, 40), (20, 24))
    theta = np.zeros(10_000, np.float32)
    calls = (
      lambda: made.set_parameters(_value(theta, rng)),
      lambda: made.begin(
        _value(np.zeros((20, 24, 4), np.uint8), rng), rng.choice(_NUMBERS)
      ),
      lambda: made.begin_game(_value(frame, rng)),
      lambda: made.observe(screens, rng.choice(_NUMBERS)),
      lambda: made.act(_value(np.zeros(2), rng)),
      made.rows,
      made.frames,
      made.actions,
      made.stack,
    )
    for _ in range(6):
      try:
        rng.choice(calls)()
      except _REFUSALS:
        pass

  def small(self, rng):
    engine._native.tanh(_value(np.zeros((3, 5), np.float32), rng))


# what wrong arguments may raise; MemoryError and bad_alloc: of honest sizes
_REFUSALS = (
  ValueError,
  TypeError,
  RuntimeError,
  OverflowError,
  IndexError,
  MemoryError,
)


def draw_calls(directory, seeds):
  """Returns the seeds of the calls that killed the child, and the refusals."""

  def prepare():
    calls = _Calls(directory)

    def draw(seed):
      rng = random.Random(seed)
      call = calls.draw(rng)
      try:
        call(rng)
      except _REFUSALS:
        return True
      return False

    return draw

  return children.attack(prepare, seeds)


@pytest.mark.slow
def test_drawn_calls_do_not_crash(tmp_path):
  killers, refused = draw_calls(str(tmp_path), range(300))
  assert not killers
  assert refused > 100


@pytest.mark.fuzz
@pytest.mark.parametrize('part', range(10))
def test_many_drawn_calls_do_not_crash(tmp_path, fuzz, part):
  seeds = fuzz.seeds(part, 1000)
  killers, refused = draw_calls(str(tmp_path), seeds)
  fuzz.count(
    'calls of the extensions',
    f'{seeds[0]} to {seeds[-1]}',
    len(seeds),
    refused,
    len(killers),
  )
  assert not killers
