"""Sums over shards do not depend on who holds them."""

from typing import NamedTuple

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from trpo_tf.distributed import reduction
from trpo_tf.distributed.reduction import Gathered, Largest, LogSumExp
from trpo_tf.moments import Moments

LIMITS = hypothesis.settings(max_examples=60, deadline=None)


class Text(NamedTuple):
  """Shows the order in which results were merged."""

  text: str

  def merge(self, other):
    return Text(f'({self.text}{other.text})')


def leaves(values):
  """Results of single shards, as parts of the tree."""
  return {(i, i + 1): value for i, value in values.items()}


@st.composite
def blocks(draw):
  """Some shards, and the worker of each."""
  size = draw(st.integers(1, 20))
  return draw(
    st.lists(st.integers(0, 4), min_size=size, max_size=size).map(np.array)
  )


@LIMITS
@hypothesis.given(blocks())
def test_any_division_among_workers_gives_one_result(owner):
  S = len(owner)
  values = {i: Text(chr(97 + i)) for i in range(S)}
  whole = reduction.finished(S, reduction.partial(S, leaves(values)))
  parts = {}
  for worker in set(owner):
    own = {i: values[i] for i in range(S) if owner[i] == worker}
    parts |= reduction.partial(S, leaves(own))
  assert reduction.finished(S, parts) == whole
  assert whole.text.replace('(', '').replace(')', '') == ''.join(
    v.text for v in values.values()
  )


@pytest.mark.parametrize(
  'count, tree',
  [
    (1, 'a'),
    (2, '(ab)'),
    (3, '((ab)c)'),
    (4, '((ab)(cd))'),
    (7, '(((ab)(cd))((ef)g))'),
  ],
)
def test_the_tree(count, tree):
  values = {i: Text(chr(97 + i)) for i in range(count)}
  (found,) = reduction.partial(count, leaves(values)).values()
  assert found.text == tree


def test_a_worker_sends_complete_subtrees_only():
  values = {i: 1.0 for i in (1, 2, 3, 4, 5)}
  assert reduction.partial(8, leaves(values)) == {
    (1, 2): 1.0,
    (2, 4): 2.0,
    (4, 6): 2.0,
  }


@LIMITS
@hypothesis.given(blocks(), st.integers(0, 4))
def test_a_caller_that_reduces_parts_changes_no_order(owner, callers):
  """Some workers' results are reduced, and then those of all workers."""
  S = len(owner)
  values = {i: Text(chr(97 + i)) for i in range(S)}
  below, others = {}, {}
  for worker in set(owner):
    own = {i: values[i] for i in range(S) if owner[i] == worker}
    found = below if worker < callers else others
    found |= reduction.partial(S, leaves(own))
  direct = {i: values[i] for i in range(S) if owner[i] < callers}
  assert reduction.partial(S, below) == reduction.partial(S, leaves(direct))
  parts = reduction.partial(S, below) | others
  assert reduction.finished(S, parts) == reduction.finished(S, leaves(values))


def test_results_are_merged_by_their_fields():
  class Result(NamedTuple):
    total: float
    seen: Gathered
    worst: Largest

  a = Result(1.5, Gathered({0: 'x'}), Largest(2.0))
  b = Result(2.0, Gathered({1: 'y'}), Largest(-1.0))
  expected = Result(3.5, Gathered({0: 'x', 1: 'y'}), Largest(2.0))
  assert reduction.merged(a, b) == expected


@pytest.mark.parametrize('order', [1, -1])
def test_a_nan_is_the_largest(order):
  pair = [Largest(float('nan')), Largest(3.0)][::order]
  assert np.isnan(reduction.merged(*pair).value)


def test_shards_without_states_add_nothing():
  values = leaves({0: None, 1: 2.0, 2: 3.0, 3: None})
  assert reduction.finished(4, values) == 5.0


@LIMITS
@hypothesis.given(
  st.lists(st.floats(-1e5, 1e5), min_size=2, max_size=9), st.integers(1, 8)
)
def test_sums_of_exponentials_do_not_overflow(values, cut):
  values, cut = np.array(values), min(cut, len(values) - 1)
  found = LogSumExp.of(values[:cut]).merge(LogSumExp.of(values[cut:]))
  expected = np.logaddexp.reduce(values)
  assert found.value == pytest.approx(expected, rel=1e-12, abs=1e-12)


@LIMITS
@hypothesis.given(
  st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0.01, 10)), max_size=30),
  st.integers(0, 30),
)
def test_moments_of_two_parts_are_those_of_the_whole(rows, cut):
  values, weights = np.array(rows).reshape(-1, 2).T
  total = Moments(0.0, 0.0, 0.0)
  for v, w in ((values[:cut], weights[:cut]), (values[cut:], weights[cut:])):
    if len(v):
      part = Moments.of(v, w / w.mean()).reweighted(w.mean())
      total = total.merge(part)
  if not len(values):
    assert total.weight == 0 and total.std == 0
    return
  assert total.weight == pytest.approx(weights.sum())
  mean = np.average(values, weights=weights)
  assert total.mean == pytest.approx(mean, rel=1e-9, abs=1e-9)
  variance = np.average((values - mean) ** 2, weights=weights)
  assert total.variance == pytest.approx(variance, rel=1e-6, abs=1e-6)
