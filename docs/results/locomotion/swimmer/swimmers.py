"""The paper's swimmer with other lengths of an env step, or without effort."""

import dataclasses

from trpo_tf.tasks import paper
from trpo_tf.tasks.language import concatenate, prev
from trpo_tf.tasks.simulation import Simulation
from trpo_tf.tasks.task import Definition, Task

_PAPER = paper.TASKS['paper/swimmer']


def _without_effort(sim: Simulation) -> Definition:
  return Definition(
    observation=concatenate(sim.qpos[1:], sim.qvel), reward=prev(sim.qvel[0])
  )


def _skip(n: int) -> Task:
  return dataclasses.replace(_PAPER, name=f'swimmer_skip{n}', frame_skip=n)


SKIP1, SKIP8, SKIP16, SKIP32 = map(_skip, (1, 8, 16, 32))
FREE = dataclasses.replace(_PAPER, name='swimmer_free', define=_without_effort)
