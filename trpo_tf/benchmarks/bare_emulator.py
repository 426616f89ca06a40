"""A process that plays at random: python -m trpo_tf.benchmarks.bare_emulator.

This is the speed limit of an Atari sampler: emulator frames without an
observation, a policy or a record. For every line with a number n on standard
input, the process emulates n frames and then prints a line.
"""

import sys

import ale_py
import numpy as np

_ACTIONS = 4096
_NOOPS = 60


def main() -> None:
  """Plays the ROM whose file is the first argument."""
  ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
  ale = ale_py.ALEInterface()
  ale.setFloat('repeat_action_probability', 0.0)
  ale.loadROM(sys.argv[1])
  for _ in range(_NOOPS):
    ale.act(0)
  start = ale.cloneState()  # a reset takes as long as twenty env steps
  rng = np.random.default_rng(0)
  legal = [action.value for action in ale.getLegalActionSet()]
  for line in sys.stdin:
    actions = rng.choice(legal, _ACTIONS).tolist()
    for i in range(int(line)):
      ale.act(actions[i // 4 % _ACTIONS])  # as with a frame skip of 4
      if ale.game_over():
        ale.restoreState(start)
    print(flush=True)


if __name__ == '__main__':
  main()
