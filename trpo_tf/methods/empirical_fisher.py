"""TRPO with the covariance of gradients in place of the analytic Fisher matrix.

Section 8.1 of the paper: A = mean over the sampled steps of s s^T, where
s = d log pi(a|s) / d theta. It has the same expectation as the analytic form,
which integrates over the actions, and more noise.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from trpo_tf import config
from trpo_tf.estimation import surrogate
from trpo_tf.optim import fisher, trust_region
from trpo_tf.optim.step import Step

__all__ = ['covariance', 'make_step']


def covariance(
  policy: Any, theta: tf.Tensor, linearized: fisher.Linearized, data: Any
) -> Callable[[tf.Tensor], tf.Tensor]:
  """Products with the mean of s s^T over the sampled steps.

  Args:
    policy: the policy.
    theta: [P] parameters.
    linearized: the policy linearised on N states.
    data: gives the actions taken there, leading dimension N.

  Returns:
    Maps v float64 [P] to A v, float64 [P].
  """
  outputs = linearized.outputs
  at = theta, outputs

  def log_probs() -> tf.Tensor:
    distribution = surrogate.distribution64(policy, *at)
    return distribution.log_prob(data.actions)

  def product(v: tf.Tensor) -> tf.Tensor:
    tangent = tf.cast(v, outputs.dtype)
    through = tf.concat([b.jvp(tangent) for b in linearized.blocks], axis=0)
    with tf.autodiff.ForwardAccumulator(at, (tangent, through)) as forward:
      values = log_probs()
    along = forward.jvp(values)  # s^T v of each step
    with tf.GradientTape() as tape:
      tape.watch(at)
      mean = tf.reduce_mean(along * log_probs())
    direct, by_outputs = tape.gradient(mean, at, unconnected_gradients='zero')
    return fisher.vjp(linearized, by_outputs) + tf.cast(direct, tf.float64)

  return product


def make_step(
  policy: Any,
  objective: surrogate.Objective,
  settings: config.TrustRegionConfig,
  num_states: int,
) -> Step:
  """Compiles TRPO's step with this matrix; arguments as there."""
  return trust_region.make_step(
    policy, objective, settings, num_states, covariance
  )
