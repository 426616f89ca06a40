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

from trpo_tf.cloning.history import Cursors
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
      of MuJoCo.
  """
  size = state_size(compiled)
  rows = []
  for i, snapshot in enumerate(snapshots):
    if snapshot is None:
      raise UserError(f'snapshot {i} is None: its branch diverged, drop it')
    if not isinstance(snapshot, Snapshot):
      kind = type(snapshot).__name__
      raise UserError(f'snapshot {i} is a {kind}, not a Snapshot')
    snapshot.check(_KIND, _VERSION, compiled.fingerprint, 8 * size)
    rows.append(np.frombuffer(snapshot.data, np.float64))
  return np.stack(rows)


def check_states(compiled: CompiledTask, states: np.ndarray) -> None:
  """Checks what the native code would use as counts and indices.

  Args:
    compiled: the task.
    states: float64 [N, D], which may be a stranger's.

  Raises:
    UserError: a number of elapsed env steps or a cursor of a delay is wrong.
  """
  elapsed = states[:, -1]
  counts = (elapsed >= 0) & (elapsed <= 2**31 - 1)
  cursors = Cursors(compiled.model).valid_states(states)
  for right, what in (
    (counts, 'elapsed env steps'),
    (cursors, 'place in a history of delays'),
  ):
    if not right.all():
      raise UserError(
        f'snapshot {right.argmin()} is damaged or forged (its {what}): take a '
        'new one'
      )
