"""The states of a step that bounds each of them: their weights and curvatures.

A batch may be here or in shards. What is done for each state is written once,
for some states; see `Weighted`. What differs is the sum over all states and who
keeps the values.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from trpo_tf.optim import fisher
from trpo_tf.policies.protocols import Policy

__all__ = ['BatchStates', 'States', 'Weighted']

_MIN_RATIO = 1e-3  # A weight must be able to come back.


class Weighted(NamedTuple):
  """Weights of some states, and the curvatures to which they lead.

  Attributes:
    logs: float64 [n], logarithms of the weights, which do not underflow.
    slopes: float64 [n], change of `logs` in the last update, per exponent.
    curvatures: float64 [n], damped curvature of each state along a direction.
  """

  logs: tf.Tensor
  slopes: tf.Tensor
  curvatures: tf.Tensor

  @classmethod
  def evenly(cls, count: tf.Tensor) -> 'Weighted':
    """Weighs states by 1; the curvatures are not known yet.

    Args:
      count: int32 [], number n of states.
    """
    zeros = tf.zeros([count], tf.float64)
    return cls(zeros, zeros, zeros)

  @property
  def weights(self) -> tf.Tensor:
    """The weights, float64 [n]."""
    return tf.exp(self.logs)

  def weighted_curvatures(self) -> tf.Tensor:
    """Returns the weights times the curvatures, float64 [n]."""
    return self.weights * self.curvatures

  def rises(self, mean: tf.Tensor) -> tf.Tensor:
    """Returns each state's part of `States.rise`, float64 [n].

    Args:
      mean: float64 [], the weighted mean of all states' curvatures.
    """
    return self.weights * self.slopes * (self.curvatures / mean - 1)

  def updated(self, mean: tf.Tensor, exponent: tf.Tensor) -> 'Weighted':
    """Multiplies the weights by a power of the curvatures over their mean.

    Args:
      mean: float64 [], the weighted mean of all states' curvatures.
      exponent: float64 [], the power.

    Returns:
      Weights of another mean than 1.
    """
    ratios = self.curvatures / mean
    slopes = tf.math.log(tf.maximum(ratios, _MIN_RATIO))
    return self._replace(logs=self.logs + exponent * slopes, slopes=slopes)


class States(abc.ABC):
  """The states of a batch and their weights, of mean 1.

  A method takes and returns `kept`: what is known of each state, as tensors
  that a loop carries; () where the states are elsewhere and keep it there.
  """

  @abc.abstractmethod
  def evenly(self) -> Any:
    """Weighs every state by 1; returns `kept`."""

  @abc.abstractmethod
  def products(self, kept: Any) -> Callable[[tf.Tensor], tf.Tensor]:
    """Prepares products with the weighted mean of the Fisher matrices F_s.

    Args:
      kept: what is known of each state.

    Returns:
      A function that maps v float64 [P] to the product, float64 [P].
    """

  @abc.abstractmethod
  def measured(
    self, kept: Any, s: tf.Tensor, damped: tf.Tensor | float
  ) -> tuple[Any, tf.Tensor, tf.Tensor]:
    """Computes s^T F_s s + damped of every state.

    Args:
      kept: what is known of each state.
      s: float64 [P], a direction.
      damped: float64 [], added to every curvature.

    Returns:
      `kept`, the curvatures' weighted mean and the largest one, float64 [].
    """

  @abc.abstractmethod
  def rise(self, kept: Any, mean: tf.Tensor) -> tf.Tensor:
    """Differentiates the dual along the last update, with the other sign.

    Args:
      kept: what is known of each state.
      mean: float64 [], the curvatures' weighted mean.

    Returns:
      float64 [], the derivative at the update's end over `mean`.
    """

  @abc.abstractmethod
  def updated(self, kept: Any, mean: tf.Tensor, exponent: tf.Tensor) -> Any:
    """Multiplies the weights by a power of the curvatures over their mean.

    Args:
      kept: what is known of each state.
      mean: float64 [], the curvatures' weighted mean.
      exponent: float64 [], the power.

    Returns:
      `kept`, with weights of mean 1.
    """


@dataclasses.dataclass(frozen=True)
class BatchStates(States):
  """The states of a batch that is here; `kept` is a Weighted.

  Attributes:
    policy: the policy.
    linearized: the policy linearised on N states.
  """

  policy: Policy
  linearized: fisher.Linearized

  def evenly(self) -> Weighted:
    """Weighs every state by 1; see States."""
    return Weighted.evenly(tf.shape(self.linearized.outputs)[0])

  def products(self, kept: Weighted) -> Callable[[tf.Tensor], tf.Tensor]:
    """Prepares products with the weighted mean; see States."""
    return self.weighted_products(kept.weights)

  def measured(
    self, kept: Weighted, s: tf.Tensor, damped: tf.Tensor | float
  ) -> tuple[Weighted, tf.Tensor, tf.Tensor]:
    """Computes the curvature of every state; see States."""
    kept = kept._replace(curvatures=self.curvatures(s) + damped)
    mean = tf.reduce_mean(kept.weighted_curvatures())
    return kept, mean, tf.reduce_max(kept.curvatures)

  def rise(self, kept: Weighted, mean: tf.Tensor) -> tf.Tensor:
    """Differentiates the dual along the last update; see States."""
    return tf.reduce_mean(kept.rises(mean))

  def updated(
    self, kept: Weighted, mean: tf.Tensor, exponent: tf.Tensor
  ) -> Weighted:
    """Multiplies the weights by a power of their ratios; see States."""
    kept = kept.updated(mean, exponent)
    count = tf.cast(tf.size(kept.logs), tf.float64)
    logs = tf.nn.log_softmax(kept.logs) + tf.math.log(count)
    return kept._replace(logs=logs)

  def weighted_products(
    self, weights: tf.Tensor
  ) -> Callable[[tf.Tensor], tf.Tensor]:
    """Prepares products with the mean of w_s F_s.

    Args:
      weights: [N], of mean 1 over the states of all batches that are averaged.

    Returns:
      A function that maps v float64 [P] to the product, float64 [P].
    """
    linearized = fisher.reweighted(self.linearized, weights)
    return lambda v: fisher.product(self.policy, linearized, v)

  def curvatures(self, s: tf.Tensor) -> tf.Tensor:
    """Computes s^T F_s s of every state, float64 [N].

    Args:
      s: float64 [P], a direction.
    """
    linearized = self.linearized
    tangent = tf.cast(s, linearized.outputs.dtype)
    parts = []
    for block, metric in zip(
      linearized.blocks, linearized.metrics, strict=True
    ):
      along = block.jvp(tangent)
      terms = tf.cast(along, tf.float64) * tf.cast(metric(along), tf.float64)
      parts.append(tf.reduce_sum(terms, axis=1))
    direct = tf.tensordot(s, self.policy.bypass_fisher_product(s), 1)
    return tf.concat(parts, axis=0) + direct
