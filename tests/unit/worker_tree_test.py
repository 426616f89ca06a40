"""The tree of workers reaches each one over few calls of each process."""

import pytest

from trpo_tf.distributed import reduction, worker_tree
from trpo_tf.distributed.worker_tree import FAN_OUT, LEARNER


@pytest.mark.parametrize('workers', [1, 2, 3, 4])
def test_the_learner_calls_few_workers_itself(workers):
  members = worker_tree.layout(workers, FAN_OUT)
  assert members == {
    LEARNER: list(range(workers)),
    **{i: [] for i in range(workers)},
  }


def test_small_trees():
  assert worker_tree.layout(3, 2) == {LEARNER: [0, 1], 0: [], 1: [2], 2: []}
  chain = {LEARNER: [0], 0: [1], 1: [2], 2: []}
  assert worker_tree.layout(3, 1) == chain


def _depth(members, caller, below):
  """The depth of the tree, and by caller the workers of its subtree."""
  parts = [_depth(members, i, below) for i in members[caller]]
  below[caller] = [caller, *(w for i in members[caller] for w in below[i])]
  return 1 + max(parts, default=-1)


@pytest.mark.parametrize('fan_out', [2, 3, 16])
@pytest.mark.parametrize('workers', [1, 2, 3, 7, 17, 40, 272, 273, 900])
def test_every_subtree_is_a_range_of_workers(workers, fan_out):
  members, below = worker_tree.layout(workers, fan_out), {}
  depth = _depth(members, LEARNER, below)
  for first, found in below.items():
    assert found == list(range(first, first + len(found)))
  assert below[LEARNER][1:] == list(range(workers))
  assert max(map(len, members.values())) == min(workers, fan_out)
  reached, fewest = 0, 0
  while reached < workers:  # the levels of a full tree
    fewest += 1
    reached += fan_out**fewest
  assert depth == fewest
  calls = worker_tree.calls_by_level(workers, fan_out)
  assert len(calls) == depth and calls[0] == len(members[LEARNER])


def test_a_thousand_workers_are_19_calls_away():
  assert worker_tree.calls_by_level(1000) == [4, 4, 4, 4, 3]


def test_most_sums_are_complete_below_the_learner():
  S = 4096
  parts = reduction.partial(S, {(i, i + 1): 1 for i in range(2, 1030)})
  assert len(parts) < 2 * S.bit_length()
  assert sum(parts.values()) == 1028
