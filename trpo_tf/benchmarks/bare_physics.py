"""The physics alone of what the native samplers recorded: their speed limit.

A replay starts from the same rows, applies the same actions for the same
lengths, resets at the same steps, computes the same derived quantities, and
runs on the sampler's own threads by the same scheduling (csrc/bench.cc). It
evaluates no policy and no task, checks for no divergence and records nothing.
"""

import numpy as np

from trpo_tf.sampling.native.branching import Brancher, Branches
from trpo_tf.sampling.native.slots import NativeSlots


def replay_slots(slots: NativeSlots, arrays: dict) -> None:
  """Repeats the physics of a rollout.

  Args:
    slots: stand where they stood before the rollout, and stay there.
    arrays: what the rollout recorded; `reset_rows` holds the rows that it
      used, from its first reset on.
  """
  slots._native.replay_physics(arrays)


def replay_branches(
  brancher: Brancher, states: np.ndarray, branches: Branches
) -> None:
  """Repeats the physics of branches.

  Args:
    brancher: ran them.
    states: float64 [N, D], where they began.
    branches: with trajectories.
  """
  arrays = dict(
    snapshots=states, actions=branches.actions, lengths=branches.lengths
  )
  brancher._native.replay_physics(arrays)
