"""The native sampler against the oracle, threads, snapshots and misuse."""

import copy
import itertools
import threading
import time

import numpy as np
import pytest
import worlds
from oracle import Slots

from trpo_tf.benchmarks import bare_physics
from trpo_tf.errors import UserError
from trpo_tf.sampling.native.paths import batch_from_arrays
from trpo_tf.tasks import language as lang
from trpo_tf.tasks.actions import ActionSpace
from trpo_tf.tasks.gymnasium_v5 import TASKS
from trpo_tf.tasks.language import concatenate, norm, prev, total
from trpo_tf.tasks.task import Definition, compile_task

_RECORDS = (
  'observations',
  'actions',
  'outputs',
  'log_probs',
  'rewards',
  'ends',
  'timesteps',
  'episode_returns',
  'boundary_observations',
  'boundary_steps',
  'num_boundaries',
  'last_observations',
  'lengths',
  'task_outputs',
)


def _define(sim):
  """A task whose state is more than its MuJoCo row: prevs, contact forces."""
  speed = (sim.site_xpos['tip'] - prev(sim.site_xpos['tip'])) / sim.dt
  forces = lang.clip(sim.cfrc_ext['ball'], -1, 1)
  return Definition(
    concatenate(
      sim.qpos,
      sim.qvel,
      speed,
      prev(speed),
      prev(sim.action),
      forces,
      sim.subtree_linvel['cart'],
    ),
    norm(speed) - 0.1 * total(lang.square(sim.action)),
    abs(sim.qpos['hinge'][0]) > 0.25,
  )


def _policy(
  compiled, slots, steps, hidden=(8,), policies=3, seed=0, log_std=-0.5
):
  """Random policies, one noise row per step, for policy_arrays."""
  rng = np.random.default_rng(seed)
  sizes = compiled.observation_size, *hidden, compiled.action_size
  count = sum((a + 1) * b for a, b in itertools.pairwise(sizes))
  theta = 0.3 * rng.standard_normal((policies, count + compiled.action_size))
  theta[:, count:] = log_std
  index = np.arange(slots, dtype=np.int32) % policies
  noise = rng.standard_normal((slots, steps, compiled.action_size))
  normalizer = worlds.identity_normalizer(compiled.observation_size)
  return theta.astype(np.float32), index, normalizer, noise


def _sample(slots, steps, seed=0, resets=None, **policy):
  """One closed-loop rollout's records."""
  compiled = slots.compiled
  arrays = slots.new_arrays(steps, details=True)
  arrays |= slots.policy_arrays(
    *_policy(compiled, slots.num_slots, steps, seed=seed, **policy)
  )
  assert not slots.rollout(arrays, resets or worlds.Resets(compiled))
  return arrays


def _assert_same(a, b, names=_RECORDS):
  for name in names:
    np.testing.assert_array_equal(a[name], b[name], name)
    assert a[name].tobytes() == b[name].tobytes(), name


@pytest.fixture(scope='module')
def compiled(tmp_path_factory):
  return worlds.make(
    tmp_path_factory.mktemp('model'), define=_define, time_limit=17
  )


_OPTIONS = [
  dict(),
  dict(clip_actions=False),
  dict(action_range='control'),
  dict(action_range='control', clip_actions=False),
]


@pytest.mark.parametrize('options', _OPTIONS, ids=str)
def test_oracle_replays_recorded_actions(compiled, options):
  """Two calls, episodes carried over; every array of the batch, every bit."""
  slots = worlds.slots(compiled, 5, (8,), threads=2, **options)
  low, high = np.array([-1, -2]), np.array([3, 2])
  scaled = options.get('action_range') == 'control'
  oracle = Slots(
    compiled,
    5,
    scale=(high - low) / 2 if scaled else 1.0,
    offset=(high + low) / 2 if scaled else 0.0,
    clip_actions=options.get('clip_actions', True),
  )
  bounds = ActionSpace((), -np.ones(2), np.ones(2))
  if not scaled:
    bounds = ActionSpace((), low, high)
  resets, kinds = worlds.Resets(compiled), set()
  for call in range(2):
    arrays = _sample(slots, 50, seed=call, resets=resets, log_std=0.3)
    want = oracle.rollout(arrays['actions'], resets)
    _assert_same(
      arrays,
      want,
      (
        'observations',
        'rewards',
        'ends',
        'timesteps',
        'task_outputs',
        'last_observations',
        'lengths',
      ),
    )
    batch = batch_from_arrays(arrays, bounds, [])
    for name in (
      'boundary_index',
      'boundary_observations',
      'episode_returns',
      'episode_lengths',
    ):
      np.testing.assert_array_equal(getattr(batch, name), want[name], name)
    actions = arrays['actions']
    outside = (actions < bounds.low) | (actions > bounds.high)
    assert batch.clipped_fraction == outside.mean() > 0
    assert batch.kept.all() and batch.num_steps == 5 * 50
    kinds |= set(arrays['ends'].ravel().tolist())
    carried = arrays['timesteps'][:, 0] > 0
    assert carried.any() == (call == 1)
  assert kinds >= {0, 1, 2}


@pytest.mark.parametrize('name', ['Ant-v5', 'Humanoid-v5', 'Walker2d-v5'])
def test_oracle_replays_gymnasium_tasks(name):
  """RK4 and contact forces carry over too."""
  compiled = compile_task(TASKS[name])
  slots, oracle = worlds.slots(compiled, 2, (8,)), Slots(compiled, 2)
  resets = worlds.Resets(compiled)
  for call in range(2):
    arrays = _sample(slots, 35, seed=call, resets=resets)
    want = oracle.rollout(arrays['actions'], resets)
    _assert_same(
      arrays,
      want,
      (
        'observations',
        'rewards',
        'ends',
        'timesteps',
        'task_outputs',
        'last_observations',
      ),
    )


def test_first_episodes_may_be_shortened(compiled):
  """A shortened first episode bootstraps, and its return is not reported."""
  slots = worlds.slots(compiled, 4, (8,))
  limits = np.array([3, 9, 17, 1])
  slots.slots['limit'] = limits
  oracle = Slots(compiled, 4, first_limits=limits)
  resets = worlds.Resets(compiled)
  arrays = _sample(slots, 40, resets=resets, log_std=-3.0)
  want = oracle.rollout(arrays['actions'], resets)
  _assert_same(arrays, want, ('observations', 'ends', 'timesteps'))
  batch = batch_from_arrays(arrays, compiled.actions('raw', True)[0], [])
  for name in (
    'boundary_index',
    'boundary_observations',
    'episode_returns',
    'episode_lengths',
  ):
    np.testing.assert_array_equal(getattr(batch, name), want[name], name)
  assert (arrays['ends'][[0, 3], [2, 0]] == 2).all()


def test_prevs_and_action_at_a_reset(compiled):
  """A reset's prev is the value itself, and its action is zero."""
  slots = worlds.slots(compiled, 1, (8,))
  arrays = _sample(slots, 60, log_std=0.5)
  first = arrays['observations'][0, arrays['timesteps'][0] == 0]
  assert len(first) > 2
  speed = first[:, 17:20]
  assert not speed.any() and not first[:, 20:25].any()


@pytest.mark.parametrize('threads', [2, 3, 7])
def test_any_number_of_threads_gives_the_same_bytes(compiled, threads):
  one = worlds.slots(compiled, 9, (8,), threads=1)
  many = worlds.slots(compiled, 9, (8,), threads=threads)
  assert many._native.num_threads == threads
  for call in range(2):
    _assert_same(_sample(one, 40, seed=call), _sample(many, 40, seed=call))
  for name, value in one.state().items():
    assert value.tobytes() == many.state()[name].tobytes(), name


def test_slots_run_in_subsets_give_the_same_bytes(compiled):
  """Each slot alone, in reverse, in several pieces: nothing leaks between."""
  together = _sample(worlds.slots(compiled, 4, (8,), threads=2), 45)
  slots = worlds.slots(compiled, 4, (8,), threads=1)
  arrays = slots.new_arrays(45, details=True)
  arrays |= slots.policy_arrays(*_policy(compiled, 4, 45))
  resets = worlds.Resets(compiled)
  while (arrays['lengths'] < 45).any():
    for ids in ([3], [1, 2], [0], [2]):
      ids = [i for i in ids if arrays['lengths'][i] < 45]
      arrays['resets_used'][:] = 0
      # one reset row a call: a slot stops when it needs the next one
      arrays['reset_rows'] = resets(slots.slots['episode'], 1)
      slots._native.run(ids, arrays)
  _assert_same(arrays, together)


def test_junk_left_by_other_simulations_does_no_harm(compiled):
  """Workers' mjData and registers that held wild states before."""
  clean = worlds.slots(compiled, 3, (8,), threads=1)
  dirty = worlds.slots(compiled, 3, (8,), threads=1)
  start = clean.state()
  wild = dirty.new_arrays(10, details=True)
  wild['actions'][:] = 50.0
  row = worlds.Resets(compiled).row(0, 0)
  dirty.rollout(wild, worlds.fixed_rows(5 * row))
  for array in wild.values():
    assert not np.isnan(array).any()
  dirty.restore(start)
  _assert_same(_sample(clean, 30), _sample(dirty, 30))


def test_records_do_not_depend_on_what_the_arrays_held(compiled):
  def filled(value):
    slots = worlds.slots(compiled, 2, (8,))
    arrays = slots.new_arrays(30, details=True)
    kept = (
      'lengths',
      'num_boundaries',
      'resets_used',
      'boundary_steps',
      'boundary_observations',
      'episode_returns',
    )
    for name, array in arrays.items():
      if name not in kept:
        array[...] = value
    arrays |= slots.policy_arrays(*_policy(compiled, 2, 30))
    slots.rollout(arrays, worlds.Resets(compiled))
    return arrays

  _assert_same(filled(0), filled(77))


def test_restored_state_continues_bit_for_bit(compiled):
  original = worlds.slots(compiled, 6, (8,))
  _sample(original, 23, seed=1)
  assert (original.slots['elapsed'] > 0).any()
  state = copy.deepcopy(original.state())
  continued = _sample(original, 40, seed=2)
  restored = worlds.slots(compiled, 6, (8,), threads=3)
  _sample(restored, 5, seed=3)
  restored.restore(state)
  _assert_same(_sample(restored, 40, seed=2), continued)
  original.restore(state)  # and the state was a copy
  _assert_same(_sample(original, 40, seed=2), continued)


def test_every_part_of_the_state_counts(compiled):
  """A state without any one of its parts continues differently, or is it."""
  slots = worlds.slots(compiled, 3, (8,))
  _sample(slots, 23, seed=1)
  state = slots.state()
  want = _sample(slots, 30, seed=2)
  fresh = worlds.slots(compiled, 3, (8,)).state()
  for name in state:
    slots.restore(state | {name: fresh[name]})
    got = _sample(slots, 30, seed=2)
    same = all(got[k].tobytes() == want[k].tobytes() for k in _RECORDS)
    assert same == (state[name].tobytes() == fresh[name].tobytes()), name


def test_state_of_another_shape_is_refused(compiled, tmp_path):
  slots, other = worlds.slots(compiled, 3), worlds.slots(compiled, 4)
  with pytest.raises(
    ValueError,
    match=r'shape \(4,\); this sampler needs '
    r'\(3,\): the state is of another task or number of',
  ):
    slots.restore(other.state())
  other = worlds.slots(worlds.make(tmp_path), 3)
  with pytest.raises(ValueError, match='another task'):
    slots.restore(other.state())


@pytest.mark.parametrize(
  ('name', 'value', 'message'),
  [
    (
      'observations',
      np.zeros((2, 6, 30), np.float32),
      'observations should have shape (2, 5, 34), got (2, 6, 30)',
    ),
    (
      'observations',
      np.zeros((2, 5, 34)),
      'observations must be a C-contiguous array of float32',
    ),
    (
      'actions',
      np.zeros((2, 2, 5)).transpose(0, 2, 1),
      'actions must be a C-contiguous array of float64',
    ),
    (
      'actions',
      np.zeros((2, 5)),
      'actions should have shape (2, 5, 2), got (2, 5)',
    ),
    (
      'ends',
      np.zeros((2, 5), np.int32),
      'ends must be a C-contiguous array of uint8',
    ),
    (
      'lengths',
      np.zeros(3, np.int32),
      'lengths should have shape (2,), got (3,)',
    ),
    (
      'noise',
      np.zeros((2, 4, 2)),
      'noise should have shape (2, 5, 2), got (2, 4, 2)',
    ),
    (
      'theta',
      np.zeros((3, 5), np.float32),
      'theta should have shape (3, 72), got (3, 5)',
    ),
    (
      'policy_index',
      np.array([0, 3], np.int32),
      'policy_index must lie in [0, 2], got 3',
    ),
    (
      'policy_index',
      np.array([0, -1], np.int32),
      'policy_index must lie in [0, 2], got -1',
    ),
    (
      'mean',
      np.zeros(32, np.float32),
      'mean should have shape (34,), got (32,)',
    ),
    (
      'boundary_steps',
      np.zeros((2, 1), np.int32),
      'boundary_observations should have shape (2, 1, 34), got (2, 2, 34)',
    ),
    (
      'reset_rows',
      np.zeros((2, 2, 16)),
      'reset_rows should have shape (2, 2, 17), got (2, 2, 16)',
    ),
    ('saved_states', np.zeros((2, 3)), None),
    ('rewards', np.zeros(2), 'rewards should have 2 axes'),
    (
      'theta',
      np.zeros(72, np.float32),
      'theta should have 2 axes',
    ),
    ('noise', None, 'missing array noise'),
    ('rewards', None, 'missing array rewards'),
    (
      'lengths',
      np.array([0, -1], np.int32),
      'lengths must lie in [0, 5], got -1',
    ),
    (
      'resets_used',
      np.array([3, 0], np.int32),
      'resets_used must lie in [0, 2], got 3',
    ),
    ('num_boundaries', np.array([0, 9], np.int32), None),
  ],
)
def test_wrong_arrays_are_refused(compiled, name, value, message):
  slots = worlds.slots(compiled, 2, threads=1)
  assert compiled.observation_size == 34
  arrays = slots.new_arrays(5)
  arrays |= slots.policy_arrays(*_policy(compiled, 2, 5, hidden=()))
  arrays['reset_rows'] = worlds.Resets(compiled)(np.zeros(2, int), 2)
  slots._native.run(
    [0, 1],
    {
      k: v.copy() if isinstance(v, np.ndarray) else v for k, v in arrays.items()
    },
  )
  if value is None:
    del arrays[name]
  else:
    arrays[name] = value
  with pytest.raises(ValueError) as caught:
    slots._native.run([0, 1], arrays)
  if message:
    assert str(caught.value) == message


@pytest.mark.parametrize('ids', [[2], [-1], [1, 0], [0, 0]])
def test_wrong_slots_are_refused(compiled, ids):
  slots = worlds.slots(compiled, 2)
  arrays = slots.new_arrays(5)
  arrays['reset_rows'] = worlds.Resets(compiled)(np.zeros(2, int), 2)
  with pytest.raises(ValueError, match='ids must be ascending slot numbers'):
    slots._native.run(ids, arrays)


def test_the_interpreter_runs_beside_a_rollout(compiled):
  """The GIL is released: this thread counts while the other simulates."""
  slots = worlds.slots(compiled, 2, threads=1)
  arrays = slots.new_arrays(20000)
  arrays['reset_rows'] = worlds.Resets(compiled)(np.zeros(2, int), 1250)
  done, marks = threading.Event(), []

  def simulate():
    marks.append(time.monotonic())
    slots._native.run([0, 1], arrays)
    marks.append(time.monotonic())
    done.set()

  worker = threading.Thread(target=simulate)
  worker.start()
  ticks = []
  while not done.is_set():
    ticks.append(time.monotonic())
    time.sleep(1e-4)
  worker.join()
  begin, end = marks
  inside = sum(begin < tick < end for tick in ticks)
  assert end - begin > 0.05
  # with the GIL held, at most the switch at either end would fall inside
  assert inside > 20


def test_two_python_threads_share_a_process(compiled):
  """Samplers run at the same time, each as if it were alone."""
  want = _sample(worlds.slots(compiled, 4, (8,)), 400)
  pool = [worlds.slots(compiled, 4, (8,), threads=2) for _ in range(2)]
  results = [None, None]

  def run(i):
    results[i] = _sample(pool[i], 400)

  workers = [threading.Thread(target=run, args=(i,)) for i in range(2)]
  for worker in workers:
    worker.start()
  for worker in workers:
    worker.join()
  for result in results:
    _assert_same(result, want)


def test_model_that_cannot_be_a_row_is_refused(tmp_path):
  xml = worlds.CART.replace(
    'timestep="0.01"/>', 'timestep="0.01"><flag sleep="enable"/></option>'
  )
  compiled = worlds.make(tmp_path, xml)
  with pytest.raises(UserError, match='test: the native sampler cannot run'):
    worlds.slots(compiled, 2)


def test_control_range_needs_limits(tmp_path):
  xml = worlds.CART.replace('ctrlrange="-2 2" ctrllimited="true"', '')
  compiled = worlds.make(tmp_path, xml)
  assert np.isinf(compiled.high[1]) and compiled.high[0] == 3
  with pytest.raises(
    UserError,
    match='needs a ctrlrange on every actuator; use --action_range=raw',
  ):
    worlds.slots(compiled, 2, action_range='control')


def test_physics_alone_repeats_a_rollout(compiled):
  """The benchmark's bare loop steps the same states."""
  slots = worlds.slots(compiled, 2, threads=1)
  start = slots.state()
  arrays = slots.new_arrays(30)
  rng = np.random.default_rng(0)
  arrays['actions'][:] = rng.uniform(-3, 4, arrays['actions'].shape)
  slots.rollout(arrays, worlds.Resets(compiled))
  after = slots.state()
  slots.restore(start)
  arrays['reset_rows'] = worlds.Resets(compiled)(np.zeros(2, int), 10)
  bare_physics.replay_slots(slots, arrays)
  for name, value in start.items():
    np.testing.assert_array_equal(slots.state()[name], value, name)
  assert any((after[k] != start[k]).any() for k in start)
