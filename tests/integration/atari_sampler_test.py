"""Batches of Atari games: what they hold, whoever samples them."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection

import numpy as np
import pytest
import worlds
from plain_atari import Policy, choices, forged_chip, forged_slot

from trpo_tf import seeding
from trpo_tf.config import AtariConfig, SamplerConfig
from trpo_tf.errors import UserError
from trpo_tf.sampling.atari import pool, watchdog
from trpo_tf.sampling.atari.emulator import AtariSlot, EpisodeStarts
from trpo_tf.sampling.atari.paths import AtariPathSampler
from trpo_tf.sampling.batch import End
from trpo_tf.seeding import Stream
from trpo_tf.tasks.atari import find_game

SEED = 7
# episodes that end in every way: clipped rewards, lost lives, a time limit
QBERT = dict(
  name='qbert', time_limit=90, life_loss_ends_return=True, clip_rewards=True
)


def make(
  workers=2,
  slots=5,
  steps=150,
  whole=False,
  name='seaquest',
  time_limit=0,
  **config,
):
  game = find_game(f'atari/{name}', AtariConfig(**config), time_limit)
  policy = Policy(game)
  settings = SamplerConfig(
    num_slots=slots,
    batch_steps=slots * steps,
    whole_episodes=whole,
    sampler_threads=workers,
  )
  return AtariPathSampler(
    game, policy, worlds.experiment(settings, SEED)
  ), policy


def sample(made, iteration, **options):
  sampler, policy = made
  return sampler.sample(policy.theta, None, iteration, **options)


def to_bytes(batch):
  fields = {
    name: field.tobytes() if isinstance(field, np.ndarray) else field
    for name, field in vars(batch).items()
  }
  del fields['deaths']
  return fields


@pytest.fixture(scope='module')
def reference():
  """A sampler of two workers, its state after a batch, and three batches."""
  made = make(**QBERT)
  batches = [sample(made, 0)]
  state = made[0].state()
  return made, state, [*batches, sample(made, 1), sample(made, 2)]


@pytest.mark.slow
@pytest.mark.parametrize('workers', [1, 3])
def test_number_of_workers_changes_nothing(reference, workers):
  _, _, batches = reference
  made = make(workers, **QBERT)
  assert len(made[0].pool.process_ids) == workers
  for iteration, expected in enumerate(batches[:2]):
    assert to_bytes(sample(made, iteration)) == to_bytes(expected)


def test_workers_are_out_of_the_reach_of_ctrl_c():
  made = make(2, **QBERT)
  groups = [os.getpgid(process) for process in made[0].pool.process_ids]
  assert os.getpgid(0) not in groups


def test_default_is_a_worker_for_each_core():
  cores = len(os.sched_getaffinity(0))
  made = make(0, slots=cores + 1)
  assert len(made[0].pool.process_ids) == cores


def replay(game, slot, batches):
  """Plays a slot's actions; compares rewards, ends, timesteps and stacks.

  Returns:
    Raw returns and lengths of the games that ended in each batch.
  """
  player = AtariSlot(game, EpisodeStarts(game), SEED, slot)
  frame = np.zeros(game.frame_shape, np.uint8)
  player.begin(frame)
  stack = np.zeros((*game.frame_shape, 4), np.uint8)
  stack[..., 3] = frame
  games, raw, timestep = [], 0, 0
  for batch in batches:
    games.append([])
    boundaries = {
      tuple(place): rows
      for place, rows in zip(
        batch.boundary_index, batch.boundary_observations, strict=True
      )
    }
    for t in range(batch.lengths[slot]):
      assert (batch.stacks(batch.observations[slot, t]) == stack).all()
      code = game.codes[tuple(batch.actions[slot, t])]
      reward, ends, life_lost = player.step(int(code))
      player._starts.screen.write_frame(frame, 2)
      raw, timestep = raw + reward, timestep + 1
      end = ends | End.TERMINATED * life_lost
      assert batch.rewards[slot, t] == np.sign(reward)
      assert batch.ends[slot, t] == end
      assert batch.timesteps[slot, t] == timestep - 1
      stack = np.append(stack[..., 1:], frame[..., None], -1)
      if end == End.TRUNCATED:
        assert (batch.stacks(boundaries.pop((slot, t))) == stack).all()
      if ends:
        games[-1].append((raw, timestep))
        raw, timestep = 0, 0
        player.begin(frame)
        stack[:] = 0
        stack[..., 3] = frame
    assert (batch.stacks(batch.last_observations[slot]) == stack).all()
    assert not [place for place in boundaries if place[0] == slot]
  return games


def test_batch_is_what_the_slots_played(reference):
  (sampler, _), _, batches = reference
  slots = [replay(sampler.game, s, batches) for s in range(5)]
  for number, batch in enumerate(batches):
    finished = [game for slot in slots for game in slot[number]]
    ends = list(zip(batch.episode_returns, batch.episode_lengths, strict=True))
    assert ends == finished
    assert batch.lengths.tolist() == [150] * 5 and batch.num_steps == 750
    assert batch.kept.all()
    truncated = batch.ends == End.TRUNCATED
    assert len(batch.boundary_index) == truncated.sum() > 3
    lost = (batch.ends == End.TERMINATED) & (batch.timesteps < 89)
    assert lost.sum() > 3 and (batch.episode_lengths == 90).any()
    # scores are raw, what is learned from is not
    assert set(np.unique(batch.rewards)) == {0, 1}
    assert batch.episode_returns.max() >= 50


def test_actions_are_the_policys(reference):
  (sampler, policy), _, batches = reference
  batch = batches[2]
  logits = policy(batch.stacks(batch.observations))
  np.testing.assert_array_equal(batch.outputs, logits)
  assert logits.std((0, 1)).min() > 0.04
  noise = np.stack(
    [
      seeding.generator(SEED, Stream.ACTION_NOISE, 2, s).random((256, 3))[:150]
      for s in range(5)
    ]
  ).reshape(750, 3)
  actions, log_probs = choices(
    sampler.game.factors, logits.reshape(750, -1), noise
  )
  assert (batch.actions.reshape(750, 3) == actions).all()
  assert len(np.unique(actions, axis=0)) == 18
  np.testing.assert_allclose(batch.log_probs.ravel(), log_probs, 2e-6)


def test_deterministic_actions_are_the_likeliest():
  batch = sample(make(slots=2, steps=40), 0, deterministic=True)
  for factor, part in enumerate(np.split(batch.outputs, [3, 6], -1)):
    assert (batch.actions[..., factor] == part.argmax(-1)).all()


def test_frames_are_stored_once(reference):
  _, _, batches = reference
  for number, batch in enumerate(batches):
    assert batch.frames.dtype == np.uint8
    assert batch.frames.shape[1:] == (52, 40)
    # black, those of the observations at the start, one a step, and those
    # after which a game was truncated
    held = 5 if number == 0 else np.minimum(batch.timesteps[:, 0] + 1, 4).sum()
    cuts = len(batch.boundary_index)
    assert len(batch.frames) == 1 + held + 750 + cuts
    assert batch.frames.base is None and not batch.frames[0].any()
    assert batch.observations.dtype == np.int32
    # so 100,000 steps take a quarter of a gigabyte
    arrays = [v for v in vars(batch).values() if isinstance(v, np.ndarray)]
    assert sum(array.nbytes for array in arrays) < 2500 * 750


def test_restored_sampler_goes_on(reference):
  _, state, batches = reference
  assert all(value.dtype != object for value in state.values())
  made = make(1, **QBERT)
  sample(made, 5)
  made[0].restore(state)
  for iteration in (1, 2):
    assert to_bytes(sample(made, iteration)) == to_bytes(batches[iteration])


def test_state_before_the_first_batch(reference):
  _, _, batches = reference
  made = make(**QBERT)
  state = made[0].state()
  sample(made, 3)
  made[0].restore(state)
  assert to_bytes(sample(made, 0)) == to_bytes(batches[0])


def test_state_that_does_not_fit_is_refused(reference):
  _, state, _ = reference
  sampler, _ = make(slots=4)
  with pytest.raises(ValueError, match=r'\(5, .* this sampler needs \(4, '):
    sampler.restore(state)
  sampler, _ = make(name='pong')
  with pytest.raises(UserError, match='stored emulator is .* begin anew'):
    sampler.restore(state)


def _other(place, value):
  return lambda values: [*values[:place], value, *values[place + 1 :]]


def _other_state(change):
  return lambda values: [*values[:5], change(*values[5])]


@pytest.mark.parametrize(
  'change',
  [
    _other_state(
      lambda data, *rest: (forged_chip(data, b'M6532', 0, 2**20), *rest)
    ),
    _other_state(lambda data, *rest: (forged_chip(data, b'TIA', 19, 5), *rest)),
    _other_state(lambda data, *rest: (data[:-1], *rest)),
    _other_state(lambda data, *rest: (None, *rest)),
    _other_state(
      lambda data, sticky, first, rng: (data, (0, float('nan')), first, rng)
    ),
    _other_state(
      lambda data, sticky, first, rng: (data, sticky, [(0, 1.0)] * 9, rng)
    ),
    _other_state(lambda data, sticky, first, rng: (data, sticky, first, False)),
    _other_state(lambda *state: None),
    _other_state(lambda *state: state[:3]),
    _other(1, 0),
    _other(2, 2**70),
    _other(3, -1),
    _other(3, 90),
    _other(3, True),
    _other(4, 'x'),
    lambda values: values[:-1],
    lambda values: values[:1],
  ],
)
def test_a_forged_state_reaches_no_worker(reference, change):
  (sampler, _), state, _ = reference
  sampler.restore(state)
  with pytest.raises(UserError, match='the stored emulator is damaged'):
    sampler.restore(forged_slot(state, change))
  now = sampler.state()
  assert all(np.array_equal(now[name], state[name]) for name in state)


def kill(sampler, worker=0):
  os.kill(sampler.pool.process_ids[worker], signal.SIGKILL)


@pytest.mark.parametrize('results', [1, 2])
def test_dead_worker_is_reported_and_its_work_done_again(
  reference, monkeypatch, results
):
  made, state, batches = reference
  sampler = made[0]
  sampler.restore(state)
  killed = sampler.pool.process_ids[1]
  receive, received = pool._Worker.receive, []

  def fatal(worker):
    received.append(receive(worker))
    if len(received) == results:
      kill(sampler, 1)
    return received[-1]

  monkeypatch.setattr(pool._Worker, 'receive', fatal)
  batch = sample(made, 1)
  (death,) = batch.deaths
  assert re.fullmatch(
    f'worker process {killed} was killed by SIGKILL, with slot [0-4]', death
  )
  assert to_bytes(batch) == to_bytes(batches[1])
  following = sample(made, 2)
  assert following.deaths == ()
  assert to_bytes(following) == to_bytes(batches[2])


def test_stopped_worker_is_killed_and_its_work_done_again(
  reference, monkeypatch
):
  _, state, batches = reference
  monkeypatch.setattr(watchdog, '_TICK', 0.02)
  made = make(**QBERT)
  sampler = made[0]
  sampler.restore(state)
  stopped = sampler.pool.process_ids[1]
  os.kill(stopped, signal.SIGSTOP)
  batch = sample(made, 1)
  sampler.pool.close()
  (death,) = batch.deaths
  assert f'{stopped} was stopped by a signal, did not go on' in death
  assert to_bytes(batch) == to_bytes(batches[1])


def test_worker_that_goes_on_is_not_given_up(reference, monkeypatch):
  _, state, batches = reference
  monkeypatch.setattr(watchdog, '_TICK', 0.02)
  monkeypatch.setattr(watchdog, '_PATIENCE', 10**6)
  made = make(**QBERT)
  sampler = made[0]
  sampler.restore(state)
  stopped = sampler.pool.process_ids[1]
  os.kill(stopped, signal.SIGSTOP)
  goes_on = threading.Timer(0.5, os.kill, (stopped, signal.SIGCONT))
  goes_on.start()
  batch = sample(made, 1)
  goes_on.join()
  assert batch.deaths == ()
  assert to_bytes(batch) == to_bytes(batches[1])


def test_worker_that_dies_in_the_middle_of_a_result(reference, monkeypatch):
  made, state, batches = reference
  made[0].restore(state)
  receive, killed = Connection.recv_bytes_into, []

  def fatal(connection, buffer):
    if not killed:
      worker = next(
        w for w in made[0].pool._workers if w.connection is connection
      )
      killed.append(worker.process.pid)
      worker.process.kill()
      worker.process.wait()  # the pipe does not hold all of its frames
    return receive(connection, buffer)

  with monkeypatch.context() as patch:
    patch.setattr(Connection, 'recv_bytes_into', fatal)
    batch = sample(made, 1)
  assert len(batch.deaths) == len(killed) == 1
  assert to_bytes(batch) == to_bytes(batches[1])


def test_a_signal_to_the_whole_program_is_not_for_the_workers(reference):
  made, state, batches = reference
  made[0].restore(state)
  for process in made[0].pool.process_ids:
    os.kill(process, signal.SIGTERM)
    os.kill(process, signal.SIGINT)
  batch = sample(made, 1)
  assert batch.deaths == () and to_bytes(batch) == to_bytes(batches[1])


def test_a_policy_of_another_size_is_no_policy(reference, capfd):
  made, state, _ = reference
  made[0].restore(state)
  with pytest.raises(UserError, match='exited with code 1'):
    made[0].sample(made[1].theta[:-1], None, 1)
  assert 'theta should have shape' in capfd.readouterr().err


def test_worker_that_died_between_batches(reference):
  made, state, batches = reference
  made[0].restore(state)
  kill(made[0])
  batch = sample(made, 1)
  assert len(batch.deaths) == 1 and to_bytes(batch) == to_bytes(batches[1])


def test_workers_that_die_again_and_again(reference, monkeypatch):
  made, state, batches = reference
  made[0].restore(state)
  send = pool._Worker.send

  def fatal(worker, message):
    send(worker, message)
    if message[0] == 'path':
      worker.process.kill()

  with monkeypatch.context() as patch:
    patch.setattr(pool._Worker, 'send', fatal)
    with pytest.raises(UserError) as caught:
      sample(made, 1)
  message = str(caught.value)
  assert message.startswith('--task=atari/qbert: worker process ')
  deaths = len(made[0].pool.process_ids) + 2
  assert message.count('was killed by SIGKILL') == deaths
  assert 'given up' in message and '\n' not in message
  batch = sample(made, 1)  # fresh workers once more
  assert batch.deaths == () and to_bytes(batch) == to_bytes(batches[1])


def test_whole_episodes_begin_and_end_with_a_game():
  made = make(slots=3, steps=20, whole=True, name='breakout')
  for iteration in range(2):
    batch = sample(made, iteration)
    assert len(set(batch.lengths)) > 1 and (batch.lengths >= 20).all()
    assert not batch.kept.all()
    for s, length in enumerate(batch.lengths):
      assert batch.kept[s].sum() == length and batch.kept[s, :length].all()
      assert batch.timesteps[s, 0] == 0 and batch.ends[s, length - 1]
      ends = np.flatnonzero(batch.ends[s, :length])
      assert (ends[:-1] < 19).all()
      for field in ('observations', 'outputs', 'rewards', 'log_probs'):
        assert not getattr(batch, field)[s, length:].any()
    assert batch.num_steps == batch.lengths.sum() == batch.kept.sum()
    assert (batch.last_observations[:, :3] == 0).all()
    logits = made[1](batch.stacks(batch.observations))
    np.testing.assert_array_equal(batch.outputs[batch.kept], logits[batch.kept])


def test_single_slot_and_nature_frames():
  made = make(slots=1, steps=30, atari_observation='nature', frame_skip=2)
  assert len(made[0].pool.process_ids) == 1
  batch = sample(made, 0)
  assert batch.frames.shape[1:] == (84, 84) and batch.num_steps == 30
  logits = made[1](batch.stacks(batch.observations))
  np.testing.assert_array_equal(batch.outputs, logits)


@pytest.mark.parametrize('actions', ['joystick', 'minimal'])
def test_uniform_play_of_enduro_is_rewarded_with_the_joystick_alone(actions):
  sampler, policy = make(
    name='enduro', slots=1, steps=3300, atari_actions=actions
  )
  batch = sampler.sample(np.zeros_like(policy.theta), None, 0)
  # the car drives while the button is held: half of the steps, or a third
  assert (batch.rewards != 0).any() == (actions == 'joystick')


def test_a_batch_without_observations_has_all_the_rest():
  (whole, _), (blind, _) = mades = [make(whole=True, **QBERT) for _ in range(2)]
  blind.keeps_observations = False
  with_frames, without = (sample(made, 0) for made in mades)
  assert without.frames.shape == (1, 52, 40) and not without.observations.any()
  assert (with_frames.ends == End.TRUNCATED).any()
  for name in (
    'actions',
    'outputs',
    'rewards',
    'ends',
    'episode_returns',
    'boundary_index',
  ):
    np.testing.assert_array_equal(
      getattr(without, name), getattr(with_frames, name)
    )
  np.testing.assert_equal(blind.state(), whole.state())


def test_first_episodes_are_staggered():
  S, most = 5, 40
  (plain, _), (cut, policy) = mades = [
    make(name='qbert', slots=S, steps=60, stagger_steps=stagger)
    for stagger in (0, most)
  ]
  whole, staggered = (sample(made, 0) for made in mades)
  assert not whole.ends.any() and not len(staggered.episode_returns)
  for slot, limit in enumerate((8, 16, 24, 32, 40)):
    ends = np.flatnonzero(staggered.ends[slot])
    assert ends.tolist() == [limit - 1]
    assert staggered.ends[slot, limit - 1] == End.TRUNCATED
    assert staggered.timesteps[slot, limit] == 0
    for name in ('actions', 'outputs', 'rewards'):
      np.testing.assert_array_equal(
        getattr(staggered, name)[slot, :limit],
        getattr(whole, name)[slot, :limit],
      )
  np.testing.assert_array_equal(
    staggered.boundary_index, [(s, 8 * (s + 1) - 1) for s in range(S)]
  )
  # the second episodes are not cut, and evaluations are not staggered
  assert not sample((cut, policy), 1).ends.any()
  evaluated, _ = make(
    name='qbert', stagger_steps=most, steps=1, time_limit=50, whole=True
  )
  assert (evaluated.sample(policy.theta, None, 0).lengths == 50).all()


def test_a_game_that_ends_without_an_action_is_refused():
  sampler, _ = made = make(name='pong', noop_max=9000, slots=4, steps=1)
  with pytest.raises(
    UserError, match='noop_max: the game is over .* at most'
  ) as e:
    sample(made, 0)
  longest = int(str(e.value).rsplit(' ', 1)[1])
  sampler.close()
  sample(make(name='pong', noop_max=longest, slots=4, steps=1), 0)


def test_workers_import_nothing_from_the_working_directory(
  tmp_path, monkeypatch
):
  (tmp_path / 'numpy.py').write_text('raise SystemExit(3)')
  monkeypatch.chdir(tmp_path)
  assert sample(make(slots=1, steps=5), 0).num_steps == 5


def is_gone(process):
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return True
  return False


def test_workers_end_with_their_sampler():
  sampler, _ = made = make(slots=2)
  processes = sampler.pool.process_ids
  sampler.close()
  assert all(map(is_gone, processes)) and sampler.pool.process_ids == []
  sampler, _ = made = make(slots=2)
  processes = sampler.pool.process_ids
  del sampler, made
  assert len(processes) == 2 and all(map(is_gone, processes))


_PROGRAM = """
import os, signal
from trpo_tf.config import AtariConfig
from trpo_tf.sampling.atari.jobs import WorkerConfig
from trpo_tf.sampling.atari.pool import Pool
from trpo_tf.tasks.atari import find_game
game = find_game('atari/pong', AtariConfig())
pool = Pool(WorkerConfig(game, 0, (16, 16), (20,), 0), 2)
print(*pool.process_ids, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_their_program():
  result = subprocess.run(
    [sys.executable, '-c', _PROGRAM], capture_output=True, text=True
  )
  assert result.returncode == -signal.SIGKILL, result.stderr
  processes = list(map(int, result.stdout.split()))
  deadline = time.monotonic() + 60
  while not all(map(is_gone, processes)):
    assert time.monotonic() < deadline
    time.sleep(0.05)


def test_workers_stay_small():
  program = """
import sys
import trpo_tf.sampling.atari.worker
print({'tensorflow', 'mujoco', 'tensorflow_probability'} & set(sys.modules))
"""
  result = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True, check=True
  )
  assert result.stdout.strip() == 'set()'
