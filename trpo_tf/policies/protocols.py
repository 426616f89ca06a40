"""What a policy and a network are to everything that uses them.

A policy is a function of (theta, observation). theta is one flat float32
vector: the network's parameters first and then, for a Gaussian policy, the log
standard deviations. Only this package knows that layout.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from trpo_tf.policies.linearization import Linearization
from trpo_tf.policies.stacks import FrameStacks

__all__ = ['Inputs', 'Network', 'Policy']

# The inputs of N states: float32 [N, O] normalised observations, as an array or
# as a tensor, or the FrameStacks of N observations of frames.
Inputs: TypeAlias = np.ndarray | tf.Tensor | FrameStacks


class Network(Protocol):
  """A function of (parameters, inputs of N states) to outputs [N, M]."""

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
  def input_spec(self) -> Any:
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

  def outputs(self, theta: tf.Tensor, x: Inputs) -> tf.Tensor:
    """Runs the network.

    Args:
      theta: [D] parameters.
      x: inputs of N states.

    Returns:
      [N, M] outputs.
    """

  def linearize(self, theta: tf.Tensor, x: Inputs) -> Linearization:
    """Runs the network and prepares products with its Jacobian.

    Args:
      theta: [D] parameters.
      x: inputs of N states.

    Returns:
      The Linearization at theta.
    """


class Policy(Protocol):
  """A distribution over actions as a function of (theta, inputs)."""

  @property
  def network(self) -> Network:
    """Maps inputs to the outputs that the distribution is made of."""

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
    """Draws theta, float32 [P]."""

  def network_parameters(self, theta: Any) -> Any:
    """The network's part of theta: [..., D] of [..., P]."""

  def log_std(self, theta: Any) -> Any:
    """Log standard deviations in theta: [..., A] of [..., P], A may be 0."""

  def with_network(
    self, theta: np.ndarray, parameters: np.ndarray
  ) -> np.ndarray:
    """Policies that differ from theta in the network alone.

    Args:
      theta: float32 [P].
      parameters: [..., D], of networks.

    Returns:
      float32 [..., P].
    """

  def outputs(self, theta: tf.Tensor, x: Inputs) -> tf.Tensor:
    """Runs the network.

    Args:
      theta: [P] parameters.
      x: inputs of N states.

    Returns:
      [N, M] outputs.
    """

  def distribution(
    self, theta: tf.Tensor, outputs: tf.Tensor
  ) -> tfd.Distribution:
    """The distribution of the actions.

    Args:
      theta: [P] parameters.
      outputs: [N, M] network outputs.

    Returns:
      A distribution of batch [N] and event [A], in the dtype of the outputs.
    """

  def linearize(self, theta: tf.Tensor, x: Inputs) -> Linearization:
    """Linearises the outputs in the whole of theta.

    Args:
      theta: [P] parameters.
      x: inputs of N states.

    Returns:
      The Linearization at theta.
    """

  def metric(
    self, theta: tf.Tensor, outputs: tf.Tensor
  ) -> Callable[[tf.Tensor], tf.Tensor]:
    """Product with M, the KL divergence's second derivative in the outputs.

    Args:
      theta: [P] parameters.
      outputs: [N, M] network outputs.

    Returns:
      A function that maps a tangent [N, M] to M times it.
    """

  def bypass_fisher_product(self, v: tf.Tensor) -> tf.Tensor:
    """Fisher block of the parameters that bypass the outputs, times v [P]."""
