"""Atari games of the Arcade Learning Environment: --task=atari/pong."""

import dataclasses
import difflib
import functools
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from trpo_tf import extras
from trpo_tf.config import AtariConfig
from trpo_tf.errors import UserError

__all__ = [
  'Game',
  'JOYSTICK',
  'PAPER_GAMES',
  'PREFIX',
  'find_game',
  'suggestion',
]

ale_py = extras.optional('ale_py', 'atari')  # registers Gymnasium's games
roms = extras.optional('ale_py.roms', 'atari')

PAPER_GAMES = (
  'beam_rider',
  'breakout',
  'enduro',
  'pong',
  'qbert',
  'seaquest',
  'space_invaders',
)
STACK = 4  # frames of an observation
PREFIX = 'atari/'
_LONGEST = 108_000  # emulator frames of an episode, half an hour of play
_ACTIONS = 18
_GYMNASIUM = 'ale_py.env:AtariEnv'  # entry point of Gymnasium's games


def _joystick() -> np.ndarray:
  """Returns ALE's action for each position of the joystick and its button.

  Returns:
    int32 [3, 3, 2]: left, middle, right; down, middle, up; button up, down.
  """
  names = [
    [f'{v}{h}{b}' or 'NOOP' for b in ('', 'FIRE')]
    for h in ('LEFT', '', 'RIGHT')
    for v in ('DOWN', '', 'UP')
  ]
  codes = [[ale_py.Action.__members__[n].value for n in row] for row in names]
  return np.array(codes, np.int32).reshape(3, 3, 2)


JOYSTICK = _joystick() if ale_py else np.zeros((3, 3, 2), np.int32)


@dataclasses.dataclass(frozen=True)
class Game:
  """A game and how it is seen and played.

  Attributes:
    name: name of the ROM.
    rom: path of the ROM.
    screen: height and width of the emulator's screen, in pixels.
    rows: first and last (exclusive) row of the screen that is seen.
    frame_shape: height H and width W of a frame, in pixels.
    factors: number of choices of each discrete factor of an action.
    codes: int32 of shape `factors`, ALE's actions.
    time_limit: env steps after which an episode is truncated.
    config: the settings.
  """

  name: str
  rom: str
  screen: tuple[int, int]
  rows: tuple[int, int]
  frame_shape: tuple[int, int]
  factors: tuple[int, ...]
  codes: np.ndarray
  time_limit: int
  config: AtariConfig

  @property
  def resolved(self) -> dict[str, object]:
    """The values that follow from the settings, for the record of a run."""
    return dict(
      game=self.name,
      frame_shape=self.frame_shape,
      ale_actions=self.codes.tolist(),
      time_limit=self.time_limit,
      ale_py=ale_py.__version__,
    )

  @property
  def text(self) -> str:
    """A line that says how the game is seen and played."""
    config, (height, width) = self.config, self.frame_shape
    actions = ' x '.join(map(str, self.factors))
    over = 'life' if config.life_loss_ends_return else 'game'
    return (
      f'{PREFIX}{self.name}: {STACK} frames of {height} x {width}, {actions} '
      f'actions, {config.frame_skip} emulator frames an env step, up to '
      f'{config.noop_max} no-ops, sticky actions {config.sticky_actions:g}, a '
      f'return ends with a {over} or after {self.time_limit:,} env steps, '
      f'{"signs of" if config.clip_rewards else "raw"} rewards'
    )


def find_game(
  task: str,
  config: AtariConfig,
  time_limit: int = 0,
  keywords: Mapping[str, Any] | None = None,
) -> Game | None:
  """Finds a game.

  Args:
    task: 'atari/' and the name of a ROM of ale_py.
    config: settings of how the game is seen and played.
    time_limit: env steps; 0 for as many as 108,000 emulator frames give.
    keywords: arguments of gymnasium.make for a game of Gymnasium.

  Returns:
    The game; None if the task is not an Atari game.

  Raises:
    UserError: the game or its ROM does not exist, or the game lacks the
      actions; or the task is no game but settings of games are given; or it is
      a game of Gymnasium with a different frame skip of its own.
  """
  if not task.startswith(PREFIX):
    _check_other_task(task, config, keywords or {})
    return None
  extras.require('ale_py', 'atari', f'--task={task}')
  name = task.removeprefix(PREFIX)
  rom = _rom_path(task, name)
  screen, legal, minimal = _properties(rom)
  codes = JOYSTICK if config.atari_actions == 'joystick' else minimal
  if not np.isin(codes, legal).all():
    raise UserError(
      f'--task={task} takes {len(legal)} actions, --atari_actions=joystick '
      f'needs {_ACTIONS}: use --atari_actions=minimal'
    )
  height, width = screen
  rows, frame_shape = (0, height), (84, 84)
  if config.atari_observation == 'paper':
    # 210 rows are no multiple of 4, so one row at either end is left out.
    top = height % 4 // 2
    rows = top, top + height // 4 * 4
    frame_shape = height // 4, width // 4
  return Game(
    name=name,
    rom=rom,
    screen=screen,
    rows=rows,
    frame_shape=frame_shape,
    factors=codes.shape,
    codes=codes,
    time_limit=time_limit or max(1, _LONGEST // config.frame_skip),
    config=config,
  )


def suggestion(name: str) -> str | None:
  """Returns the task of a game; None if there is none of this name.

  Args:
    name: a game, such as 'Pong', or its Gymnasium id, such as 'ALE/Pong-v5'.
  """
  identifier = name.rpartition(':')[2]
  spec = gymnasium.registry.get(identifier)
  if spec is not None and spec.entry_point == _GYMNASIUM:
    return PREFIX + spec.kwargs['game']
  if identifier.startswith('ALE/'):
    extras.require('ale_py', 'atari', f'--task={name}')
  if not ale_py:
    return None
  game = identifier.rpartition('/')[2].lower()
  return PREFIX + game if game in roms.get_all_rom_ids() else None


def _check_other_task(
  task: str, config: AtariConfig, keywords: Mapping[str, Any]
) -> None:
  """Raises UserError if settings of games do not fit this other task."""
  spec = gymnasium.registry.get(task.rpartition(':')[2])
  if spec is not None and spec.entry_point == _GYMNASIUM:
    chosen = spec.kwargs | dict(keywords)
    if chosen.get('obs_type') != 'ram':
      raise UserError(
        f'--task={task} observes images, which need the convolutions of the '
        f'tasks {PREFIX}GAME: take --task={PREFIX}{spec.kwargs["game"]}'
      )
    _check_frame_skip(task, chosen, config.frame_skip)
    config = dataclasses.replace(config, frame_skip=AtariConfig().frame_skip)
  for field in dataclasses.fields(AtariConfig):
    if getattr(config, field.name) != getattr(AtariConfig(), field.name):
      raise UserError(
        f'--{field.name} is for --task={PREFIX}..., not for '
        f'--task={task}: leave it out'
      )


def _check_frame_skip(
  task: str, chosen: Mapping[str, Any], frame_skip: int
) -> None:
  skip = chosen.get('frameskip', 4)  # 4 is AtariEnv's default
  if skip != frame_skip:
    same = f', or --frame_skip={skip}' if isinstance(skip, int) else ''
    raise UserError(
      f'--task={task} has a frame skip of its own, {skip}, '
      f'--frame_skip={frame_skip} would be a second one: take '
      f'--task={PREFIX}{chosen["game"]}{same}'
    )


def _rom_path(task: str, name: str) -> str:
  known = roms.get_all_rom_ids()
  if name not in known:
    close = difflib.get_close_matches(name.lower(), known, 1)
    hint = (
      f'did you mean {PREFIX}{close[0]}?'
      if close
      else (f'games: {", ".join(PAPER_GAMES)} and the other ROMs of ale_py')
    )
    raise UserError(f'--task={task}: no such game; {hint}')
  try:
    path = str(roms.get_rom_path(name))
  except OSError as error:
    raise UserError(
      f'--task={task}: no ROM ({" ".join(str(error).split())}): reinstall '
      'ale-py, or unset ALE_ROMS_DIR'
    ) from error
  if ale_py.ALEInterface.isSupportedROM(path) != name:
    raise UserError(
      f'--task={task}: ale_py has its ROM, but not its rewards: '
      'it is not a game for one player'
    )
  return path


@functools.lru_cache(maxsize=8)
def _properties(rom: str) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
  """Returns the screen's height and width, legal actions, minimal actions."""
  ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
  ale = ale_py.ALEInterface()
  ale.loadROM(rom)
  height, width = ale.getScreenDims()
  legal, minimal = (
    np.array([action.value for action in actions], np.int32)
    for actions in (ale.getLegalActionSet(), ale.getMinimalActionSet())
  )
  return (height, width), legal, minimal
