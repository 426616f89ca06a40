"""A slot is a plain loop over the emulator, and goes on anywhere."""

import dataclasses
import hashlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import plain_atari
import pytest

from trpo_tf import seeding
from trpo_tf.config import AtariConfig
from trpo_tf.errors import UserError
from trpo_tf.sampling.atari.emulator import AtariSlot, EpisodeStarts
from trpo_tf.sampling.batch import End
from trpo_tf.seeding import Stream
from trpo_tf.tasks.atari import PAPER_GAMES, find_game

SEED, INDEX = 5, 3


def find(name, time_limit=0, **config):
  return find_game(f'atari/{name}', AtariConfig(**config), time_limit)


def make(game, index=INDEX):
  """A slot at the start of its first episode, and its frame."""
  slot = AtariSlot(game, EpisodeStarts(game), SEED, index)
  frame = np.zeros(game.frame_shape, np.uint8)
  slot.begin(frame)
  return slot, frame


def play(slot, frame, codes):
  """What each step gave, its frame as bytes; the next game's if one ended."""
  results = []
  for code in codes:
    step = slot.step(code)
    if step.ends:
      slot.begin(frame)
    else:
      screen = slot._starts.screen
      screen.write_frame(frame, screen.count)
    results.append((*step, frame.tobytes()))
  return results


def random_codes(count, seed=0):
  return np.random.default_rng(seed).integers(18, size=count).tolist()


def plain_noops(game, episode):
  if not game.config.noop_max:
    return 0
  draws = seeding.generator(SEED, Stream.ENVIRONMENT, INDEX, episode)
  return draws.integers(1, game.config.noop_max + 1)


def plain_begin(game, episode):
  """The emulator at the start of an episode, and the first frame."""
  noops = plain_noops(game, episode)
  ale = plain_atari.emulator(game, noops=max(noops, 2))
  if noops < 2:  # a reset of a running game, which Beam Rider can tell
    ale.reset_game()
    for _ in range(noops):
      ale.act(0)
  return ale, plain_atari.frame(game, ale.getScreenGrayscale())


def plain_play(game, codes):
  """The first frame, and what `play` returns: every game a fresh emulator."""
  results, episode, elapsed = [], 0, 0
  ale, begun = plain_begin(game, episode)
  for code in codes:
    reward, over, life_lost, frame = plain_atari.step(game, ale, code)
    elapsed += 1
    ends = End.TERMINATED * over | End.TRUNCATED * (elapsed == game.time_limit)
    if ends:
      episode, elapsed = episode + 1, 0
      ale, frame = plain_begin(game, episode)
    results.append((reward, ends, life_lost, frame.tobytes()))
  return begun, results


@pytest.mark.parametrize(
  'name, time_limit, config',
  [
    ('pong', 90, {}),
    ('breakout', 0, {}),
    ('beam_rider', 60, dict(atari_observation='nature', noop_max=3)),
    ('seaquest', 0, dict(frame_skip=7, noop_max=200)),
    ('qbert', 40, dict(frame_skip=1, noop_max=0)),
    ('tetris', 40, dict(frame_skip=2, noop_max=1)),
  ],
  ids=lambda value: value if isinstance(value, str) else '',
)
def test_slot_is_a_plain_loop(name, time_limit, config):
  game = find(name, time_limit, **config)
  codes = random_codes(300)
  slot, frame = make(game)
  begun, expected = plain_play(game, codes)
  assert (frame == begun).all()
  actual = play(slot, frame, codes)
  for number, (a, b) in enumerate(zip(actual, expected, strict=True)):
    assert a == b, number
  rewards, ends, lives_lost, frames = zip(*actual, strict=True)
  assert sum(e != 0 for e in ends) >= 1
  if time_limit:
    assert End.TRUNCATED in ends
  if name in ('breakout', 'seaquest'):
    assert End.TERMINATED in ends and sum(lives_lost) >= 3 and any(rewards)
  assert len(set(frames)) > 15


def test_game_over_at_the_time_limit_is_both():
  codes = random_codes(400)
  lengths = [
    number + 1
    for number, step in enumerate(play(*make(find('breakout')), codes))
    if step[1]
  ]
  game = find('breakout', time_limit=lengths[0])
  ends = [step[1] for step in play(*make(game), codes[: lengths[0]])]
  assert ends == [0] * (lengths[0] - 1) + [End.TERMINATED | End.TRUNCATED]


def test_sticky_actions_are_the_emulators():
  game = find('breakout', sticky_actions=0.4)
  codes = random_codes(150)
  slot, frame = make(game)
  noops = plain_noops(game, 0)
  start = plain_atari.emulator(game, noops=noops).cloneState()
  seed = seeding.derived_seed(SEED, Stream.ENVIRONMENT, INDEX, 0, 1)
  ale = plain_atari.emulator(game, seed, noops=2)  # beyond its first frames
  ale.restoreState(start)
  actual = play(slot, frame, codes)
  for code, step in zip(codes, actual, strict=True):
    reward, over, life_lost, expected = plain_atari.step(game, ale, code)
    assert not over and step == (reward, 0, life_lost, expected.tobytes())
  free = dataclasses.replace(game, config=AtariConfig())
  assert play(*make(free), codes) != actual


def test_sticky_episodes_draw_anew():
  game = find('breakout', 40, sticky_actions=0.4, noop_max=1)
  codes = random_codes(40)
  slot, frame = make(game)
  first, second = play(slot, frame, codes), play(slot, frame, codes)
  assert first[-1][1] == second[-1][1] == End.TRUNCATED
  assert first != second
  assert play(*make(game), codes + codes) == first + second


def test_slots_begin_by_their_own_noops():
  game = find('pong')
  starts = {make(game, index)[0].save() for index in range(4)}
  assert len(starts) == 4


def _go_on(name, config, state, codes):
  """Loads a state in the middle of another game; a digest of every step."""
  slot, frame = make(find(name, **config))
  play(slot, frame, random_codes(9, seed=7))
  slot.load(state)
  return _digests(play(slot, frame, codes))


def _digests(steps):
  return [(*step[:3], hashlib.sha256(step[3]).hexdigest()) for step in steps]


@pytest.fixture(scope='module')
def elsewhere():
  context = multiprocessing.get_context('spawn')
  with ProcessPoolExecutor(1, context) as executor:
    yield lambda *arguments: executor.submit(_go_on, *arguments).result(120)


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, config',
  [
    *[(name, {}) for name in PAPER_GAMES],
    ('seaquest', dict(sticky_actions=0.25)),
    ('qbert', dict(sticky_actions=0.6, atari_observation='nature')),
  ],
  ids=str,
)
def test_another_process_goes_on_for_500_steps(elsewhere, name, config):
  codes = random_codes(560)
  slot, frame = make(find(name, **config))
  play(slot, frame, codes[:60])
  state = slot.save()
  expected = _digests(play(slot, frame, codes[60:]))
  actual = elsewhere(name, config, state, codes[60:])
  for number, (a, b) in enumerate(zip(actual, expected, strict=True)):
    assert a == b, number
  if name != 'enduro':  # where random play overtakes nobody
    assert any(step[0] for step in expected)


@pytest.mark.slow
@pytest.mark.parametrize('sticky', [0, 0.5])
@pytest.mark.parametrize('name', ['qbert', 'tetris', 'amidar'])
@pytest.mark.parametrize('noop_max', [0, 1, 2])
def test_first_frames_after_a_reset_are_saved(name, noop_max, sticky):
  game = find(name, frame_skip=1, noop_max=noop_max, sticky_actions=sticky)
  codes = random_codes(14)
  slot, frame = make(game)
  other, unused = make(game, index=INDEX + 1)
  for number in range(4):
    state, before = slot.save(), frame.copy()
    expected = play(slot, frame, codes)
    for junk in (0, 1, 12):
      play(other, unused, codes[:junk])
      other.load(state)
      assert other.save() == state
      again = before.copy()
      assert play(other, again, codes) == expected, (number, junk)
    slot.load(state)
    play(slot, frame, codes[number : number + 1])


def test_state_of_another_game_is_refused():
  slot, _ = make(find('pong'))
  other, _ = make(find('breakout'))
  with pytest.raises(UserError, match='stored emulator is .*pong.* is .*break'):
    other.load(slot.save())
