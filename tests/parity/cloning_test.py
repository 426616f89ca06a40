"""MuJoCo and Atari environments go on bit for bit after a restore."""

import multiprocessing

import ale_py
import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv

from trpo_tf.cloning import packing
from trpo_tf.cloning.check import check_cloning
from trpo_tf.cloning.cloner import cloner
from trpo_tf.cloning.mujoco import DataNumbers
from trpo_tf.errors import UserError
from trpo_tf.tasks.gymnasium_v5 import TASKS

gymnasium.register_envs(ale_py)

# otherwise an episode of random actions ends before the feet hit the ground
ENDLESS = dict.fromkeys(
  ('Ant-v5', 'Hopper-v5', 'Humanoid-v5', 'Walker2d-v5'),
  {'terminate_when_unhealthy': False},
)
TOUCHING = {
  'Ant-v5',
  'HalfCheetah-v5',
  'Hopper-v5',
  'Humanoid-v5',
  'HumanoidStandup-v5',
  'Pusher-v5',
  'Walker2d-v5',
}
GAMES = ('Pong', 'Breakout', 'Seaquest', 'Qbert')


def mujoco_env(name):
  options = ENDLESS.get(name, {})
  return cloner(gymnasium.make(name, **options), name)


def atari(game, **options):
  return cloner(gymnasium.make(f'ALE/{game}-v5', **options), game)


def walk(env, steps, seed=0):
  """A trajectory of random actions; returns what packs its results."""
  rng = np.random.default_rng(seed)
  space = env.action_space
  results = []
  for _ in range(steps):
    if isinstance(space, gymnasium.spaces.Discrete):
      action = int(rng.integers(space.n))
    else:
      action = rng.uniform(space.low, space.high).astype(space.dtype)
    results.append(packing.pack(env.step(action)[:4]))
  return results


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(TASKS))
def test_mujoco_restores_exactly(name):
  assert check_cloning(lambda: mujoco_env(name), steps=320, snapshots=5) == []


@pytest.mark.parametrize('name', sorted(TASKS))
def test_mujoco_goes_on_for_200_steps_in_another_instance(name):
  first, second = mujoco_env(name), mujoco_env(name)
  first.reset(seed=1)
  walk(first, 60)
  snapshot = first.snapshot()
  second.reset(seed=2)
  walk(second, 35, seed=9)
  second.restore(snapshot)
  touched = 0
  for block in range(11):
    assert walk(second, 20, block) == walk(first, 20, block)
    touched += first.unwrapped.data.ncon
  assert (touched > 0) == (name in TOUCHING)


def numbers(data):
  """Every floating-point array and flag that MuJoCo's Python shows."""
  for name in dir(data):
    value = getattr(data, name)
    if isinstance(value, np.ndarray) and value.dtype in (float, bool):
      yield name, value


@pytest.mark.parametrize('name', ['Ant-v5', 'Humanoid-v5', 'Pusher-v5'])
def test_state_holds_all_numbers_but_those_of_constraints(name):
  env = mujoco_env(name).unwrapped
  env.reset(seed=0)
  walk(env, 60)
  while not env.data.ncon:
    walk(env, 1)
  state = DataNumbers(env.model, env.data).save()
  other = gymnasium.make(name).unwrapped
  other.reset(seed=1)
  walk(other, 3)
  restoring = DataNumbers(other.model, other.data)
  restoring.load(state)
  restored = dict(numbers(other.data))
  assert other.data.time == env.data.time
  assert not other.data.ncon and not other.data.nefc
  left_out = set()
  for key, value in numbers(env.data):
    if restored[key].tobytes() != value.tobytes():
      left_out.add(key)
  prefixes = 'efc_', 'iefc_', 'efm_', 'solver_', 'ifrc_', 'iacc'
  assert all(key.startswith(prefixes) for key in left_out), left_out
  with pytest.raises(ValueError, match='an mjData of'):
    restoring.load(state[:-1])


class Tiring(HopperEnv):
  """A user's subclass: it keeps a counter that the reward depends on."""

  def reset_model(self):
    self.worn = 0
    return super().reset_model()

  def step(self, action):
    self.worn += 1
    observation, reward, *rest = super().step(action)
    return observation, reward - self.worn, *rest


class Plugged(HopperEnv):
  def __init__(self):
    super().__init__()
    self.port = object()


def test_mujoco_subclass_attributes_are_part_of_the_state():
  assert check_cloning(lambda: cloner(Tiring(), 'X'), steps=100) == []


def test_mujoco_subclass_with_more_than_data_is_refused():
  reason = r'class Plugged keeps in \.port what cannot be stored \(a .*object'
  with pytest.raises(UserError, match=reason):
    cloner(Plugged(), 'X')


def test_mujoco_model_is_part_of_the_header():
  heavy = gymnasium.make('Hopper-v5')
  heavy.unwrapped.model.body_mass[1] *= 2
  first, second = mujoco_env('Hopper-v5'), cloner(heavy, 'X')
  first.reset(seed=0)
  second.reset(seed=0)
  with pytest.raises(UserError, match='has model'):
    second.restore(first.snapshot())


@pytest.mark.slow
@pytest.mark.parametrize('sticky', [0, 0.6])
@pytest.mark.parametrize('game', GAMES)
def test_atari_restores_exactly(game, sticky):
  def make():
    return atari(game, repeat_action_probability=sticky, frameskip=2)

  assert check_cloning(make, steps=100, snapshots=4) == []


@pytest.mark.slow
@pytest.mark.parametrize(
  'options',
  [
    dict(obs_type='ram', frameskip=(2, 5)),
    dict(continuous=True, obs_type='grayscale', max_num_frames_per_episode=90),
  ],
  ids=str,
)
def test_atari_variants_restore_exactly(options):
  assert (
    check_cloning(lambda: atari('Breakout', **options), steps=60, snapshots=4)
    == []
  )


@pytest.mark.slow
def test_atari_frame_stack_restores_exactly():
  def make():
    env = gymnasium.make('ALE/Pong-v5', obs_type='grayscale')
    return cloner(wrappers.FrameStackObservation(env, 4), 'X')

  assert check_cloning(make, steps=40, snapshots=4) == []


def test_atari_preprocessing_restores_exactly():
  pytest.importorskip('cv2')

  def make():
    env = gymnasium.make('ALE/Breakout-v5', frameskip=1)
    env = wrappers.AtariPreprocessing(env, terminal_on_life_loss=True)
    return cloner(wrappers.FrameStackObservation(env, 4), 'X')

  assert check_cloning(make, steps=200, snapshots=4) == []


@pytest.mark.slow
@pytest.mark.parametrize('game', ['Qbert', 'Tetris', 'Koolaid'])
def test_atari_restores_the_first_frames_after_a_reset(game):
  first, second = (atari(game, frameskip=1) for _ in range(2))
  for steps in range(4):
    first.reset(seed=1)
    walk(first, steps)
    snapshot = first.snapshot()
    expected = walk(first, 8)
    for junk in (0, 1, 20):
      second.reset(seed=7)
      walk(second, junk)
      second.restore(snapshot)
      assert walk(second, 8) == expected, (steps, junk)


def test_atari_without_generator():
  first, second = (
    cloner(
      gymnasium.make('ALE/Breakout-v5', repeat_action_probability=0.5),
      'X',
      include_rng=False,
    )
    for _ in range(2)
  )
  first.reset(seed=1)
  walk(first, 30)
  snapshot = first.snapshot()

  def branch(env, seed):
    env.reset(seed=seed)
    env.restore(snapshot)
    return walk(env, 30)

  assert branch(first, 5) == branch(second, 5) != branch(second, 6)


def test_atari_sound_is_refused():
  with pytest.raises(UserError, match='class AtariEnv observes sound'):
    atari('Pong', sound_obs=True)


def _continue_elsewhere(make, snapshot, steps, connection):
  env = make()
  observation = packing.pack(env.restore(snapshot))
  connection.send((observation, walk(env, steps)))


def _seaquest():
  return atari('Seaquest', obs_type='ram', repeat_action_probability=0.5)


def _humanoid():
  return mujoco_env('Humanoid-v5')


@pytest.mark.parametrize('make', [_seaquest, _humanoid])
def test_second_process_goes_on(make):
  env = make()
  observation, _ = env.reset(seed=4)
  walk(env, 50)
  snapshot = env.snapshot()
  observation = packing.pack(env.restore(snapshot))
  here, there = multiprocessing.get_context('spawn').Pipe()
  process = multiprocessing.get_context('spawn').Process(
    target=_continue_elsewhere, args=(make, snapshot, 60, there)
  )
  process.start()
  assert here.poll(120), 'the process died'
  result = here.recv()
  process.join()
  assert result == (observation, walk(env, 60))
