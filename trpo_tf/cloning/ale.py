"""Exact cloning of Atari games, which ALE's cloneState alone does not give.

A recorder between Gymnasium and the emulator makes up for two omissions that
were found in ale-py 0.12.1:

* cloneState leaves out the action that a sticky emulator would repeat. A
  restored game goes on with the last action of the game before it; at a repeat
  probability of 0.9, 9 of 20 random restores went another way. The emulator
  neither tells this action nor accepts one. The recorder repeats the emulator's
  draws (std::mt19937 is NumPy's MT19937), so it knows which actions were
  dropped. Before it loads a state, it acts until the emulator has taken the
  action to repeat.
* cloneState leaves out a frame that is under way and the two frame buffers.
  They matter for a frame or two after a reset: for the game in Q*bert and
  Tetris, and for the screen in Amidar, Koolaid and Trondead. A state of those
  frames is restored by a new reset and the same actions.
"""

import hashlib
from typing import Any

import gymnasium
import numpy as np

from trpo_tf import extras
from trpo_tf.cloning.ale_state import check_state

__all__ = ['AleBase', 'FIRST_FRAMES', 'Recorder']

ale_py = extras.optional('ale_py', 'atari')
roms = extras.optional('ale_py.roms', 'atari')

_Action = tuple[int, float]
_NOOP: _Action = (0, 1.0)
FIRST_FRAMES = 2


class Recorder:
  """An ALEInterface whose states can be restored exactly."""

  def __init__(self, ale: Any):
    """Wraps the emulator `ale`, an ale_py.ALEInterface."""
    self._ale = ale
    self._probability = ale.getFloat('repeat_action_probability')
    self._draws = np.random.MT19937()
    self._sticky = _NOOP
    self._reset_state = b''
    self._first_actions: list[_Action] | None = None

  def __getattr__(self, name: str) -> Any:
    return getattr(self._ale, name)

  def reset_game(self) -> None:
    """Resets the emulator, which then has no action to repeat."""
    self._ale.reset_game()
    self._sticky, self._first_actions = _NOOP, []
    self._reset_state = self._ale.cloneState(include_rng=True).serialize()
    self._follow(self._reset_state)

  def act(self, action: Any, paddle_strength: float = 1.0) -> int:
    """Emulates one frame after one draw for each of the two players.

    Args:
      action: ale_py.Action or its number.
      paddle_strength: strength of a paddle's action, in [0, 1].

    Returns:
      The frame's reward.
    """
    code = getattr(action, 'value', action)  # ale_py.Action or its number
    sent = int(code), float(paddle_strength)
    if self._draws.random_raw(2)[0] >= self._probability * 2.0**32:
      self._sticky = sent
    if self._first_actions is not None:
      self._first_actions.append(sent)
      if len(self._first_actions) == FIRST_FRAMES:
        self._first_actions = None
    return self._ale.act(action, paddle_strength)

  def save(self, include_rng: bool) -> tuple[Any, ...]:
    """Returns the state as plain data, for `restore`.

    Args:
      include_rng: whether the state holds the emulator's random generator.
    """
    state = self._ale.cloneState(include_rng=include_rng).serialize()
    first = self._first_actions
    if first is None or (first and not include_rng):
      return state, self._sticky, None
    return self._reset_state if include_rng else state, self._sticky, [*first]

  def restore(
    self,
    state: bytes,
    sticky: _Action,
    first_actions: list[_Action] | None,
    include_rng: bool,
  ) -> None:
    """Puts the emulator into a saved state.

    Args:
      state: the emulator's state; with first_actions, that after the reset.
      sticky: the action that the emulator would repeat.
      first_actions: actions since a reset a frame or two ago; None if the reset
        was earlier.
      include_rng: whether the state holds the emulator's random generator.
    """
    if first_actions is not None:
      self.reset_game()
      self._load(state, include_rng)
      self._reset_state = state
      for action in first_actions:
        self.act(*action)
      return
    while self._first_actions is not None:
      self.act(*_NOOP)
    if self._sticky != sticky:
      self._load(state, include_rng)
      while self._sticky != sticky:
        self.act(*sticky)
    self._load(state, include_rng)

  def restore_foreign(self, state: Any, own: bytes, include_rng: bool) -> None:
    """Restores a state that may come from anywhere.

    Args:
      state: what `save` should have returned.
      own: a serialised state that an emulator of the same ROM made.
      include_rng: whether both hold the emulator's random generator.

    Raises:
      TypeError: the state is damaged or forged.
      ValueError: the state is damaged or forged.
    """
    data, sticky, first_actions = state
    check_state(data, own, include_rng)
    for action in (sticky, *(first_actions or ())):
      _check_action(action)
    if first_actions is not None and len(first_actions) > FIRST_FRAMES:
      raise ValueError(f'{len(first_actions)} actions since a reset')
    try:
      self.restore(data, sticky, first_actions, include_rng)
    except (RuntimeError, SystemError) as error:
      raise ValueError('an emulator that ALE refuses') from error

  def _load(self, state: bytes, include_rng: bool) -> None:
    self._ale.restoreState(ale_py.ALEState(state))
    if include_rng:
      self._follow(state)

  def _follow(self, state: bytes) -> None:
    # The generator's words are text, before two integers at the end.
    head = state[:-8].rstrip(b' 0123456789')
    words = np.fromstring(state[len(head) : -8], np.uint32, sep=' ')
    self._draws.state = {
      'bit_generator': 'MT19937',
      'state': {'key': words[:-1], 'pos': int(words[-1])},
    }


class AleBase:
  """The state of an ale_py.AtariEnv without its wrappers.

  After a restore the emulator's screen and RAM are those of the frame before,
  until a frame is emulated. They must not be read before a step.
  """

  kind = 'ale'
  version = (
    f'ale-py {ale_py and ale_py.__version__}, gymnasium {gymnasium.__version__}'
  )

  def __init__(self, env: Any, include_rng: bool):
    """Puts the recorder between the environment and its emulator.

    Args:
      env: the environment.
      include_rng: whether states hold the emulator's random generator.

    Raises:
      ValueError: the environment cannot be cloned; the message is a predicate
        of which its class is the subject.
    """
    if env.sound_obs:
      raise ValueError('observes sound, whose state ALE does not give')
    if not isinstance(env.ale, Recorder):
      env.ale = Recorder(env.ale)
    self._env, self._include_rng = env, include_rng
    self._own = env.ale.cloneState(include_rng=include_rng).serialize()
    settings = dict(env._ezpickle_kwargs, render_mode=None)
    rom = roms.get_rom_path(env._game).read_bytes()
    self.model = hashlib.sha256(
      rom + repr((sorted(settings.items()), include_rng)).encode()
    ).hexdigest()

  def save(self) -> Any:
    """Returns the state as plain data."""
    return self._env.ale.save(self._include_rng)

  def load(self, state: Any) -> None:
    """Restores what `save` returned.

    Raises:
      ValueError: it is not a state of this game.
    """
    self._env.ale.restore_foreign(state, self._own, self._include_rng)


def _check_action(action: Any) -> None:
  # Recorder.restore acts until it is repeated, which NaN would never be.
  code, strength = action
  plain = (type(action), type(code), type(strength)) == (tuple, int, float)
  known = plain and 0 <= code < len(ale_py.Action.__members__)
  if not (known and 0 <= strength <= 1):
    raise ValueError(f'an action {action}')
