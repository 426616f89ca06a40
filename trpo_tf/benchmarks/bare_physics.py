"""Replays only the physics of recorded samples: the native speed limit.

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
    slots: the simulations, in their state before the rollout, which does not
      change.
    arrays: the records of the rollout; `reset_rows` holds the rows that it
      used, from its first reset on.
  """
  slots._native.replay_physics(arrays)


def replay_branches(
  brancher: Brancher, states: np.ndarray, branches: Branches
) -> None:
  """Repeats the physics of branches.

  Args:
    brancher: the Brancher that ran them.
    states: float64 [N, D], where they began.
    branches: the branches, with trajectories.
  """
  arrays = dict(
    snapshots=states, actions=branches.actions, lengths=branches.lengths
  )
  brancher._native.replay_physics(arrays)
