"""The interfaces of policies and networks.

A policy is a function of (theta, observation). theta is one flat float32
vector: the network's parameters first and then, for a Gaussian policy, the log
standard deviations. Only this package knows that layout.
"""

from collections.abc import Callable
from typing import Protocol, Self, TypeAlias, TypeVar

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from trpo_tf.policies.linearization import Linearization
from trpo_tf.policies.stacks import FrameStacks

__all__ = ['Array', 'Inputs', 'Network', 'NetworkT', 'Policy']

# A NumPy array or a tensor. A function that takes an Array and returns one
# returns the kind that it was given.
Array: TypeAlias = np.ndarray | tf.Tensor

# The inputs of N states: float32 [N, O] normalised observations, as an array or
# as a tensor, or the FrameStacks of N observations of frames.
Inputs: TypeAlias = np.ndarray | tf.Tensor | FrameStacks


class Network(Protocol):
  """A function from (parameters, inputs of N states) to outputs [N, M]."""

  def __hash__(self) -> int:
    """Makes the network a key, as graphs are kept by network."""

  @property
  def input_size(self) -> int:
    """Width O of an observation."""

  @property
  def output_size(self) -> int:
    """Width M of an output."""

  @property
  def num_parameters(self) -> int:
    """Number D of parameters."""

  @property
  def activation_size(self) -> int:
    """Number of values that a forward pass computes for one state."""

  @property
  def layer_shapes(self) -> tuple[tuple[int, int], ...]:
    """Shape (inputs + 1, outputs) of each layer, weights and bias.

    The parameters are those of the first layer, then those of the second, and
    so on. Each layer has its weights, row-major, and then its bias.
    """

  @property
  def input_spec(self) -> tf.TensorSpec | FrameStacks:
    """Specification of the inputs of any number of states, for tf.function."""

  def initial_parameters(
    self, rng: np.random.Generator, output_scale: float
  ) -> np.ndarray:
    """Draws the parameters.

    Args:
      rng: source of the weights.
      output_scale: gain of the output layer.

    Returns:
      float32 [D].
    """

  def with_layers(
    self, hidden_sizes: tuple[int, ...], output_size: int, activation: str
  ) -> Self:
    """Returns a network with the same inputs and new last layers.

    Args:
      hidden_sizes: units of each hidden layer.
      output_size: width of an output.
      activation: activation of all layers but the last.
    """

  def outputs(self, theta: tf.Tensor, x: Inputs) -> tf.Tensor:
    """Runs the network.

    Args:
      theta: [D] parameters.
      x: inputs of N states.

    Returns:
      [N, M] outputs, in theta's dtype.
    """

  def linearize(
    self, theta: tf.Tensor, x: Inputs, keep: bool = False
  ) -> Linearization:
    """Runs the network and prepares products with its Jacobian.

    Args:
      theta: [D] parameters.
      x: inputs of N states.
      keep: whether the activations are worth their memory, as many products
        follow.

    Returns:
      The Linearization at theta.
    """


# The type of a policy's network, for code that takes networks of one type.
NetworkT = TypeVar('NetworkT', bound=Network, covariant=True)


class Policy(Protocol):
  """A distribution over actions as a function of (theta, inputs)."""

  def __hash__(self) -> int: ...

  @property
  def network(self) -> Network:
    """The network, whose outputs are the distribution's parameters."""

  @property
  def observation_size(self) -> int:
    """Width O of an observation."""

  @property
  def output_size(self) -> int:
    """Width M of an output."""

  @property
  def num_parameters(self) -> int:
    """Length P of theta."""

  def initial_parameters(self, rng: np.random.Generator) -> np.ndarray:
    """Draws theta: float32 [P]."""

  def network_parameters(self, theta: Array) -> Array:
    """Returns the network's part [..., D] of theta [..., P]."""

  def log_std(self, theta: Array) -> Array:
    """Returns the log standard deviations [..., A] in theta [..., P].

    A is 0 for a policy that has none.
    """

  def with_network(self, theta: Array, parameters: Array) -> Array:
    """Returns policies that differ from theta in the network alone.

    Args:
      theta: float32 [P].
      parameters: [..., D] parameters of networks, of any float dtype.

    Returns:
      [..., P], in theta's dtype.
    """

  def outputs(self, theta: tf.Tensor, x: Inputs) -> tf.Tensor:
    """Runs the network.

    Args:
      theta: [P] parameters.
      x: inputs of N states.

    Returns:
      [N, M] outputs, in theta's dtype.
    """

  def distribution(
    self, theta: tf.Tensor, outputs: tf.Tensor
  ) -> tfd.Distribution:
    """Builds the distribution of the actions.

    Args:
      theta: [P] parameters.
      outputs: [N, M] network outputs.

    Returns:
      A distribution of batch [N] and event [A], in the dtype of the outputs.
    """

  def linearize(
    self, theta: tf.Tensor, x: Inputs, keep: bool = False
  ) -> Linearization:
    """Linearises the outputs in the whole of theta.

    Args:
      theta: [P] parameters.
      x: inputs of N states.
      keep: whether the activations are worth their memory, as many products
        follow.

    Returns:
      The Linearization at theta.
    """

  def metric(
    self, theta: tf.Tensor, outputs: tf.Tensor
  ) -> Callable[[tf.Tensor], tf.Tensor]:
    """Prepares products with M, the KL's second derivative in the outputs.

    Args:
      theta: [P] parameters.
      outputs: [N, M] network outputs.

    Returns:
      A function that multiplies a tangent [N, M] by M.
    """

  def bypass_fisher_product(self, v: tf.Tensor) -> tf.Tensor:
    """Multiplies by the Fisher matrix of parameters that bypass the outputs.

    Some parameters, such as log_std, act on the distribution without passing
    through the network's outputs. Their part of the Fisher matrix is the same
    in every state.

    Args:
      v: [P] tangent.

    Returns:
      [P] product, which is 0 for the network's parameters.
    """
