"""TRPO with the covariance of gradients in place of the analytic Fisher matrix.

Section 8.1 of the paper: A = mean over the sampled steps of s s^T, where
s = d log pi(a|s) / d theta. It has the same expectation as the analytic form,
which integrates over the actions, but more noise.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from trpo_tf.config import ExperimentConfig
from trpo_tf.errors import UserError
from trpo_tf.estimation import surrogate
from trpo_tf.optim import fisher, trust_region
from trpo_tf.optim.compiled import compile_step
from trpo_tf.optim.step import Step
from trpo_tf.policies.protocols import Policy

__all__ = ['check', 'covariance', 'make_step']


def covariance(
  policy: Policy, theta: tf.Tensor, linearized: fisher.Linearized, data: Any
) -> Callable[[tf.Tensor], tf.Tensor]:
  """Prepares products with the mean of s s^T over the sampled steps.

  Args:
    policy: the policy.
    theta: float32 [P] parameters.
    linearized: the policy linearised on N states.
    data: the objective's data, with the actions [N, A] in these states.

  Returns:
    A function that maps v float64 [P] to A v, float64 [P].
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


def check(config: ExperimentConfig, num_states: int) -> None:
  """Raises UserError for --sampler=vine, whose data are not steps of paths.

  Args:
    config: the experiment.
    num_states: not used.
  """
  del num_states
  if config.sampler.sampler == 'vine':
    raise UserError(
      '--method=empirical_fisher uses the covariance of the gradients along '
      'paths: take --sampler=single_path, or --method=trpo for the vine'
    )


def make_step(
  policy: Policy,
  objective: surrogate.Objective,
  config: ExperimentConfig,
  num_states: int,
) -> Step:
  """Compiles TRPO's step with the covariance as its matrix.

  Args:
    policy: the policy that samples the batches.
    objective: terms of the surrogate.
    config: gives delta and the settings of CG and line search.
    num_states: about how many states a batch has.

  Returns:
    The step.

  Raises:
    UserError: see `check`.
  """
  check(config, num_states)
  return compile_step(
    trust_region.take, policy, objective, config, num_states, covariance
  )
