"""Exact cloning of Atari games: what ALE's cloneState leaves out.

A recorder between Gymnasium and the emulator makes up for two omissions that
were found in ale-py 0.12.1:

* The action that a sticky emulator would repeat. A restored game goes on with
  the one that the other game had last (9 of 20 random restores at a repeat
  probability of 0.9 went another way), and the emulator neither tells nor
  takes it. The recorder repeats the emulator's draws (std::mt19937 is NumPy's
  MT19937 too), so it knows which actions were dropped; before a state is
  loaded it acts until the action to repeat has been taken.
* A frame that is under way and the two frame buffers. They matter for a frame
  or two after a reset (Q*bert, Tetris: the game; Amidar, Koolaid, Trondead:
  the screen), so a state of those frames is restored by living through the
  reset again.
"""

import hashlib
from typing import Any

import ale_py
import gymnasium
import numpy as np
from ale_py import roms

__all__ = ['AleBase', 'FIRST_FRAMES', 'Recorder']

_Action = tuple[int, float]
_NOOP: _Action = (0, 1.0)
FIRST_FRAMES = 2


class Recorder:
  """An ALEInterface whose states can be restored exactly."""

  def __init__(self, ale: ale_py.ALEInterface):
    self._ale = ale
    self._probability = ale.getFloat('repeat_action_probability')
    self._draws = np.random.MT19937()
    self._sticky = _NOOP
    self._reset_state = b''
    self._first_actions: list[_Action] | None = None

  def __getattr__(self, name: str) -> Any:
    return getattr(self._ale, name)

  def reset_game(self) -> None:
    """As the emulator's; it ends with no action to repeat."""
    self._ale.reset_game()
    self._sticky, self._first_actions = _NOOP, []
    self._reset_state = self._ale.cloneState(include_rng=True).serialize()
    self._follow(self._reset_state)

  def act(self, action: Any, paddle_strength: float = 1.0) -> int:
    """As the emulator's: one draw for either player, then one frame."""
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
    """The state as plain data, for `restore`."""
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
    """Makes the emulator what it was.

    Args:
      state: the emulator's; with first_actions, the one after the reset.
      sticky: the action that it would repeat.
      first_actions: since the reset, if that was a frame or two ago.
      include_rng: the state holds its random generator.
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

  def _load(self, state: bytes, include_rng: bool) -> None:
    self._ale.restoreState(ale_py.ALEState(state))
    if include_rng:
      self._follow(state)

  def _follow(self, state: bytes) -> None:
    # the generator's words as text, before two integers at the end
    head = state[:-8].rstrip(b' 0123456789')
    words = np.fromstring(state[len(head) : -8], np.uint32, sep=' ')
    self._draws.state = {
      'bit_generator': 'MT19937',
      'state': {'key': words[:-1], 'pos': int(words[-1])},
    }


class AleBase:
  """State of an ale_py.AtariEnv without its wrappers.

  After a restore the emulator's screen and RAM are those of the frame before,
  until a frame is emulated: nothing is to be read from them before a step.
  """

  kind = 'ale'
  version = f'ale-py {ale_py.__version__}, gymnasium {gymnasium.__version__}'

  def __init__(self, env: ale_py.AtariEnv, include_rng: bool):
    """Puts the recorder between the environment and its emulator.

    Args:
      env: the environment.
      include_rng: states hold the emulator's random generator.

    Raises:
      ValueError: what cannot be cloned, as a clause about the class.
    """
    if env.sound_obs:
      raise ValueError('observes sound, whose state ALE does not give')
    if not isinstance(env.ale, Recorder):
      env.ale = Recorder(env.ale)
    self._env, self._include_rng = env, include_rng
    settings = dict(env._ezpickle_kwargs, render_mode=None)
    rom = roms.get_rom_path(env._game).read_bytes()
    self.model = hashlib.sha256(
      rom + repr((sorted(settings.items()), include_rng)).encode()
    ).hexdigest()

  def save(self) -> Any:
    """The state as plain data."""
    return self._env.ale.save(self._include_rng)

  def load(self, state: Any) -> None:
    """Restores what `save` returned."""
    self._env.ale.restore(*state, self._include_rng)
