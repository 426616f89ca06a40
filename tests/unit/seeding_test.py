"""Draws are functions of their names and counters alone."""

import itertools

import numpy as np
import pytest

from trpo_tf import seeding
from trpo_tf.seeding import Stream


def _draw(*key):
  return seeding.generator(*key).standard_normal(8)


def test_same_key_same_draws_whatever_was_drawn_before():
  first = _draw(3, Stream.RESET, 1, 2)
  _draw(3, Stream.RESET, 1, 1)
  np.testing.assert_array_equal(_draw(3, Stream.RESET, 1, 2), first)


def test_every_part_of_the_key_counts():
  keys = [
    (seed, stream, *index)
    for seed in (0, 1, 2**31 - 1)
    for stream in Stream
    for index in itertools.product((0, 1, 2**20), repeat=3)
  ]
  draws = np.array([_draw(*key) for key in keys])
  # 64-bit draws: two equal numbers anywhere would be an overlap of streams
  assert len(np.unique(draws)) == draws.size


def test_missing_counters_are_zero():
  np.testing.assert_array_equal(
    _draw(0, Stream.RESET, 5), _draw(0, Stream.RESET, 5, 0, 0)
  )


def test_neighbours_do_not_overlap():
  """A long draw of one index does not run into the next index's draws."""
  long = seeding.generator(0, Stream.ACTION_NOISE, 0, 0).standard_normal(10**5)
  following = seeding.generator(0, Stream.ACTION_NOISE, 0, 1)
  assert not np.isin(following.standard_normal(1000), long).any()


def test_draws_of_neighbouring_keys_are_uncorrelated():
  n = 200_000
  streams = [
    seeding.generator(*key).standard_normal(n)
    for key in (
      (0, Stream.RESET, 0),
      (0, Stream.RESET, 1),
      (1, Stream.RESET, 0),
      (0, Stream.ACTION_NOISE, 0),
      (0, Stream.RESET, 0, 1),
    )
  ]
  correlation = np.corrcoef(streams) - np.eye(5)
  assert np.abs(correlation).max() < 5 / np.sqrt(n)  # five standard errors


def test_streams_keep_their_numbers():
  """A renumbered stream would change every recorded run."""
  numbers = {s.name: s.value for s in Stream}
  assert len(set(numbers.values())) == len(numbers)
  assert numbers['INITIAL_POLICY'] == 0
  assert (numbers['RESET'], numbers['ACTION_NOISE']) == (2, 3)


def test_golden_draw():
  """The generator behind a key must not change: old runs are repeated by it."""
  bits = np.random.Philox(
    key=np.array([7, 3], np.uint64), counter=np.array([0, 11, 5, 0], np.uint64)
  )
  want = np.random.Generator(bits).standard_normal(8)
  np.testing.assert_array_equal(_draw(7, Stream.ACTION_NOISE, 11, 5), want)


@pytest.mark.parametrize('index', [(1, 2, 3, 4), (-1,), (0, -5)])
def test_misuse(index):
  with pytest.raises(ValueError, match='is not up to three counters'):
    seeding.generator(0, Stream.RESET, *index)


def test_derived_seed():
  seeds = [seeding.derived_seed(0, Stream.ENVIRONMENT, i) for i in range(500)]
  assert len(set(seeds)) == 500
  assert min(seeds) >= 0 and max(seeds) < 2**31
  assert max(seeds) > 2**30
  assert seeds[:2] == [
    seeding.derived_seed(0, Stream.ENVIRONMENT, i) for i in range(2)
  ]
