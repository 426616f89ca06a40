"""Writes diverged simulations to disk, with what is needed to repeat them."""

import pathlib
from collections.abc import Sequence

import numpy as np

from trpo_tf.sampling.batch import Divergence

_MOST = 1000  # files; further divergences are not written


def write(directory: pathlib.Path, diverged: Sequence[Divergence]) -> None:
  """Writes one .npz per divergence; creates the directory with the first.

  To repeat a divergence, restore `state` with mj_setState(model, data, state,
  mjSTATE_INTEGRATION); then set each row of `controls` and step frame_skip
  times. For a branch of a Gymnasium environment, restore
  Snapshot(*header, state.tobytes()) with the environment's cloner.

  Args:
    directory: directory of the run's divergences.
    diverged: the divergences of an iteration.
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
