"""Surrogate objectives, and the evaluation of a policy on a recorded batch.

An objective is a function (distribution, data) -> [N]. It gives a term for each
state, and their mean over the states is the surrogate. `distribution` is the
policy's, in float64 and of batch [N]. `data` is a NamedTuple of tensors that
the objective knows, each with a leading dimension N.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from trpo_tf.policies import graphs
from trpo_tf.policies.protocols import Inputs, Policy

__all__ = [
  'Consistency',
  'CandidateEvaluation',
  'Objective',
  'PathData',
  'WeightedPathData',
  'check_consistency',
  'distribution64',
  'evaluate',
  'importance_sampled',
  'mean_over_states',
  'output_gradient',
  'weights_of',
  'with_entropy',
]

Objective = Callable[[tfd.Distribution, Any], tf.Tensor]


class PathData(NamedTuple):
  """The data of each step that the single-path objective needs.

  Attributes:
    actions: [N, A] float64 (Gaussian) or int32 (categorical), unclipped.
    log_probs: [N], log-probability of the action under the sampling policy.
    advantages: [N], in any unit.
  """

  actions: tf.Tensor
  log_probs: tf.Tensor
  advantages: tf.Tensor


class WeightedPathData(NamedTuple):
  """PathData of steps that count differently in every mean over the batch.

  Attributes:
    actions, log_probs, advantages: see PathData.
    weights: float64 [N] of mean 1.
  """

  actions: tf.Tensor
  log_probs: tf.Tensor
  advantages: tf.Tensor
  weights: tf.Tensor


def importance_sampled(
  distribution: tfd.Distribution, data: PathData | WeightedPathData
) -> tf.Tensor:
  """Computes the terms pi(a|s) / q(a|s) * advantage of equation 14.

  Args:
    distribution: the policy's, float64, batch [N].
    data: actions, log-probabilities and advantages.

  Returns:
    float64 [N].
  """
  log_probs = tf.cast(data.log_probs, tf.float64)
  ratio = tf.exp(distribution.log_prob(data.actions) - log_probs)
  return ratio * tf.cast(data.advantages, tf.float64)


def with_entropy(objective: Objective, coefficient: float) -> Objective:
  """Adds an entropy bonus to an objective; the paper has none.

  Args:
    objective: the terms of a surrogate.
    coefficient: multiple of the entropy, in the unit of the terms per nat.

  Returns:
    An objective whose terms are larger by coefficient * H(pi(.|s)).
  """

  def terms(distribution, data):
    return objective(distribution, data) + coefficient * distribution.entropy()

  return terms


def weights_of(data: Any) -> tf.Tensor | None:
  """Returns the weights [N] of the states in an objective's data, or None."""
  return data.weights if isinstance(data, WeightedPathData) else None


def mean_over_states(terms: tf.Tensor, data: Any) -> tf.Tensor:
  """Averages terms [N] over the states, by the weights of the data, if any.

  Args:
    terms: [N].
    data: the objective's data.

  Returns:
    The mean [], in the dtype of the terms.
  """
  weights = weights_of(data)
  if weights is not None:
    terms = terms * tf.cast(weights, terms.dtype)
  return tf.reduce_mean(terms)


class CandidateEvaluation(NamedTuple):
  """The evaluation of a candidate policy on the batch; float64 scalars.

  Attributes:
    surrogate: mean of the objective over the states.
    mean_kl: mean of KL(old || candidate) over the states, in nats.
    max_kl: the largest KL(old || candidate) of a state, in nats.
  """

  surrogate: tf.Tensor
  mean_kl: tf.Tensor
  max_kl: tf.Tensor


def distribution64(
  policy: Policy, theta: tf.Tensor, outputs: tf.Tensor
) -> tfd.Distribution:
  """Builds the policy's distribution in float64.

  Args:
    policy: the policy.
    theta: [P] parameters, of any float dtype.
    outputs: [N, M] network outputs, of any float dtype.

  Returns:
    A float64 distribution of batch [N].
  """
  return policy.distribution(
    tf.cast(theta, tf.float64), tf.cast(outputs, tf.float64)
  )


def evaluate(
  policy: Policy,
  objective: Objective,
  data: Any,
  old: tfd.Distribution,
  theta: tf.Tensor,
  outputs: tf.Tensor,
) -> CandidateEvaluation:
  """Computes the surrogate and the KL divergence of a candidate, in float64.

  Args:
    policy: the policy.
    objective: the surrogate's terms.
    data: the objective's data, leading dimension N.
    old: float64 distribution of the sampling policy, batch [N].
    theta: [P], the candidate's parameters.
    outputs: [N, M], its network outputs.

  Returns:
    The CandidateEvaluation.
  """
  new = distribution64(policy, theta, outputs)
  kl = tfd.kl_divergence(old, new)
  return CandidateEvaluation(
    mean_over_states(objective(new, data), data),
    mean_over_states(kl, data),
    tf.reduce_max(kl),
  )


def output_gradient(
  policy: Policy,
  objective: Objective,
  data: Any,
  theta: tf.Tensor,
  outputs: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Computes the surrogate and its gradients in the outputs and in theta.

  The gradient in theta counts only what bypasses the outputs (log_std). The
  network's vjp of the gradient in the outputs completes it.

  Args:
    policy: the policy.
    objective: the surrogate's terms.
    data: the objective's data, leading dimension N.
    theta: [P] parameters.
    outputs: [N, M] network outputs.

  Returns:
    The surrogate float64 [], its gradient in the outputs [N, M], and the part
    of its gradient in theta [P] that bypasses the outputs.
  """
  with tf.GradientTape() as tape:
    tape.watch((theta, outputs))
    terms = objective(distribution64(policy, theta, outputs), data)
    surrogate = mean_over_states(terms, data)
  by_outputs, by_theta = tape.gradient(
    surrogate, (outputs, theta), unconnected_gradients='zero'
  )
  return surrogate, by_outputs, by_theta


class Consistency(NamedTuple):
  """The differences between the sampler's policy and TensorFlow's on a batch.

  Attributes:
    outputs_error: largest absolute difference of an output.
    outputs_row: row where it occurs.
    log_probs_error: largest absolute difference of a log-probability, in nats,
      less what rounding allows if that was asked for.
    log_probs_row: row where it occurs.
  """

  outputs_error: float
  outputs_row: int
  log_probs_error: float
  log_probs_row: int


@functools.lru_cache(maxsize=8)
def _recompute(policy: Policy) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
  """Compiles the computation into one call; eager execution takes 35 ms."""

  def recompute(theta, x, actions):
    outputs = policy.outputs(theta, x)
    distribution = distribution64(policy, theta, outputs)
    return outputs, distribution.log_prob(actions)

  return graphs.compile_any_batch(recompute, fixed=1)


@functools.lru_cache(maxsize=8)
def _log_probs(policy: Policy) -> Callable[..., tf.Tensor]:
  """Compiles the log-probabilities of actions for outputs that are known."""

  def log_probs(theta, outputs, actions):
    return distribution64(policy, theta, outputs).log_prob(actions)

  return graphs.compile_any_batch(log_probs, fixed=1)


# float32 networks agree to about this much per unit of output
_ROUNDING = 1e-6


def _rounded(
  policy: Policy, theta: np.ndarray, actions: np.ndarray, outputs: tf.Tensor
) -> np.ndarray:
  """Returns how far the rounding of the outputs may move log-probabilities.

  An output error e moves the log-probability by g e - e M e / 2 to second
  order, where g is its gradient in the outputs and M the policy's metric. For
  a Gaussian this is exact: g is (action - mean) / std^2 and M is 1 / std^2.

  Args:
    policy: the policy.
    theta: float32 [P], its parameters.
    actions: [N, A], the actions.
    outputs: float32 [N, M], the network's outputs.

  Returns:
    float64 [N], in nats.
  """
  theta64, outputs64 = (tf.cast(v, tf.float64) for v in (theta, outputs))
  with tf.GradientTape() as tape:
    tape.watch(outputs64)
    log_probs = policy.distribution(theta64, outputs64).log_prob(actions)
  error = _ROUNDING * (1 + tf.abs(outputs64))
  first = tf.abs(tape.gradient(log_probs, outputs64)) * error
  second = tf.abs(policy.metric(theta64, outputs64)(error)) * error / 2
  return tf.reduce_sum(first + second, axis=1).numpy()


def check_consistency(
  policy: Policy,
  theta: np.ndarray,
  x: Inputs,
  actions: np.ndarray,
  outputs: np.ndarray,
  log_probs: np.ndarray,
  rounding: bool = False,
  recomputed: np.ndarray | None = None,
) -> Consistency:
  """Compares what the sampler recorded with the policy in TensorFlow.

  Args:
    policy: the sampling policy.
    theta: float32 [P], its parameters.
    x: inputs of N states, normalised.
    actions: [N, A], recorded actions, float64 or int32.
    outputs: float32 [N, M], recorded outputs.
    log_probs: float32 [N], recorded log-probabilities.
    rounding: whether to subtract from the differences of log-probabilities what
      the rounding of the outputs explains.
    recomputed: float32 [N, M], TensorFlow's outputs, if they are known.

  Returns:
    The largest differences; the caller decides what to tolerate. A NaN on
    either side gives a NaN error at its row.
  """
  expected = (
    _recompute(policy)(theta, x, actions)
    if recomputed is None
    else (recomputed, _log_probs(policy)(theta, recomputed, actions))
  )
  by_output = np.abs(np.asarray(expected[0]) - outputs).max(axis=1)
  by_log_prob = np.abs(expected[1].numpy() - log_probs)
  if rounding:
    by_log_prob = by_log_prob - _rounded(policy, theta, actions, expected[0])
  # argmax finds the first NaN, if there is one.
  row, log_row = int(np.argmax(by_output)), int(np.argmax(by_log_prob))
  return Consistency(
    float(by_output[row]), row, float(by_log_prob[log_row]), log_row
  )
