"""Gaussian policy: the network's mean, state-independent deviations."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from trpo_tf import config
from trpo_tf.policies import linearization, mlp

__all__ = ['GaussianPolicy', 'gaussian_policy']


@dataclasses.dataclass(frozen=True)
class GaussianPolicy:
  """Diagonal Gaussian; theta is the network's parameters, then log_std [A].

  Attributes:
    network: maps normalised observations to means (an MLP or the like).
    initial_log_std: initial log standard deviation, of every action.
    output_scale: gain of the initial output layer.
  """

  network: Any
  initial_log_std: float = 0.0
  output_scale: float = 0.01

  @property
  def observation_size(self) -> int:
    """Width O of an observation."""
    return self.network.input_size

  @property
  def output_size(self) -> int:
    """Width M of the outputs: the actions' number A."""
    return self.network.output_size

  @property
  def num_parameters(self) -> int:
    """Length P of theta."""
    return self.network.num_parameters + self.output_size

  def initial_parameters(self, rng: np.random.Generator) -> np.ndarray:
    """Draws theta: float32 [P]."""
    log_std = np.full(self.output_size, self.initial_log_std, np.float32)
    network = self.network.initial_parameters(rng, self.output_scale)
    return np.concatenate([network, log_std])

  def network_parameters(self, theta: Any) -> Any:
    """The network's part of theta: [..., D] of [..., P]."""
    return theta[..., : self.network.num_parameters]

  def log_std(self, theta: tf.Tensor) -> tf.Tensor:
    """Log standard deviations in theta: [..., A] of [..., P]."""
    return theta[..., self.network.num_parameters :]

  def outputs(self, theta: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Means [N, A] at the normalised observations x [N, O]."""
    return self.network.outputs(self.network_parameters(theta), x)

  def distribution(
    self, theta: tf.Tensor, outputs: tf.Tensor
  ) -> tfd.Distribution:
    """The action distribution, batch [N], event [A], in their dtype."""
    return tfd.MultivariateNormalDiag(outputs, tf.exp(self.log_std(theta)))

  def linearize(
    self, theta: tf.Tensor, x: tf.Tensor
  ) -> linearization.Linearization:
    """Linearises the means in the whole of theta (log_std has no effect)."""
    inner = self.network.linearize(self.network_parameters(theta), x)
    padding = [[0, self.output_size]]
    return linearization.Linearization(
      inner.outputs,
      lambda v: inner.jvp(self.network_parameters(v)),
      lambda u: tf.pad(inner.vjp(u), padding),
    )

  def metric(
    self, theta: tf.Tensor, outputs: tf.Tensor
  ) -> Callable[[tf.Tensor], tf.Tensor]:
    """Product with M, the KL's second derivative in the means: 1 / sigma^2.

    Args:
      theta: [P] parameters.
      outputs: [N, A] means (M does not depend on them).

    Returns:
      Maps a tangent [N, A] to M times it.
    """
    del outputs
    precision = tf.exp(-2 * self.log_std(theta))
    return lambda tangent: precision * tangent

  def direct_metric_product(self, v: tf.Tensor) -> tf.Tensor:
    """Fisher block of the parameters that bypass the outputs, times v [P].

    The KL's second derivative in log_std is 2 per action, in every state.
    """
    padding = [[self.network.num_parameters, 0]]
    return tf.pad(2 * self.log_std(v), padding)


def gaussian_policy(
  settings: config.PolicyConfig, observation_size: int, action_size: int
) -> GaussianPolicy:
  """The Gaussian MLP policy that the settings describe."""
  network = mlp.MLP(
    observation_size, settings.hidden_sizes, action_size, settings.activation
  )
  return GaussianPolicy(
    network, settings.initial_log_std, settings.output_scale
  )
