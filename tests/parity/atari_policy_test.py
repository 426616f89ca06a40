"""The Atari samplers' policy in C++ against TensorFlow and plain NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from plain_atari import choices

from trpo_tf.policies import conv, mlp, stacks
from trpo_tf.policies.stacks import FrameStacks
from trpo_tf.sampling import _atari

FACTORS = (3, 3, 2)
PAPER = conv.ConvNet((52, 40, 4), (16, 16), (20,), 8)


def make(network, factors=None):
  return _atari.Actor(
    network.input_shape[:2],
    network.filters,
    network.hidden_sizes,
    mlp.activation_number(network.activation),
    factors or (network.output_size,),
  )


def parameters(network, seed=0):
  rng = np.random.default_rng(seed)
  theta = network.initial_parameters(rng, 1.0)
  return theta + rng.normal(0, 0.05, theta.shape).astype(np.float32)


def pixels(network, count, seed=1):
  shape = count, *network.input_shape
  return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def act(actor, stack, uniforms=None):
  """The action's number, logits and choices."""
  actor.begin(stack, 0)
  number = actor.act(uniforms)
  _, (logits,), (chosen,) = actor.actions()
  return number, logits, chosen


def show(screens, frame):
  """Puts a frame on the second screen."""
  screens.now(1)[:] = frame
  screens.see(1)
  screens.learn(1, frame)


@pytest.mark.parametrize(
  'network',
  [
    PAPER,
    conv.ConvNet((84, 84, 4), (16, 16), (20,), 18),
    # widths that leave columns and rows over, filters in blocks of 16, 8 and 1
    conv.ConvNet((31, 23, 4), (27, 9, 3), (5, 4), 2, 'softplus'),
    conv.ConvNet((31, 23, 4), (27, 9, 3), (5, 4), 2, 'relu'),
    conv.ConvNet((9, 10, 4), (2,), (), 3),
    conv.ConvNet((20, 20, 4), (8,), (70, 33), 5),
  ],
)
def test_logits_are_those_of_tensorflow(network):
  theta, seen = parameters(network), pixels(network, 5)
  frames = np.moveaxis(seen, -1, 1).reshape(-1, *seen.shape[1:3])
  rows = np.arange(len(frames), dtype=np.int32).reshape(-1, 4)
  x = FrameStacks(stacks.tiled(frames), rows)
  expected = network.outputs(tf.constant(theta), x)
  actor = make(network)
  actor.set_parameters(theta)
  for stack, logits in zip(seen, expected, strict=True):
    _, found, chosen = act(actor, stack)
    assert (actor.stack() == stack).all()
    np.testing.assert_allclose(found, logits, atol=2e-5)
    assert chosen == found.argmax()


def test_what_was_seen_before_does_not_matter():
  """Patches that stay are not computed again: the bits do not show it."""
  theta, stack = parameters(PAPER), pixels(PAPER, 1)[0]
  actor = make(PAPER, FACTORS)
  actor.set_parameters(theta)
  rng = np.random.default_rng(2)
  for step in range(60):
    y, x, size = rng.integers(52), rng.integers(40), rng.integers(8)
    stack[y : y + size, x : x + size, rng.integers(4)] = rng.integers(256)
    if step == 30:
      theta = parameters(PAPER, seed=3)
      actor.set_parameters(theta)
    if step == 45:
      stack = stack[::-1].copy()
    fresh = make(PAPER, FACTORS)
    fresh.set_parameters(theta)
    np.testing.assert_array_equal(act(actor, stack)[1], act(fresh, stack)[1])


@pytest.mark.parametrize('known', range(5))
def test_record_is_what_was_seen_and_done(known):
  actor = make(PAPER, FACTORS)
  screens = _atari.Screens((52, 40), (0, 52), (52, 40))
  actor.set_parameters(parameters(PAPER))
  expected = pixels(PAPER, 1)[0]
  if known < 4:
    expected[..., : 4 - known] = 0
  actor.begin(expected, known)
  frames = list(np.moveaxis(expected[..., 4 - known :], -1, 0))
  stacks, numbers = [], []
  for number, frame in enumerate(pixels(PAPER, 9, seed=2)[..., 0]):
    frame, begins = frame.copy(), number == 5
    if begins:
      actor.begin_game(frame)
    else:
      show(screens, frame)
      actor.observe(screens, 1)
    frames.append(frame)
    expected = np.append(expected[..., 1:] * (not begins), frame[..., None], -1)
    assert (actor.stack() == expected).all()
    if number in (0, 2, 3, 7):
      stacks.append(expected)
      numbers.append(actor.act(None))
  assert (actor.frames() == frames).all()
  black = np.zeros((1, 52, 40), np.uint8)
  seen = np.append(black, actor.frames(), 0)
  observations, logits, chosen = actor.actions()
  assert (np.moveaxis(seen[observations], 1, -1) == stacks).all()
  assert (np.moveaxis(seen[actor.rows()], 0, -1) == expected).all()
  assert np.ravel_multi_index(chosen.T, FACTORS).tolist() == numbers
  for stack, found in zip(stacks, logits, strict=True):
    np.testing.assert_array_equal(found, act(actor, stack)[1])
  assert len(actor.frames()) == 0 and len(actor.actions()[0]) == 1


def test_choices_are_the_inverse_distribution_functions():
  actor = make(PAPER, FACTORS)
  actor.set_parameters(parameters(PAPER) * 3)
  rng, numbers = np.random.default_rng(4), set()
  for stack in pixels(PAPER, 40):
    for uniforms in [*rng.random((5, 3)), np.zeros(3), np.full(3, 1 - 1e-9)]:
      number, logits, chosen = act(actor, stack, uniforms)
      expected, _ = choices(FACTORS, logits[None], uniforms[None])
      assert (chosen == expected[0]).all()
      assert number == np.ravel_multi_index(chosen, FACTORS)
      numbers.add(number)
  assert numbers == set(range(18))


def test_refuses_arrays_of_other_sizes():
  actor, theta = make(PAPER, FACTORS), parameters(PAPER)
  seen = pixels(PAPER, 1)[0]
  for call in (
    lambda: actor.set_parameters(theta[1:]),
    lambda: actor.begin(seen[1:].copy(), 0),
    lambda: actor.begin(seen[..., :3].copy(), 0),
    lambda: actor.begin(seen, 5),
    lambda: actor.begin_game(seen[1:, :, 0].copy()),
    lambda: actor.observe(_atari.Screens((52, 40), (0, 52), (26, 40)), 1),
    lambda: actor.observe(_atari.Screens((52, 40), (0, 52), (52, 40)), 3),
    lambda: actor.act(np.zeros(2)),
  ):
    with pytest.raises(ValueError, match='size|shape|frames|screens|factor'):
      call()
