"""A convolutional policy for the Atari samplers, in C++.

It takes about a third of the time of TensorFlow, a fraction of the emulator's:
from one step of a game to the next it computes again only what changes.
"""

from trpo_tf.policies.conv import ConvNet
from trpo_tf.sampling.atari_extension import extension
from trpo_tf.sampling.atari_stacks import PolicyOutputs

__all__ = ['policy_outputs']

_ACTIVATIONS = ('tanh', 'softplus')


def policy_outputs(network: ConvNet, num_slots: int) -> PolicyOutputs:
  """Prepares a network for a sampler.

  The outputs for an observation are the same bits whatever its slot saw
  before, and whatever the other slots see.

  Args:
    network: the policy's.
    num_slots: S.

  Returns:
    The function.
  """
  native = extension.ConvNetwork(
    network.input_shape, network.filters, network.hidden_sizes,
    network.output_size, _ACTIVATIONS.index(network.activation), num_slots,
  )  # fmt: skip
  return lambda theta, slots, stacks: native.outputs(
    theta, slots.start or 0, stacks
  )
