"""Diverged simulations on disk, each with what repeats it."""

import pathlib
from collections.abc import Sequence

import numpy as np

from trpo_tf.sampling.batch import Divergence

_MOST = 1000  # files; a run that diverges more has shown its point


def write(directory: pathlib.Path, diverged: Sequence[Divergence]) -> None:
  """Writes one .npz per divergence; creates the directory with the first.

  To see one break again: restore `state` with mj_setState(model, data, state,
  mjSTATE_INTEGRATION); for each row of `controls` set it and step frame_skip
  times. Of a Gymnasium environment's branch, restore
  Snapshot(*header, state.tobytes()) with its cloner.

  Args:
    directory: of the run's divergences.
    diverged: of an iteration.
  """
  if not diverged:
    return
  directory.mkdir(exist_ok=True)
  room = _MOST - sum(1 for _ in directory.iterdir())
  for event in diverged[: max(room, 0)]:
    branch = '_branch_' + '_'.join(map(str, event.branch))
    name = (
      f'iteration_{event.iteration:06d}_slot_{event.slot}_episode_'
      f'{event.episode}_step_{event.step}'
      f'{branch if event.branch else ""}.npz'
    )
    np.savez(
      directory / name,
      state=event.state,
      controls=event.controls,
      causes=np.array(event.causes),
      message=np.array(event.message),
      header=np.array(event.header),
    )
