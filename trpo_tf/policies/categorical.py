"""Categorical and factored categorical policies: a softmax for each factor."""

import dataclasses
import math
from collections.abc import Callable
from typing import Generic

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from trpo_tf import config
from trpo_tf.policies import conv, images, linearization, mlp
from trpo_tf.policies.protocols import Array, Inputs, NetworkT

__all__ = ['CategoricalPolicy', 'atari_policy', 'categorical_policy']


# The logit of the choices that pad a narrow factor to the width of the widest.
# It is finite, so that 0 * log 0 stays 0 in entropy and KL, and its exponential
# is exactly 0.
_PADDING_LOGIT = -1e9


@dataclasses.dataclass(frozen=True)
class CategoricalPolicy(Generic[NetworkT]):
  """Independent softmaxes over consecutive slices of the network's outputs.

  Attributes:
    network: maps normalised observations to logits [N, sum(factor_sizes)].
    factor_sizes: number of choices of each factor; (n,) is Discrete(n).
    output_scale: gain of the initial output layer.
  """

  network: NetworkT
  factor_sizes: tuple[int, ...]
  output_scale: float = 0.01

  def __post_init__(self):
    """Raises ValueError if the outputs do not split into the factors."""
    if self.network.output_size != sum(self.factor_sizes):
      raise ValueError(
        f'{self.network.output_size} outputs do not split into factors of '
        f'{self.factor_sizes}'
      )

  @property
  def observation_size(self) -> int:
    """Width O of an observation."""
    return self.network.input_size

  @property
  def output_size(self) -> int:
    """Width M of the outputs: the sum of the factors' sizes."""
    return self.network.output_size

  @property
  def num_actions(self) -> int:
    """Number of different actions: the product of the factors' sizes."""
    return math.prod(self.factor_sizes)

  @property
  def num_parameters(self) -> int:
    """Length P of theta."""
    return self.network.num_parameters

  def initial_parameters(self, rng: np.random.Generator) -> np.ndarray:
    """Draws theta: float32 [P]."""
    return self.network.initial_parameters(rng, self.output_scale)

  def network_parameters(self, theta: Array) -> Array:
    """Returns theta [..., P], all of which belongs to the network."""
    return theta

  def log_std(self, theta: Array) -> Array:
    """Returns the empty part [..., 0] of theta [..., P]."""
    return theta[..., self.num_parameters :]

  def with_network(self, theta: Array, parameters: Array) -> Array:
    """Returns the parameters in theta's dtype: the network is all of theta.

    Args:
      theta: float32 [P].
      parameters: [..., P] parameters of networks, of any float dtype.

    Returns:
      [..., P], in theta's dtype; a tensor where an argument is one.
    """
    if tf.is_tensor(theta) or tf.is_tensor(parameters):
      return tf.cast(parameters, theta.dtype)
    return parameters.astype(theta.dtype)

  def outputs(self, theta: tf.Tensor, x: Inputs) -> tf.Tensor:
    """Computes the logits.

    Args:
      theta: [P] parameters.
      x: inputs of N states, normalised.

    Returns:
      [N, M] logits, in theta's dtype.
    """
    return self.network.outputs(theta, x)

  def distribution(
    self, theta: tf.Tensor, outputs: tf.Tensor
  ) -> tfd.Distribution:
    """Builds the distribution of the actions.

    Args:
      theta: [P] parameters; the distribution depends on the logits alone.
      outputs: [N, M] logits.

    Returns:
      A distribution of batch [N] and event [number of factors], int32.
    """
    del theta
    width = max(self.factor_sizes)
    nothing = tf.constant(_PADDING_LOGIT, outputs.dtype)
    logits = [
      tf.pad(part, [[0, 0], [0, width - size]], constant_values=nothing)
      for size, part in zip(
        self.factor_sizes, self._split(outputs), strict=True
      )
    ]
    return tfd.Independent(tfd.Categorical(logits=tf.stack(logits, axis=1)), 1)

  def _split(self, outputs: tf.Tensor) -> list[tf.Tensor]:
    return tf.split(outputs, self.factor_sizes, axis=1)

  def linearize(
    self, theta: tf.Tensor, x: Inputs, keep: bool = False
  ) -> linearization.Linearization:
    """Linearises the logits in theta.

    Args:
      theta: [P] parameters.
      x: inputs of N states, normalised.
      keep: whether to keep the activations, see Network.

    Returns:
      The Linearization at theta.
    """
    return self.network.linearize(theta, x, keep)

  def metric(
    self, theta: tf.Tensor, outputs: tf.Tensor
  ) -> Callable[[tf.Tensor], tf.Tensor]:
    """Prepares products with M, the KL's second derivative in the logits.

    M is diag(p) - p p^T in each factor.

    Args:
      theta: [P] parameters; M depends on the logits alone.
      outputs: [N, M] logits.

    Returns:
      A function that multiplies a tangent [N, M] by M.
    """
    del theta
    probabilities = [tf.nn.softmax(part) for part in self._split(outputs)]

    def product(tangent):
      parts = []
      for p, t in zip(probabilities, self._split(tangent), strict=True):
        mean = tf.reduce_sum(p * t, axis=1, keepdims=True)
        parts.append(p * (t - mean))
      return tf.concat(parts, axis=1)

    return product

  def bypass_fisher_product(self, v: tf.Tensor) -> tf.Tensor:
    """Returns zeros [P]: every parameter acts through the logits."""
    return tf.zeros_like(v)


def categorical_policy(
  settings: config.PolicyConfig,
  observation_size: int,
  factor_sizes: tuple[int, ...],
) -> CategoricalPolicy[mlp.MLP]:
  """Makes the (factored) categorical MLP policy that the settings describe.

  Args:
    settings: the network's hidden layers and the initial output layer.
    observation_size: width O.
    factor_sizes: choices of each factor.

  Returns:
    The policy.
  """
  network = mlp.MLP(
    observation_size,
    settings.hidden_sizes,
    sum(factor_sizes),
    settings.activation,
  )
  return CategoricalPolicy(network, tuple(factor_sizes), settings.output_scale)


def atari_policy(
  settings: config.PolicyConfig,
  frame_shape: tuple[int, int],
  factor_sizes: tuple[int, ...],
) -> CategoricalPolicy[conv.ConvNet]:
  """Makes the convolutional policy of section 8.2, on stacks of four frames.

  Args:
    settings: the convolutions' filters and the hidden layers.
    frame_shape: height and width of a frame, in pixels.
    factor_sizes: choices of each factor.

  Returns:
    The policy.
  """
  network = images.conv_net(settings, (*frame_shape, 4), sum(factor_sizes))
  return CategoricalPolicy(network, tuple(factor_sizes), settings.output_scale)
