"""The problem of a step on one shard's states, as the methods need it.

Public methods are operations of the shard. What they return are sums over its
states. The operations of a step may come any number of times, in any order.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from trpo_tf.distributed.reduction import Largest, LogSumExp
from trpo_tf.distributed.results import (
  AtTheta,
  Curvatures,
  Evaluated,
  Penalized,
)
from trpo_tf.distributed.stages import ProblemStages
from trpo_tf.estimation import surrogate
from trpo_tf.estimation.surrogate import CandidateEvaluation
from trpo_tf.optim.kl_penalty import PenalizedValue
from trpo_tf.optim.states import Weighted
from trpo_tf.policies.protocols import Inputs

__all__ = ['Begin', 'PenalizedStates', 'ShardProblem', 'WeightedProblem']


def _evaluated(n: int, found: CandidateEvaluation) -> Evaluated:
  """Turns means over n states into sums."""
  return Evaluated(
    n * float(found.surrogate),
    n * float(found.mean_kl),
    Largest(float(found.max_kl)),
  )


class ShardProblem:
  """A surrogate and the step's matrix.

  Attributes:
    weighs_states: whether the stages have weights and curvatures of states.
    at_theta: sums at the policy that sampled the batch.
  """

  weighs_states = False

  def __init__(
    self,
    stages: ProblemStages,
    theta: np.ndarray,
    x: Inputs,
    data: Any,
    rows: np.ndarray | None,
  ):
    """Linearises the policy and differentiates the surrogate.

    Args:
      stages: compiled.
      theta: float32 [P], the policy that sampled the batch.
      x: inputs of n states.
      data: the objective's data, leading dimension n.
      rows: int [m], rows of x for the matrix; None: all.
    """
    self._stages, self._n = stages, len(data[0])
    outputs, self._kept = stages.begin(theta, x, data, rows)
    value, gradient, entropy = (t.numpy() for t in outputs)
    weights = surrogate.weights_of(data)
    weights = np.ones(self._n) if weights is None else weights
    self._matrix_weight = float(
      np.sum(weights if rows is None else weights[rows])
    )
    self.at_theta = AtTheta(
      self._matrix_weight,
      self._n * float(value),
      self._n * gradient,
      self._n * float(entropy),
    )

  def product(self, v: np.ndarray) -> np.ndarray | None:
    """Multiplies float64 [P] by the step's matrix; None without a row."""
    if not self._matrix_weight:
      return None
    (found,) = self._stages.finish('product', self._kept, v)
    return self._matrix_weight * found.numpy()

  def evaluate(self, candidate: np.ndarray) -> Evaluated:
    """Evaluates a candidate, float32 [P]."""
    found = self._stages.finish('evaluate', self._kept, candidate)
    return _evaluated(self._n, CandidateEvaluation(*found))


class WeightedProblem(ShardProblem):
  """A problem whose states have weights; see optim.states."""

  weighs_states = True
  _weighted: Weighted

  def weigh_evenly(self) -> None:
    """Weighs every state by 1."""
    self._weighted = Weighted.evenly(self._n)

  def weighted_product(self, v: np.ndarray) -> np.ndarray:
    """Multiplies float64 [P] by the weighted Fisher matrices."""
    weights = self._weighted.weights
    (found,) = self._stages.finish('weighted_product', self._kept, v, weights)
    return self._n * found.numpy()

  def measure(self, s: np.ndarray, damped: float) -> Curvatures:
    """Computes the curvature of every state, and keeps it.

    Args:
      s: float64 [P], a direction.
      damped: added to every curvature.
    """
    (found,) = self._stages.finish('curvatures', self._kept, s)
    self._weighted = self._weighted._replace(curvatures=found + damped)
    return Curvatures(
      float(tf.reduce_sum(self._weighted.weighted_curvatures())),
      Largest(float(tf.reduce_max(self._weighted.curvatures))),
    )

  def rise(self, mean: float) -> float:
    """Sums the parts of States.rise.

    Args:
      mean: the weighted mean of all states' curvatures.
    """
    return float(tf.reduce_sum(self._weighted.rises(mean)))

  def reweigh(self, mean: float, exponent: float) -> LogSumExp:
    """Updates the weights; returns the logarithm of their sum.

    Args:
      mean: the weighted mean of all states' curvatures.
      exponent: of the curvatures.
    """
    self._weighted = self._weighted.updated(mean, exponent)
    return LogSumExp.of(self._weighted.logs.numpy())

  def scale_weights(self, log_factor: float) -> None:
    """Multiplies the weights by a number, given by its logarithm."""
    logs = self._weighted.logs + log_factor
    self._weighted = self._weighted._replace(logs=logs)


class PenalizedStates:
  """The states of a step that penalises the divergence."""

  at_theta = None

  def __init__(
    self,
    value: Callable[..., PenalizedValue],
    theta: np.ndarray,
    x: Inputs,
    data: Any,
    rows: np.ndarray | None,
  ):
    """Keeps the states.

    Args:
      value: compiled, see kl_penalty.compile_value.
      theta: float32 [P], the policy that sampled the batch.
      x: inputs of n states.
      data: the objective's data, leading dimension n.
      rows: not used; no matrix enters the step.
    """
    del rows
    self._value, self._theta, self._n = value, theta, len(data[0])
    self._x, self._data = tf.nest.map_structure(tf.convert_to_tensor, (x, data))

  def penalized(self, candidate: np.ndarray, coefficient: float) -> Penalized:
    """Evaluates a candidate and differentiates its penalised surrogate.

    Args:
      candidate: float32 [P].
      coefficient: of the mean KL.
    """
    factor = tf.constant(coefficient, tf.float64)
    n = self._n
    found = self._value(candidate, self._theta, factor, self._x, self._data)
    return Penalized(
      n * float(found.penalized),
      _evaluated(n, found.evaluation),
      n * found.gradient.numpy().astype(np.float64),
      n * float(found.entropy),
    )


# (theta, x, data, rows) -> the problem of a shard
Begin: TypeAlias = Callable[..., ShardProblem | PenalizedStates]
