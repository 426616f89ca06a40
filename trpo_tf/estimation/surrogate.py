"""Surrogate objectives, and what a policy is worth on a recorded batch.

An objective is a function (distribution, data) -> [N]: a term for each state,
whose mean over the states is the surrogate. `distribution` is the policy's,
in float64 and of batch [N]; `data` is a NamedTuple of tensors that the
objective knows, each with a leading dimension N.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from trpo_tf.policies import graphs

__all__ = [
  'Consistency',
  'Evaluation',
  'Objective',
  'PathData',
  'check_consistency',
  'distribution64',
  'evaluate',
  'importance_sampled',
  'output_gradient',
]

Objective = Callable[[tfd.Distribution, Any], tf.Tensor]


class PathData(NamedTuple):
  """What the single-path objective needs of each step.

  Attributes:
    actions: [N, A] float64 (Gaussian) or int32 (categorical), unclipped.
    log_probs: [N] log probability of the action under the sampling policy.
    advantages: [N].
  """

  actions: tf.Tensor
  log_probs: tf.Tensor
  advantages: tf.Tensor


def importance_sampled(
  distribution: tfd.Distribution, data: PathData
) -> tf.Tensor:
  """Terms pi(a|s) / q(a|s) * advantage, equation 14 of the paper: [N]."""
  log_probs = tf.cast(data.log_probs, tf.float64)
  ratio = tf.exp(distribution.log_prob(data.actions) - log_probs)
  return ratio * tf.cast(data.advantages, tf.float64)


class Evaluation(NamedTuple):
  """A candidate policy on the batch; float64 scalars.

  Attributes:
    surrogate: mean of the objective over the states.
    mean_kl: mean of KL(old || candidate) over the states, in nats.
    max_kl: its largest value.
  """

  surrogate: tf.Tensor
  mean_kl: tf.Tensor
  max_kl: tf.Tensor


def distribution64(
  policy: Any, theta: tf.Tensor, outputs: tf.Tensor
) -> tfd.Distribution:
  """The policy's distribution in float64, whatever the network's dtype."""
  return policy.distribution(
    tf.cast(theta, tf.float64), tf.cast(outputs, tf.float64)
  )


def evaluate(
  policy: Any,
  objective: Objective,
  data: Any,
  old: tfd.Distribution,
  theta: tf.Tensor,
  outputs: tf.Tensor,
) -> Evaluation:
  """Surrogate and KL divergence of a candidate, all in float64.

  Args:
    policy: gives the distribution.
    objective: the surrogate's terms.
    data: the objective's data, leading dimension N.
    old: float64 distribution of the sampling policy, batch [N].
    theta: [P] parameters of the candidate.
    outputs: [N, M] its network outputs.

  Returns:
    The Evaluation.
  """
  new = distribution64(policy, theta, outputs)
  kl = tfd.kl_divergence(old, new)
  return Evaluation(
    tf.reduce_mean(objective(new, data)), tf.reduce_mean(kl), tf.reduce_max(kl)
  )


def output_gradient(
  policy: Any,
  objective: Objective,
  data: Any,
  theta: tf.Tensor,
  outputs: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """The surrogate and its gradient in outputs and theta, separately.

  The gradient in theta counts only what bypasses the outputs (log_std); the
  network's vjp of the other one completes it.

  Args:
    policy: gives the distribution.
    objective: the surrogate's terms.
    data: the objective's data, leading dimension N.
    theta: [P] parameters.
    outputs: [N, M] network outputs.

  Returns:
    Surrogate float64 [], d/d outputs [N, M], partial d/d theta [P].
  """
  with tf.GradientTape() as tape:
    tape.watch((theta, outputs))
    terms = objective(distribution64(policy, theta, outputs), data)
    surrogate = tf.reduce_mean(terms)
  by_outputs, by_theta = tape.gradient(
    surrogate, (outputs, theta), unconnected_gradients='zero'
  )
  return surrogate, by_outputs, by_theta


class Consistency(NamedTuple):
  """How far the sampler's policy and TensorFlow's differ on a batch.

  Attributes:
    outputs_error: largest absolute difference of an output.
    outputs_row: the row where it occurs.
    log_probs_error: largest absolute difference of a log probability.
    log_probs_row: the row where it occurs.
  """

  outputs_error: float
  outputs_row: int
  log_probs_error: float
  log_probs_row: int


@functools.lru_cache(maxsize=8)
def _recompute(policy: Any) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
  """Outputs and log probabilities as one graph call; op by op costs 35 ms."""

  def recompute(theta, x, actions):
    outputs = policy.outputs(theta, x)
    distribution = distribution64(policy, theta, outputs)
    return outputs, distribution.log_prob(actions)

  return graphs.compile_any_batch(recompute, fixed=1)


def check_consistency(
  policy: Any,
  theta: np.ndarray,
  x: Any,
  actions: np.ndarray,
  outputs: np.ndarray,
  log_probs: np.ndarray,
) -> Consistency:
  """Compares what the sampler recorded with the policy in TensorFlow.

  Args:
    policy: the sampling policy.
    theta: float32 [P] its parameters.
    x: float32 [N, O] observations normalised, or FrameStacks.
    actions: [N, A] recorded actions.
    outputs: float32 [N, M] recorded outputs.
    log_probs: float32 [N] recorded log probabilities.

  Returns:
    The largest differences; the caller decides what to tolerate. A NaN on
    either side gives a NaN error at its row.
  """
  expected = _recompute(policy)(theta, x, actions)
  by_output = np.abs(expected[0].numpy() - outputs).max(axis=1)
  by_log_prob = np.abs(expected[1].numpy() - log_probs)
  # argmax finds the first NaN, if there is one.
  row, log_row = int(np.argmax(by_output)), int(np.argmax(by_log_prob))
  return Consistency(
    float(by_output[row]), row, float(by_log_prob[log_row]), log_row
  )
