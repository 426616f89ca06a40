"""A process that plays at random: python -m trpo_tf.benchmarks.bare_emulator.

This is the speed limit of an Atari sampler: emulator frames without an
observation, a policy or a record. For every line with a number n on standard
input, the process emulates n frames and then prints a line.
"""

import sys

import ale_py
import numpy as np

__all__ = ['BareEmulator']

_ACTIONS = 4096
_NOOPS = 60


class BareEmulator:
  """An emulator that plays at random."""

  def __init__(self, rom: str):
    """Starts the emulator of a ROM, given its file."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    self._ale = ale_py.ALEInterface()
    self._ale.setFloat('repeat_action_probability', 0.0)
    self._ale.loadROM(rom)
    for _ in range(_NOOPS):
      self._ale.act(0)
    self._start = self._ale.cloneState()  # a reset takes twenty env steps
    self._rng = np.random.default_rng(0)
    self._legal = [action.value for action in self._ale.getLegalActionSet()]

  def play(self, frames: int) -> None:
    """Emulates frames and begins a game anew where one ends."""
    ale = self._ale
    actions = self._rng.choice(self._legal, _ACTIONS).tolist()
    for i in range(frames):
      ale.act(actions[i // 4 % _ACTIONS])  # as with a frame skip of 4
      if ale.game_over():
        ale.restoreState(self._start)


def main() -> None:
  """Plays the ROM whose file is the first argument."""
  emulator = BareEmulator(sys.argv[1])
  for line in sys.stdin:
    emulator.play(int(line))
    print(flush=True)


if __name__ == '__main__':
  main()
