"""Messages between the Atari samplers and their workers."""

import threading
from multiprocessing import Pipe

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trpo_tf.sampling.atari import messages
from trpo_tf.sampling.atari.jobs import StateBranches


def exchanged(*values):
  """What comes of values that are sent one after the other."""
  ours, theirs = Pipe()
  with ours, theirs:
    # a pipe holds less than a large array
    sender = threading.Thread(
      target=lambda: [messages.send(theirs, v) for v in values]
    )
    sender.start()
    received = [messages.receive(ours) for _ in values]
    sender.join()
    assert not ours.poll()
  return received


@settings(max_examples=30, deadline=None)
@given(
  sizes=st.lists(
    st.sampled_from([0, 1, 65_535, 65_536, 1_000_000]), max_size=4
  ),
  fortran=st.booleans(),
)
def test_arrays_of_any_size_arrive(sizes, fortran):
  rng = np.random.default_rng(0)
  values = [rng.integers(0, 256, (2, n), np.uint8) for n in sizes]
  if fortran:
    values = [np.asfortranarray(v) for v in values]
  for value, received in zip(values, exchanged(*values), strict=True):
    np.testing.assert_array_equal(received, value)
    received += 1  # the receiver's own


def test_large_arrays_inside_a_result():
  frames = {
    (0, 0): np.ones((4, 210, 160), np.uint8),
    (0, 1): np.full((4, 210, 160), 2, np.uint8),
  }
  result = StateBranches(
    np.arange(2.0)[None],
    np.ones((1, 2), np.int32),
    np.zeros((1, 2), np.uint8),
    frames,
    {},
  )
  error = ValueError('a state that cannot be loaded')
  first, second = exchanged(result, error)
  np.testing.assert_array_equal(first.returns, [[0.0, 1.0]])
  assert [f.max() for f in first.finals.values()] == [1, 2]
  assert str(second) == str(error)


def test_a_sender_that_is_gone_is_told():
  ours, theirs = Pipe()
  theirs.close()
  with ours, pytest.raises(EOFError):
    messages.receive(ours)
