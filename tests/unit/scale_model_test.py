"""The model of a map's time follows the tree of workers."""

import pytest

from trpo_tf.benchmarks import scale_model
from trpo_tf.benchmarks.scale_model import Latency, Model

LATENCY = Latency(fixed=1e-3, per_worker=1e-4, per_byte=1e-9)


@pytest.mark.parametrize(
  'workers, calls',
  [(1, [1]), (4, [4]), (5, [4, 1]), (20, [4, 4]), (1000, [4, 4, 4, 4, 3])],
)
def test_a_map_costs_the_calls_on_its_longest_way(workers, calls):
  expected = sum(1e-3 + n * (1e-4 + 1e-9 * 1e5) for n in calls)
  assert LATENCY.seconds(workers, 1e5) == pytest.approx(expected)


def test_the_fit_finds_what_was_measured():
  measured = {
    (w, b): 1e-3 + w * (1e-4 + 1e-9 * b)
    for w in (1, 2, 4, 8)
    for b in (1e4, 1e6)
  }
  found = scale_model.fit_latency(measured)
  assert found == pytest.approx(LATENCY, rel=1e-6)


def test_calls_limit_the_efficiency_of_many_workers():
  model = Model({'sample': 1e-4}, {'sample': 1.0}, {}, LATENCY, 0.0)
  talk = model.seconds(1000, 10**6)['communication']
  assert talk == pytest.approx(5 * 1e-3 + 19e-4)
  one = 100 + 1.1e-3
  expected = one / (0.1 + talk) / 1000
  assert model.efficiency(1000, 10**6) == pytest.approx(expected)
