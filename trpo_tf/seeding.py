"""Generators of a run's random numbers, found by name and by counter.

A generator depends on (seed, stream, index...) alone, never on what was drawn
before it. Results therefore do not depend on the number of threads, processes
or machines, a run resumes exactly, and any draw can be repeated later.
"""

import enum

import numpy as np


class Stream(enum.IntEnum):
  """Names of the independent streams; comments list their counters."""

  INITIAL_POLICY = 0
  INITIAL_VALUE = 1
  RESET = 2  # slot, chunk of episodes
  ACTION_NOISE = 3  # iteration, slot
  FISHER_STATES = 4  # iteration
  VALUE_MINIBATCHES = 5  # iteration, and shard if there are several
  ENVIRONMENT = 6  # slot, episode
  EVALUATION = 7  # gives evaluations a seed of their own
  ROLLOUT_SET = 8  # iteration
  BRANCH_ACTIONS = 9  # iteration
  BRANCH_NOISE = 10  # iteration
  RETRY_NOISE = 11  # iteration, slot, failures of the slot so far
  POPULATION = 12  # iteration
  SHARD_SEEDS = 13  # gives each shard of a batch a seed of its own
  TRAINING_EVALUATION = 14  # iteration; seeds an evaluation in training


def generator(seed: int, stream: Stream, *index: int) -> np.random.Generator:
  """Makes the generator of one draw.

  Args:
    seed: the run's seed.
    stream: purpose of the draw.
    *index: up to three counters, such as iteration and slot.

  Returns:
    A Philox generator whose key is (seed, stream) and whose counter starts at
    the indices; 2^64 draws lie between neighbouring indices.

  Raises:
    ValueError: more than three indices, or a negative one.
  """
  if len(index) > 3 or any(i < 0 for i in index):
    raise ValueError(f'seeding: {index} is not up to three counters')
  counter = [0, *index, *[0] * (3 - len(index))]
  bits = np.random.Philox(
    key=np.asarray([seed, stream], np.uint64),
    counter=np.asarray(counter, np.uint64),
  )
  return np.random.Generator(bits)


def derived_seed(seed: int, stream: Stream, *index: int) -> int:
  """Draws a seed for a library that takes one.

  Args:
    seed: the run's seed.
    stream: purpose of the draw.
    *index: up to three counters, such as iteration and slot.

  Returns:
    An integer in [0, 2^31).
  """
  return int(generator(seed, stream, *index).integers(2**31))
