"""Evaluates a candidate part by part, until it is known to be refused.

The KL divergence of a state is not negative, so a part of the states can show
that the mean is above its bound. The first candidates of a line search may
exceed the bound by far, and where a network is expensive most of their forward
passes can be left out.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from trpo_tf.estimation import surrogate
from trpo_tf.estimation.surrogate import CandidateEvaluation, Objective
from trpo_tf.policies import stacks
from trpo_tf.policies.protocols import Inputs, Policy

__all__ = ['Refuse', 'evaluate']

PART = 1024  # states

# The evaluation so far -> whether the candidate is refused, bool []
Refuse = Callable[[CandidateEvaluation], tf.Tensor]


def evaluate(
  policy: Policy,
  objective: Objective,
  theta: tf.Tensor,
  outputs: tf.Tensor,
  x: Inputs,
  data: Any,
  candidate: tf.Tensor,
  refuse: Refuse,
) -> CandidateEvaluation:
  """Computes the surrogate and the KL divergence of a candidate, in float64.

  Args:
    policy: the policy.
    objective: terms of the surrogate.
    theta: float32 [P], the policy that sampled the batch.
    outputs: [N, M], its network outputs.
    x: inputs of N states.
    data: the objective's data, leading dimension N.
    candidate: float32 [P].
    refuse: whether the states so far suffice to refuse the candidate.

  Returns:
    The CandidateEvaluation. If the candidate is refused early, it holds the
    sums over the states so far, divided by N.
  """
  N = tf.shape(outputs)[0]

  def unfinished(first, found):
    return (first < N) & ~refuse(found)

  def add_part(first, found):
    end = tf.minimum(first + PART, N)
    old = surrogate.distribution64(policy, theta, outputs[first:end])
    part = surrogate.evaluate(
      policy,
      objective,
      tf.nest.map_structure(lambda t: t[first:end], data),
      old,
      candidate,
      policy.outputs(candidate, stacks.rows(x, first, end)),
    )
    share = tf.cast(end - first, tf.float64) / tf.cast(N, tf.float64)
    return end, CandidateEvaluation(
      found.surrogate + share * part.surrogate,
      found.mean_kl + share * part.mean_kl,
      tf.maximum(found.max_kl, part.max_kl),
    )

  zero = tf.zeros([], tf.float64)
  nothing = CandidateEvaluation(zero, zero, zero)
  return tf.while_loop(unfinished, add_part, (0, nothing))[1]
