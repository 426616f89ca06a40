"""Batches from a rollout's records, written out by hand."""

import dataclasses

import numpy as np
import pytest

from trpo_tf.sampling.batch import End
from trpo_tf.sampling.native.paths import batch_from_arrays, drop_diverged
from trpo_tf.tasks.actions import ActionSpace

_BOUNDS = ActionSpace((), np.array([-1.0]), np.array([1.0]))


def _arrays():
  """Three slots of six steps; the last one stopped after four.

  slot 0: five steps to a truncation (boundary row 0), then one more
  slot 1: two steps, cut; three steps, terminated; one more
  slot 2: one step to a shortened truncation, three to both ends at once
  """
  S, T = 3, 6
  ends = np.array(
    [[0, 0, 0, 0, 2, 0], [0, 4, 0, 0, 1, 0], [2, 0, 0, 3, 0, 0]], np.uint8
  )
  timesteps = np.array(
    [[0, 1, 2, 3, 4, 0], [7, 8, 0, 1, 2, 0], [0, 0, 1, 2, 0, 0]], np.int32
  )
  returns = np.zeros((S, T))
  returns[0, 4], returns[1, 4], returns[2, 3] = 50.0, 14.0, 23.0
  returns[2, 0] = np.nan  # shortened: not an episode of the task
  rewards = 10.0 * np.arange(S)[:, None] + np.arange(T)
  boundary_steps = np.array([[4, 0], [0, 0], [0, 0]], np.int32)
  boundary = np.zeros((S, 2, 2), np.float32)
  boundary[0, 0], boundary[2, 0] = [1, 2], [3, 4]
  actions = np.zeros((S, T, 1))
  actions[0, :3, 0] = [-1.5, 1.0, 2.0]
  actions[2, 5, 0] = 9.0  # beyond the slot's length
  return dict(
    observations=np.zeros((S, T, 2), np.float32),
    actions=actions,
    outputs=np.zeros((S, T, 1), np.float32),
    log_probs=np.zeros((S, T), np.float32),
    rewards=rewards,
    ends=ends,
    timesteps=timesteps,
    lengths=np.array([6, 6, 4], np.int32),
    last_observations=np.ones((S, 2), np.float32),
    boundary_steps=boundary_steps,
    boundary_observations=boundary,
    num_boundaries=np.array([1, 0, 1], np.int32),
    episode_returns=returns,
    episode_terms=np.zeros((S, T, 0)),
  )


def _batch(**changes):
  return batch_from_arrays(_arrays() | changes, _BOUNDS, ['broken'])


def test_ends_are_told_apart():
  assert (End.TERMINATED, End.TRUNCATED, End.DIVERGED) == (1, 2, 4)
  assert End.TERMINATED | End.TRUNCATED == 3


def test_kept_and_num_steps():
  batch = _batch()
  expected = np.ones((3, 6), bool)
  expected[2, 4:] = False
  np.testing.assert_array_equal(batch.kept, expected)
  assert batch.num_steps == 16
  np.testing.assert_array_equal(
    batch.flat(batch.rewards), [*range(6), *range(10, 16), *range(20, 24)]
  )
  assert batch.flat(batch.observations).shape == (16, 2)


def test_boundaries():
  """One row a truncation that is no termination, with its slot and step."""
  batch = _batch()
  np.testing.assert_array_equal(batch.boundary_index, [[0, 4], [2, 0]])
  np.testing.assert_array_equal(batch.boundary_observations, [[1, 2], [3, 4]])
  assert batch.boundary_index.dtype == np.int32


def test_episodes_are_those_that_ended_whole():
  batch = _batch()
  np.testing.assert_array_equal(batch.episode_returns, [50, 14, 23])
  np.testing.assert_array_equal(batch.episode_lengths, [5, 3, 3])


def test_clipped_fraction_counts_components_of_recorded_steps():
  assert _batch().clipped_fraction == 2 / 16


def test_columns_beyond_the_longest_slot_are_left_out():
  arrays = _arrays()
  batch = _batch(
    lengths=np.array([5, 2, 4], np.int32),
    num_boundaries=arrays['num_boundaries'],
  )
  assert batch.rewards.shape == batch.kept.shape == (3, 5)
  assert batch.num_steps == batch.kept.sum() == 11


def test_drop():
  """The two steps of slot 1's first trajectory go, nothing else."""
  batch = _batch()
  dropped = drop_diverged(batch)
  expected = batch.kept.copy()
  expected[1, :2] = False
  np.testing.assert_array_equal(dropped.kept, expected)
  assert batch.kept[1, :2].all()  # the original is as it was
  assert dropped.num_steps == 16
  assert dropped.diverged == ('broken',)


def test_drop_stops_at_the_end_before():
  ends = np.zeros((3, 6), np.uint8)
  ends[0] = [0, 2, 0, 4, 4, 0]
  dropped = drop_diverged(_batch(ends=ends))
  np.testing.assert_array_equal(dropped.kept[0], [1, 1, 0, 0, 0, 1])


def test_batches_are_values():
  batch = _batch()
  with pytest.raises(dataclasses.FrozenInstanceError):
    batch.rewards = None
