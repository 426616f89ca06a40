"""Memory of the vine: its batch and one mjData per thread, for any N, K, L."""

import math
from typing import Any

import mujoco

from trpo_tf.benchmarks import resident
from trpo_tf.benchmarks.vine_workload import Workload
from trpo_tf.sampling.native.branching import Brancher

_CALLS = 20


def memory(small: Workload, large: Workload, threads: int) -> dict[str, Any]:
  """Measures how calls of the vine make peak resident memory grow.

  Args:
    small: a workload of branches.
    large: a workload with more branches.
    threads: number of threads of the vine.

  Returns:
    Growth in bytes, or None if unknown: growth_small, by making the simulations
    and the first small call; growth_large, by the first large call;
    growth_more_calls, by `calls` more small calls.
    Sizes in bytes: records_large, the records of the large call; state_row;
    mjdata, one mjData with its arena; mjdata_without_arena.
    Counts: num_mjdata; small_branches and large_branches, branches per call.
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
