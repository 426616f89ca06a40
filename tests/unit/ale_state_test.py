"""What could lead ALE's decoder out of its memory is refused."""

import dataclasses

import ale_py
import gymnasium
import pytest
from plain_atari import forged_chip

from trpo_tf.cloning import packing
from trpo_tf.cloning.ale_state import check_state
from trpo_tf.cloning.cloner import cloner
from trpo_tf.errors import UserError

gymnasium.register_envs(ale_py)


@pytest.fixture(scope='module')
def games():
  return {}


def _moved(games, game):
  if game not in games:
    env = cloner(gymnasium.make(f'ALE/{game}-v5'), game)
    env.reset(seed=0)
    for _ in range(10):
      env.step(0)
    games[game] = env
  return games[game]


@pytest.mark.parametrize(
  ('game', 'chip', 'at', 'value'),
  [
    ('Pong', b'M6532', 0, 2**20),
    ('Pong', b'M6532', 130, 40),
    ('Pong', b'TIA', 30, 16),
    ('Pong', b'TIA', 45, 30_000),
    ('Pong', b'TIA', 41, 2**32 - 1),
    ('Asterix', b'CartridgeF8', 0, 2),
    ('Jamesbond', b'CartridgeE0', 0, 5),
    ('Jamesbond', b'CartridgeE0', 4, 8),
    ('Pitfall2', b'CartridgeDPC', 0, 9),
    ('Pitfall2', b'CartridgeDPC', 1, 9),
    ('Pitfall2', b'CartridgeDPC', 27, 2048),
    ('Darkchambers', b'CartridgeF6SC', 0, 4),
    ('Darkchambers', b'CartridgeF6SC', 1, 129),
    ('ElevatorAction', b'CartridgeF8SC', 1, 2**31),
  ],
)
def test_forged_chips_are_refused(games, game, chip, at, value):
  env = _moved(games, game)
  state = env.unwrapped.ale.cloneState(include_rng=True).serialize()
  check_state(state, state, True)
  own = state
  state = forged_chip(state, chip, at, value)
  with pytest.raises(ValueError, match=f'wrong {chip.decode()}'):
    check_state(state, own, True)


@pytest.mark.parametrize(
  'forge',
  [
    lambda state: b'',
    lambda state: state[:5000],
    lambda state: state + b'\0\0\0\0',
    lambda state: state.replace(b'M6532', b'M6533'),
    lambda state: state.replace(b' ', b'x', 1),
    lambda state: state.replace(b' ', b'1', 1),
    lambda state: state[:82] + b'9' + state[82:],
    lambda state: state[:-12] + b'999' + state[-9:],
    lambda state: bytes(len(state)),
  ],
)
def test_forged_states_are_refused(games, forge):
  env = _moved(games, 'Pong')
  own = env.unwrapped.ale.cloneState(include_rng=True).serialize()
  with pytest.raises(ValueError, match='an emulator'):
    check_state(forge(own), own, True)


@pytest.mark.parametrize(
  ('sticky', 'first'),
  [
    ((0, float('nan')), None),
    ((99, 1.0), None),
    ((0, 7.0), None),
    ([0, 1.0], None),
    ((0, 1.0), [(0, 1.0)] * 1000),
    ((0, 1.0), [(-1, 1.0)]),
  ],
)
def test_forged_actions_are_refused(games, sticky, first):
  env = _moved(games, 'Pong')
  snapshot = env.snapshot()
  values = packing.unpack(snapshot.data)
  values[3] = values[3][0], sticky, first
  forged = dataclasses.replace(snapshot, data=packing.pack(values))
  with pytest.raises(UserError, match='the snapshot is damaged or forged'):
    env.restore(forged)
  env.restore(snapshot)


def test_what_ale_itself_refuses_is_one_line(games):
  """A flag that is neither true nor false, which ALE raises as it loads."""
  env = _moved(games, 'Pong')
  snapshot = env.snapshot()
  values = packing.unpack(snapshot.data)
  state = forged_chip(values[3][0], b'TIA', 19, 5)
  values[3] = state, *values[3][1:]
  forged = dataclasses.replace(snapshot, data=packing.pack(values))
  with pytest.raises(UserError, match='an emulator that ALE refuses'):
    env.restore(forged)
  env.restore(snapshot)
