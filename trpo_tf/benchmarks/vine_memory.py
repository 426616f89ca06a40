"""Memory of the vine: its batch and one mjData a thread, whatever N, K, L."""

import math
from typing import Any

import mujoco

from trpo_tf.benchmarks import resident
from trpo_tf.benchmarks.vine_workload import Workload
from trpo_tf.sampling.native.branching import Brancher

_CALLS = 20


def memory(small: Workload, large: Workload, threads: int) -> dict[str, Any]:
  """Measures how resident memory grows by calls.

  Args:
    small: branches.
    large: more of them.
    threads: of the vine.

  Returns:
    Bytes: growth_small by the first small call and the making of the
    simulations, growth_large by the first large one, growth_more_calls by
    `calls` more small ones, None where unknown; records_large of the large
    call; state_row; mjdata, one with its arena, and mjdata_without_arena.
    And num_mjdata and the branches of a small and a large call.
  """
  made: list[Brancher] = []

  def first_call() -> None:
    made.append(small.brancher(threads))
    small.run(made[0])

  first = resident.growth(first_call)
  brancher = made[0]
  larger = resident.growth(lambda: large.run(brancher))
  more = resident.growth(
    lambda: [small.run(brancher).lengths.size for _ in range(_CALLS)]
  )
  branches = large.run(brancher)
  arrays = [v for v in vars(branches).values() if hasattr(v, 'nbytes')]
  data = mujoco.MjData(small.compiled.model)
  return dict(
    small_branches=math.prod(small.branches),
    large_branches=branches.lengths.size,
    growth_small=first,
    growth_large=larger,
    calls=_CALLS,
    growth_more_calls=more,
    records_large=sum(a.nbytes for a in arrays),
    state_row=small.states[0].nbytes,
    mjdata=data.nbuffer + data.narena,
    mjdata_without_arena=data.nbuffer,
    num_mjdata=threads,
  )
