"""The state of a native task, as a row of doubles and as a Snapshot.

A row [D] holds MuJoCo's integration state (time, position, velocity, warm
start, ...), the observation and the prev() values as the environment had them,
and the elapsed env steps. The observation and the prev() values are kept
because they cannot be recomputed: an integrator leaves derived quantities at an
earlier stage than a new mj_forward would.
"""

from collections.abc import Sequence

import mujoco
import numpy as np

from trpo_tf.cloning.snapshot import Snapshot
from trpo_tf.errors import UserError
from trpo_tf.tasks.task import CompiledTask

_KIND = 'native'
_VERSION = f'mujoco {mujoco.__version__}'


def row_size(compiled: CompiledTask) -> int:
  """Returns the number of doubles of MuJoCo's state, which begins a row."""
  return mujoco.mj_stateSize(
    compiled.model, mujoco.mjtState.mjSTATE_INTEGRATION
  )


def state_size(compiled: CompiledTask) -> int:
  """Returns the number D of doubles in a row."""
  program = compiled.program
  kept = program.observation_size + len(program.current)
  return row_size(compiled) + kept + 1


def to_snapshots(compiled: CompiledTask, states: np.ndarray) -> list[Snapshot]:
  """Makes snapshots of states.

  Args:
    compiled: the task.
    states: float64 [N, D], one row for each state.

  Returns:
    N snapshots.
  """
  return [
    Snapshot(_KIND, _VERSION, compiled.fingerprint, row.tobytes())
    for row in np.asarray(states, np.float64)
  ]


def to_states(
  compiled: CompiledTask, snapshots: Sequence[Snapshot | None]
) -> np.ndarray:
  """Reads the states in snapshots.

  Args:
    compiled: the task.
    snapshots: N snapshots.

  Returns:
    float64 [N, D], one row for each state.

  Raises:
    UserError: a snapshot is None, or belongs to another model, task or version
      of MuJoCo, or its number of elapsed env steps is none.
  """
  size = state_size(compiled)
  rows = []
  for i, snapshot in enumerate(snapshots):
    if snapshot is None:
      raise UserError(f'snapshot {i} is None: its branch diverged, drop it')
    snapshot.check(_KIND, _VERSION, compiled.fingerprint, 8 * size)
    rows.append(np.frombuffer(snapshot.data, np.float64))
    if not 0 <= rows[-1][-1] <= 2**31 - 1:
      raise UserError(
        f'snapshot {i} is damaged or forged ({rows[-1][-1]} elapsed env '
        'steps): take a new one'
      )
  return np.stack(rows)
