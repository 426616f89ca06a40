"""The samplers' convolutional network in C++ against TensorFlow's."""

import numpy as np
import pytest
import tensorflow as tf

from trpo_tf.policies import conv
from trpo_tf.sampling.atari_policy import policy_outputs

SLOTS = 5
PAPER = conv.ConvNet((52, 40, 4), (16, 16), (20,), 8)


def parameters(network, seed=0):
  rng = np.random.default_rng(seed)
  theta = network.initial_parameters(rng, 1.0)
  return theta + rng.normal(0, 0.05, theta.shape).astype(np.float32)


def pixels(network, seed=1):
  shape = (SLOTS, *network.input_shape)
  return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize('network', [
  PAPER,
  conv.ConvNet((84, 84, 4), (16, 16), (20,), 18),
  # widths that leave columns and rows unused, filters in blocks of 16, 8 and 1
  conv.ConvNet((31, 23, 4), (27, 9, 3), (5, 4), 2, 'softplus'),
  conv.ConvNet((9, 10, 4), (2,), (), 3),
])  # fmt: skip
def test_outputs_are_those_of_tensorflow(network):
  theta, seen = parameters(network), pixels(network)
  expected = network.pixel_outputs(tf.constant(theta), tf.constant(seen))
  outputs = policy_outputs(network, SLOTS)
  found = outputs(theta, slice(0, SLOTS), seen)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, expected, atol=2e-5)


def test_what_a_slot_saw_before_does_not_matter():
  """Patches that stay are not computed again: the bits do not show it."""
  theta, seen = parameters(PAPER), pixels(PAPER)
  outputs = policy_outputs(PAPER, SLOTS)
  rng = np.random.default_rng(2)
  for step in range(60):
    slot = rng.integers(SLOTS)
    y, x = rng.integers(52), rng.integers(40)
    size = rng.integers(1, 8)
    patch = seen[slot, y : y + size, x : x + size, rng.integers(4)]
    patch[:] = rng.integers(0, 256)
    if step == 30:
      theta = parameters(PAPER, seed=3)
    if step == 45:
      seen = seen[::-1].copy()
    fresh = policy_outputs(PAPER, SLOTS)(theta, slice(0, SLOTS), seen)
    # the slots in two groups, as the samplers have them
    found = [outputs(theta, part, seen[part])
             for part in (slice(0, 3), slice(3, SLOTS))]
    np.testing.assert_array_equal(np.concatenate(found), fresh)


def test_refuses_arrays_of_other_sizes():
  theta, seen = parameters(PAPER), pixels(PAPER)
  outputs = policy_outputs(PAPER, SLOTS)
  for arguments in ((theta[1:], slice(0, SLOTS), seen),
                    (theta, slice(1, SLOTS + 1), seen),
                    (theta, slice(0, SLOTS), seen[:, 1:].copy())):
    with pytest.raises(ValueError, match='other sizes'):
      outputs(*arguments)
