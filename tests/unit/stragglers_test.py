"""A worker that is slow again and again is named once."""

from trpo_tf.distributed.stragglers import Stragglers


def test_a_slow_worker_is_named_once():
  watch = Stragglers()
  slow = {0: 1.0, 1: 1.1, 2: 2.2, 3: 0.9}
  found = [watch.found(slow) for _ in range(6)]
  assert found == [{}, {}, {2: 2.2}, {}, {}, {}]


def test_a_worker_that_recovers_may_be_named_again():
  watch = Stragglers()
  slow, even = {0: 1.0, 1: 3.0}, {0: 1.0, 1: 1.0}
  found = [watch.found(s) for s in [slow] * 3 + [even] + [slow] * 3]
  assert found == [{}, {}, {1: 3.0}, {}, {}, {}, {1: 3.0}]


def test_one_slow_iteration_and_short_times_are_nothing():
  watch = Stragglers()
  for i in range(9):
    assert not watch.found({0: 1.0, 1: 9.0 if i % 3 == 0 else 1.0})
    assert not watch.found({2: 0.01, 3: 0.05})


def test_one_worker_has_nobody_to_be_compared_with():
  watch = Stragglers()
  assert [watch.found({0: 5.0}) for _ in range(4)] == [{}] * 4
