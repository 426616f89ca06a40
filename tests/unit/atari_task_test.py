"""From --task=atari/... to a game, and what is refused."""

import itertools

import ale_py
import gymnasium
import numpy as np
import pytest

from trpo_tf.config import AtariConfig
from trpo_tf.errors import UserError
from trpo_tf.tasks.atari import JOYSTICK, PAPER_GAMES, find_game


def find(name, time_limit=0, **config):
  return find_game(f'atari/{name}', AtariConfig(**config), time_limit)


def test_joystick_has_every_position_once():
  assert JOYSTICK.dtype == np.int32 and JOYSTICK.shape == (3, 3, 2)
  assert sorted(JOYSTICK.ravel()) == list(range(18))
  for h, v, b in itertools.product(range(3), range(3), range(2)):
    name = ale_py.Action(int(JOYSTICK[h, v, b])).name
    assert ('RIGHT' in name) - ('LEFT' in name) == h - 1
    assert ('UP' in name) - ('DOWN' in name) == v - 1
    assert ('FIRE' in name) == b
  assert ale_py.Action(int(JOYSTICK[1, 1, 0])) == ale_py.Action.NOOP


@pytest.mark.parametrize('name', PAPER_GAMES)
def test_paper_games(name):
  game = find(name)
  assert game.name == name and game.factors == (3, 3, 2)
  assert (game.screen, game.rows, game.frame_shape) == (
    (210, 160),
    (1, 209),
    (52, 40),
  )
  assert (game.codes == JOYSTICK).all()
  nature = find(name, atari_observation='nature')
  assert (nature.rows, nature.frame_shape) == ((0, 210), (84, 84))


@pytest.mark.parametrize(
  'name, id_',
  [('pong', 'Pong'), ('breakout', 'Breakout'), ('skiing', 'Skiing')],
)
def test_minimal_actions_are_those_of_gymnasium(name, id_):
  game = find(name, atari_actions='minimal')
  env = gymnasium.make(f'ALE/{id_}-v5').unwrapped
  assert game.factors == (env.action_space.n,)
  assert game.codes.tolist() == [a.value for a in env._action_set]


@pytest.mark.parametrize(
  'name, screen, rows, shape',
  [
    ('air_raid', (250, 160), (1, 249), (62, 40)),
    ('carnival', (214, 160), (1, 213), (53, 40)),
    ('pooyan', (220, 160), (0, 220), (55, 40)),
  ],
)
def test_other_screens_lose_equal_rows_at_either_end(name, screen, rows, shape):
  game = find(name)
  assert (game.screen, game.rows, game.frame_shape) == (screen, rows, shape)


def test_time_limit_is_half_an_hour():
  assert find('pong').time_limit == 27_000
  assert find('pong', frame_skip=1).time_limit == 108_000
  assert find('pong', 50, frame_skip=1).time_limit == 50


@pytest.mark.parametrize('name', ['Hopper-v5', 'CartPole-v1', 'task.py:TASK'])
def test_other_tasks_are_none(name):
  assert find_game(name, AtariConfig()) is None


@pytest.mark.parametrize(
  'name, hint',
  [
    ('pogn', 'did you mean atari/pong?'),
    ('Pong', 'did you mean atari/pong?'),
    ('SpaceInvaders', 'did you mean atari/space_invaders?'),
    ('q_bert', 'did you mean atari/qbert?'),
    ('xyz', 'games: beam_rider, breakout, .* and the other ROMs of ale_py'),
  ],
)
def test_unknown_game(name, hint):
  with pytest.raises(
    UserError,
    match=f'^--task=atari/{name}: no such game; {hint}'.replace('?', r'\?')
    + '$',
  ):
    find(name)


def test_game_without_a_button():
  with pytest.raises(UserError) as caught:
    find('skiing')
  assert str(caught.value) == (
    '--task=atari/skiing takes 9 actions, --atari_actions=joystick needs 18: '
    'use --atari_actions=minimal'
  )


def test_game_for_two_players():
  with pytest.raises(UserError, match='not a game for one player'):
    find('joust')


@pytest.mark.parametrize('content', [None, b'not a game'])
def test_missing_or_damaged_rom(tmp_path, monkeypatch, content):
  if content:
    (tmp_path / 'pong.bin').write_bytes(content)
  monkeypatch.setenv('ALE_ROMS_DIR', str(tmp_path))
  with pytest.raises(
    UserError,
    match='^--task=atari/pong: no ROM .*: reinst'
    'all ale-py, or unset ALE_ROMS_DIR$',
  ) as caught:
    find('pong')
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  'task', ['ALE/Pong-v5', 'Pong-v4', 'PongNoFrameskip-v4', 'ale_py:ALE/Pong-v5']
)
def test_images_of_gymnasium_are_refused(task):
  with pytest.raises(UserError, match=f'{task} observes .* --task=atari/pong$'):
    find_game(task, AtariConfig())


@pytest.mark.parametrize('skip', [4, (2, 5), 1])
def test_second_frame_skip(skip):
  task = f'PongRam{len(gymnasium.registry)}-v0'
  options = dict(game='pong', obs_type='ram', frameskip=skip)
  gymnasium.register(task, 'ale_py.env:AtariEnv', kwargs=options)
  with pytest.raises(UserError) as caught:
    find_game(task, AtariConfig(frame_skip=3))
  expected = (
    f'--task={task} has a frame skip of its own, {skip}, '
    '--frame_skip=3 would be a second one: take --task=atari/pong'
  )
  if isinstance(skip, tuple):  # a random one
    assert str(caught.value) == expected
  else:
    assert str(caught.value) == f'{expected}, or --frame_skip={skip}'
    assert find_game(task, AtariConfig(frame_skip=skip)) is None
