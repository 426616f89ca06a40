"""Native branches against their trunks, a pure-Python oracle and themselves."""

import functools
import subprocess
import sys

import mujoco
import networks
import numpy as np
import pytest
import worlds
from oracle import Slots, Start, network

from trpo_tf.cloning import native as native_state
from trpo_tf.config import SamplerConfig
from trpo_tf.sampling.batch import End
from trpo_tf.sampling.draws import ResetTable
from trpo_tf.sampling.native.branching import Brancher, initial_snapshots
from trpo_tf.sampling.native.paths import NativePathSampler
from trpo_tf.tasks import language as lang
from trpo_tf.tasks.gymnasium_v5 import TASKS
from trpo_tf.tasks.task import Definition, compile_task, uniform_reset

_SLOTS, _STEPS = 3, 160
# the others have nothing to touch
_TOUCHING = {
  'Ant-v5',
  'HalfCheetah-v5',
  'Hopper-v5',
  'Humanoid-v5',
  'HumanoidStandup-v5',
  'Pusher-v5',
  'Walker2d-v5',
}
_ENDING = {
  'Ant-v5',
  'Hopper-v5',
  'Humanoid-v5',
  'InvertedPendulum-v5',
  'InvertedDoublePendulum-v5',
  'Walker2d-v5',
}
every_task = pytest.mark.parametrize('name', sorted(TASKS))


@functools.cache
def trunk(name) -> worlds.Trunk:
  return worlds.trunk(compile_task(TASKS[name]), _SLOTS, _STEPS)


@functools.cache
def oracle(name) -> tuple[Slots, dict]:
  """The oracle, and its own records of the trunk's second batch."""
  t = trunk(name)
  slots = Slots(t.compiled, _SLOTS, first_limits=t.limits)
  resets = ResetTable(t.compiled, 0)
  slots.rollout(t.earlier.actions, resets)
  return slots, slots.rollout(t.batch.actions, resets)


def brancher(t: worlds.Trunk, threads=2) -> Brancher:
  return Brancher(t.compiled, t.actor.policy, threads=threads)


def places(name, count, horizon) -> np.ndarray:
  """Slots and steps of states [count, 2], some of them just before an end."""
  t = trunk(name)
  rng = np.random.default_rng(1)
  free = np.argwhere(np.ones((_SLOTS, _STEPS - horizon)))
  chosen = rng.permutation(free)[:count]
  ends = np.argwhere(t.batch.ends[:, : _STEPS - horizon] == End.TERMINATED)
  near = ends[: count // 3] - [0, 3]
  near = near[near[:, 1] >= 0]
  chosen[: len(near)] = near
  return chosen


def draws(name, N, K, M, L, seed=2):
  """First actions and noise."""
  rng = np.random.default_rng(seed)
  A = trunk(name).compiled.action_size
  return (
    0.7 * rng.standard_normal((N, K, A)),
    rng.standard_normal((N, M, L, A)),
  )


def run(name, chosen, actions, noise, *, own=None, **options):
  """Branches of a trunk's states with everything recorded."""
  t = trunk(name)
  options = dict(gamma=0.97, trajectories=True, final_states=True) | options
  return (own or brancher(t)).branch(
    t.states[tuple(chosen.T)],
    actions,
    noise.shape[2],
    t.actor,
    noise,
    **options,
  )


def assert_same(a, b, index=np.s_[:]):
  """Every array of b, and those of a at `index`, byte by byte."""
  compared = 0
  for name, value in vars(b).items():
    if isinstance(value, np.ndarray):
      assert getattr(a, name)[index].tobytes() == value.tobytes(), name
      compared += 1
  assert compared == 10


def assert_return(total, rewards, gamma):
  """By the definition, within the rounding of a sum of that many products."""
  terms = [gamma**t * r for t, r in enumerate(rewards)]
  bound = 3 * len(terms) * 2.0**-53 * sum(map(abs, terms))
  assert abs(total - sum(terms)) <= bound


@every_task
def test_trunk_is_the_same_with_snapshots(name):
  t = trunk(name)
  config = SamplerConfig(batch_steps=_SLOTS * _STEPS, num_slots=_SLOTS)
  sampler = NativePathSampler(
    t.compiled, t.actor.policy, worlds.experiment(config)
  )
  sampler.sample(t.actor.theta, worlds.actor(t.compiled).normalizer, 0)
  plain = sampler.sample(t.actor.theta, t.actor.normalizer, 1)
  for field in ('observations', 'actions', 'rewards', 'ends', 'log_probs'):
    want = getattr(plain, field)
    assert getattr(t.batch, field).tobytes() == want.tobytes(), field


def _assert_state(compiled, row, start: Start):
  """A native state holds what the oracle had; `prev`s in any order."""
  size, O = len(start.row), compiled.observation_size
  assert row[:size].tobytes() == start.row.tobytes()
  assert row[size:][:O].tobytes() == start.observation.tobytes()
  before = np.concatenate(
    [np.zeros(0), *(value.ravel() for value in start.before.values())]
  )
  np.testing.assert_array_equal(np.sort(row[size + O : -1]), np.sort(before))
  assert row[-1] == start.elapsed


@pytest.mark.slow
@every_task
def test_states_hold_what_the_environment_had(name):
  """Row, observation, previous values and elapsed steps of all states."""
  t, (_, records) = trunk(name), oracle(name)
  for field in ('observations', 'rewards', 'ends'):
    want = records[field].tobytes()
    assert getattr(t.batch, field).tobytes() == want, field
  assert len(records['starts']) == _SLOTS * _STEPS
  for place, start in records['starts'].items():
    _assert_state(t.compiled, t.states[place], start)


@every_task
def test_branch_repeats_its_trunk(name):
  """Given the trunk's own action and noise; many starts and all ends."""
  t, L = trunk(name), 25
  chosen = places(name, 60, L)
  noise = np.stack([t.noise[s, i : i + L] for s, i in chosen])[:, None]
  first = t.batch.actions[tuple(chosen.T)][:, None]
  got = run(name, chosen, first, noise)
  ended = whole = 0
  for n, (s, i) in enumerate(chosen):
    ends = t.batch.ends[s, i : i + L]
    steps = int(np.argmax(ends != 0)) + 1 if ends.any() else L
    for field in ('observations', 'actions', 'rewards'):
      want = getattr(t.batch, field)[s, i : i + steps]
      assert getattr(got, field)[n, 0, 0, :steps].tobytes() == want.tobytes()
    if ends[steps - 1] == End.TERMINATED:
      ended += 1
      assert got.lengths[n, 0, 0] == steps
      assert got.ends[n, 0, 0] == End.TERMINATED
      assert not got.rewards[n, 0, 0, steps:].any()
      assert_return(got.returns[n, 0, 0], got.rewards[n, 0, 0, :steps], 0.97)
    elif not ends.any():
      whole += 1
      assert (got.lengths[n, 0, 0], got.ends[n, 0, 0]) == (L, 0)
      want = t.states[s, i + L]
      assert got.final_states[n, 0, 0].tobytes() == want.tobytes()
      observation = t.batch.observations[s, i + L]
      assert got.final_observations[n, 0, 0].tobytes() == observation.tobytes()
  assert (ended > 0) == (name in _ENDING) and ended + whole > 30


@pytest.mark.slow
@every_task
def test_oracle_repeats_branches(name):
  """Other first actions than the trunk's; the policy acts from there."""
  t, (slots, records) = trunk(name), oracle(name)
  N, K, M, L = 6, 2, 2, 20
  chosen = places(name, N, L)
  actions, noise = draws(name, N, K, M, L)
  got = run(name, chosen, actions, noise)
  touched = 0
  for b in np.ndindex(N, K, M):
    length = got.lengths[b]
    start = records['starts'][tuple(chosen[b[0]])]
    want = slots.branch(start, got.actions[b][:length])
    assert length == len(want['rewards'])
    assert length == L or want['end']
    assert got.ends[b] == want['end']
    assert got.observations[b][:length].tobytes() == (
      want['observations'].tobytes()
    )
    assert got.rewards[b][:length].tobytes() == want['rewards'].tobytes()
    assert_return(got.returns[b], want['rewards'], 0.97)
    last = want['reached'].observation.astype(np.float32)
    assert got.final_observations[b].tobytes() == last.tobytes()
    _assert_state(t.compiled, got.final_states[b], want['reached'])
    touched += (want['contacts'] > 0).sum()
  assert (touched > 0) == (name in _TOUCHING)


@every_task
def test_actions_are_the_given_ones_then_the_policys(name):
  """Mean of a float64 network plus the deviation times the shared noise."""
  t = trunk(name)
  A, net = t.compiled.action_size, t.actor.policy.network
  N, K, M, L = 8, 3, 2, 15
  chosen = places(name, N, L)
  actions, noise = draws(name, N, K, M, L)
  got = run(name, chosen, actions, noise)
  deviation = np.exp(t.actor.theta[-A:].astype(np.float64))
  sizes = net.input_size, *net.hidden_sizes, net.output_size
  for n, k, m in np.ndindex(N, K, M):
    length = got.lengths[n, k, m]
    taken = got.actions[n, k, m, :length]
    assert taken[0].tobytes() == actions[n, k].tobytes()
    x = networks.normalized(
      t.actor.normalizer, got.observations[n, k, m, 1:length]
    )
    mean = network(t.actor.theta[:-A], sizes, 'tanh', x)
    error = taken[1:] - (mean + deviation * noise[n, m, 1:length])
    assert (np.abs(error) <= 1e-5 * np.maximum(1, np.abs(mean))).all()
  assert got.lengths.max() > 5


@pytest.mark.slow
@every_task
def test_other_threads_orders_and_junk_give_the_same_bytes(name):
  t = trunk(name)
  N, K, M, L = 9, 3, 2, 12
  chosen = places(name, N, L)
  actions, noise = draws(name, N, K, M, L)
  want = run(name, chosen, actions, noise, own=brancher(t, 1))
  rng = np.random.default_rng(5)
  for threads in (1, 2, 4):
    own = brancher(t, threads)
    assert own._native.num_threads == threads
    junk = places(name, 9, 30)[::-1]
    wild = run(name, junk, *draws(name, 9, 2, 1, 30, seed=9), own=own)
    assert wild.lengths.sum() > 50
    assert_same(run(name, chosen, actions, noise, own=own), want)
    order = rng.permutation(N)
    shuffled = run(name, chosen[order], actions[order], noise[order], own=own)
    assert_same(want, shuffled, order)


@every_task
def test_branches_do_not_depend_on_each_other(name):
  """States, actions and trials in subsets, and each branch alone."""
  N, K, M, L = 4, 3, 3, 10
  chosen = places(name, N, L)
  actions, noise = draws(name, N, K, M, L)
  own = brancher(trunk(name))
  want = run(name, chosen, actions, noise, own=own)
  for n, k, m in ([3, 1], [2], [0, 2]), ([0], [2, 0, 1], [1]):
    part = run(name, chosen[n], actions[n][:, k], noise[n][:, m], own=own)
    assert_same(want, part, np.ix_(n, k, m))
  # and the trials are different ones
  long = (want.lengths > 1).all(axis=2)
  last = want.final_observations[long]
  assert len(last) and (last[:, 0] != last[:, 1]).any(axis=1).all()


@every_task
def test_equal_first_actions_earn_the_same(name):
  N, K, M, L = 5, 4, 2, 15
  chosen = places(name, N, L)
  actions, noise = draws(name, N, 1, M, L)
  got = run(name, chosen, np.repeat(actions, K, axis=1), noise)
  alone = run(name, chosen, actions, noise)
  for k in range(K):
    assert_same(got, alone, np.s_[:, [k]])


@every_task
def test_initial_snapshots_are_resets(name):
  """Restored and moved forward they are what the oracle resets to."""
  compiled = trunk(name).compiled
  snapshots = initial_snapshots(compiled, 3, 4)
  states = native_state.to_states(compiled, snapshots)
  slots = Slots(compiled, 4)
  idle = np.zeros((4, 1, compiled.action_size))
  records = slots.rollout(idle, ResetTable(compiled, 3))
  for s in range(4):
    _assert_state(compiled, states[s], records['starts'][s, 0])
  assert len(set(snapshots)) == 4
  assert snapshots[:2] == initial_snapshots(compiled, 3, 2)
  assert not set(snapshots) & set(initial_snapshots(compiled, 4, 4))


def test_a_step_that_fails_drops_no_initial_snapshot(tmp_path):
  def define(sim):
    return Definition(sim.qpos, lang.log(lang.prev(sim.qpos[0])))

  compiled = worlds.make(tmp_path, define=define, reset=uniform_reset(1, 0))
  found = native_state.to_states(compiled, initial_snapshots(compiled, 0, 64))
  rows = ResetTable(compiled, 0)(np.zeros(64, int), 1)[:, 0]
  nq = compiled.model.nq
  assert (rows[:, 0] < 0).any()
  np.testing.assert_array_equal(found[:, 1 : 1 + nq], rows[:, :nq])


@pytest.mark.parametrize('busy', [False, True])
def test_a_brancher_refuses_to_run_in_a_fork(busy):
  # a half-cheetah never falls, so its branches are as long as they are told
  program = """
import os
import signal
import sys
import threading
import time
import numpy as np
import trpo_tf
busy = sys.argv[1] == 'True'
task = trpo_tf.native_task('HalfCheetah-v5')
states = trpo_tf.initial_snapshots(task, seed=0, count=2)
brancher = trpo_tf.Brancher(task, threads=2)
actions = np.zeros((2, 2, 6))
brancher.branch(states, actions, 2)
if busy:  # the fork copies a lock that is held
  noise = np.zeros((2, 1, 10**6, 6))
  call = threading.Thread(
    target=brancher.branch,
    args=(states, actions, 10**6),
    kwargs=dict(noise=noise),
    daemon=True,
  )
  begun = time.process_time()
  call.start()
  while time.process_time() - begun < 0.5:  # this thread sleeps
    time.sleep(0.01)
if child := os.fork():
  os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
signal.alarm(60)
try:
  brancher.branch(states, actions, 2)
except ValueError as error:
  assert 'make them after the fork' in str(error)
  del brancher
  trpo_tf.Brancher(task, threads=2).branch(states, actions, 2)
  os._exit(7)
"""
  command = [sys.executable, '-c', program, str(busy)]
  done = subprocess.run(command, timeout=120)
  assert done.returncode == 7


def test_a_program_may_end_while_a_thread_branches():
  """Only the main thread looks for signals, as the interpreter may be gone."""
  program = """
import threading
import time
import numpy as np
import trpo_tf
task = trpo_tf.native_task('HalfCheetah-v5')
states = trpo_tf.initial_snapshots(task, seed=0, count=2)
brancher = trpo_tf.Brancher(task, threads=2)
long = 10**6
noise = np.zeros((2, 1, long, 6))
begun = time.process_time()
threading.Thread(
  target=brancher.branch,
  args=(states, np.zeros((2, 2, 6)), long),
  kwargs=dict(noise=noise),
  daemon=True,
).start()
while time.process_time() - begun < 0.5:  # this thread sleeps
  time.sleep(0.01)
"""
  done = subprocess.run([sys.executable, '-c', program], timeout=120)
  assert done.returncode == 0


def test_a_row_alone_would_not_restore_ant():
  """The starts are ones where recomputed values differ from those kept."""
  t = trunk('Ant-v5')
  model, data = t.compiled.model, mujoco.MjData(t.compiled.model)
  _, records = oracle('Ant-v5')
  differing = 0
  for start in records['starts'].values():
    mujoco.mj_setState(
      model, data, start.row, mujoco.mjtState.mjSTATE_INTEGRATION
    )
    mujoco.mj_forward(model, data)
    torso = data.xpos[1][0]
    differing += not any(torso == x.ravel()[0] for x in start.before.values())
  assert differing > 100
