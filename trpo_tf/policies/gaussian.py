"""Gaussian policy: means from the network, deviations shared by all states."""

import dataclasses
from collections.abc import Callable
from typing import Generic

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from trpo_tf import config
from trpo_tf.policies import linearization, mlp
from trpo_tf.policies.protocols import Array, Inputs, NetworkT

__all__ = ['GaussianPolicy', 'gaussian_policy']


@dataclasses.dataclass(frozen=True)
class GaussianPolicy(Generic[NetworkT]):
  """Diagonal Gaussian; theta holds the network's parameters, then log_std [A].

  Attributes:
    network: maps normalised observations to means.
    initial_log_std: initial log standard deviation of every action.
    output_scale: gain of the initial output layer.
  """

  network: NetworkT
  initial_log_std: float = 0.0
  output_scale: float = 0.01

  @property
  def observation_size(self) -> int:
    """Width O of an observation."""
    return self.network.input_size

  @property
  def output_size(self) -> int:
    """Width M of the outputs: the number A of actions."""
    return self.network.output_size

  @property
  def num_actions(self) -> int:
    """0, as the actions cannot be counted."""
    return 0

  @property
  def num_parameters(self) -> int:
    """Length P of theta."""
    return self.network.num_parameters + self.output_size

  def initial_parameters(self, rng: np.random.Generator) -> np.ndarray:
    """Draws theta: float32 [P]."""
    log_std = np.full(self.output_size, self.initial_log_std, np.float32)
    network = self.network.initial_parameters(rng, self.output_scale)
    return np.concatenate([network, log_std])

  def network_parameters(self, theta: Array) -> Array:
    """Returns the network's part [..., D] of theta [..., P]."""
    return theta[..., : self.network.num_parameters]

  def log_std(self, theta: Array) -> Array:
    """Returns the log standard deviations [..., A] in theta [..., P]."""
    return theta[..., self.network.num_parameters :]

  def with_network(self, theta: Array, parameters: Array) -> Array:
    """Returns policies that differ from theta in the network alone.

    Args:
      theta: float32 [P].
      parameters: [..., D] parameters of networks, of any float dtype.

    Returns:
      [..., P], in theta's dtype; a tensor where an argument is one.
    """
    log_std = self.log_std(theta)
    if tf.is_tensor(theta) or tf.is_tensor(parameters):
      network = tf.cast(parameters, log_std.dtype)
      last = tf.concat([tf.shape(network)[:-1], [self.output_size]], axis=0)
      return tf.concat([network, tf.broadcast_to(log_std, last)], axis=-1)
    shape = (*parameters.shape[:-1], self.output_size)
    both = [parameters, np.broadcast_to(log_std, shape)]
    return np.concatenate(both, axis=-1).astype(theta.dtype)

  def outputs(self, theta: tf.Tensor, x: Inputs) -> tf.Tensor:
    """Computes the means.

    Args:
      theta: [P] parameters.
      x: inputs of N states, normalised.

    Returns:
      [N, A] means, in theta's dtype.
    """
    return self.network.outputs(self.network_parameters(theta), x)

  def distribution(
    self, theta: tf.Tensor, outputs: tf.Tensor
  ) -> tfd.Distribution:
    """Builds the distribution of the actions.

    Args:
      theta: [P] parameters.
      outputs: [N, A] means, of theta's dtype.

    Returns:
      A normal distribution of batch [N] and event [A], in the same dtype.
    """
    return tfd.MultivariateNormalDiag(outputs, tf.exp(self.log_std(theta)))

  def linearize(
    self, theta: tf.Tensor, x: Inputs, keep: bool = False
  ) -> linearization.Linearization:
    """Linearises the means in the whole of theta; log_std has no effect.

    Args:
      theta: [P] parameters.
      x: inputs of N states, normalised.
      keep: whether to keep the activations, see Network.

    Returns:
      The Linearization at theta.
    """
    inner = self.network.linearize(self.network_parameters(theta), x, keep)
    padding = [[0, self.output_size]]

    def pullback(cotangent, start):
      assert inner.pullback is not None
      outputs, gradient, sums = inner.pullback(cotangent, start)
      return outputs, tf.pad(gradient, padding), sums

    return linearization.Linearization(
      inner.outputs,
      lambda v: inner.jvp(self.network_parameters(v)),
      lambda u: tf.pad(inner.vjp(u), padding),
      pullback if inner.pullback else None,
    )

  def metric(
    self, theta: tf.Tensor, outputs: tf.Tensor
  ) -> Callable[[tf.Tensor], tf.Tensor]:
    """Prepares products with M, the KL's second derivative in the means.

    M is diag(1 / sigma^2).

    Args:
      theta: [P] parameters.
      outputs: [N, A] means; M does not depend on them.

    Returns:
      A function that multiplies a tangent [N, A] by M.
    """
    del outputs
    precision = tf.exp(-2 * self.log_std(theta))
    return lambda tangent: precision * tangent

  def bypass_fisher_product(self, v: tf.Tensor) -> tf.Tensor:
    """Multiplies v [P] by the Fisher matrix of log_std.

    The KL's second derivative in log_std is 2 for each action, in every state.
    """
    padding = [[self.network.num_parameters, 0]]
    return tf.pad(2 * self.log_std(v), padding)


def gaussian_policy(
  settings: config.PolicyConfig, observation_size: int, action_size: int
) -> GaussianPolicy[mlp.MLP]:
  """Makes the Gaussian MLP policy that the settings describe.

  Args:
    settings: the network's hidden layers and the initial deviations.
    observation_size: width O.
    action_size: number A of actions.

  Returns:
    The policy.
  """
  network = mlp.MLP(
    observation_size, settings.hidden_sizes, action_size, settings.activation
  )
  return GaussianPolicy(
    network, settings.initial_log_std, settings.output_scale
  )
