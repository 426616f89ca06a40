"""The problem of a step whose states are spread over shards."""

import dataclasses
import math
from collections.abc import Callable

import tensorflow as tf

from trpo_tf.distributed.local import Engine
from trpo_tf.distributed.results import AtTheta
from trpo_tf.estimation import surrogate
from trpo_tf.optim.candidates import Refuse
from trpo_tf.optim.problem import Problem, Product
from trpo_tf.optim.states import States

__all__ = ['ShardedProblem', 'ShardedStates', 'make_problem']


@dataclasses.dataclass(frozen=True)
class ShardedProblem(Problem):
  """A surrogate whose means are sums over shards; see Problem.

  Attributes:
    engine: calls the shards.
    count: number N of states.
    at_theta: sums over them at theta.
  """

  engine: Engine
  count: int
  at_theta: AtTheta

  def evaluate(
    self, candidate: tf.Tensor, refuse: Refuse | None = None
  ) -> surrogate.CandidateEvaluation:
    """Evaluates a candidate on the full batch, always; see Problem."""
    del refuse
    found = self.engine.map('evaluate', candidate.numpy())
    return found.mean(self.count)

  def products(self, fraction: float = 1.0) -> Product:
    """Returns products with the matrix of `Shard.prepare`; see Problem."""
    del fraction
    return _product(self.engine, 'product', self.at_theta.matrix_weight)

  @property
  def states(self) -> 'ShardedStates':
    """The states, for a step that weighs each of them."""
    return ShardedStates(self.engine, self.count)

  @property
  def entropy(self) -> tf.Tensor:
    """Mean entropy of the policy at theta, float64 []."""
    return tf.constant(self.at_theta.entropy / self.count, tf.float64)


@dataclasses.dataclass(frozen=True)
class ShardedStates(States):
  """States of which each shard keeps its own; `kept` is ().

  Attributes:
    engine: calls the shards.
    count: number N of states.
  """

  engine: Engine
  count: int

  def evenly(self) -> tuple[()]:
    """Weighs every state by 1; see States."""
    self.engine.map('weigh_evenly')
    return ()

  def products(self, kept: tuple[()]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns products with the weighted mean; see States."""
    return _product(self.engine, 'weighted_product', self.count)

  def measured(
    self, kept: tuple[()], s: tf.Tensor, damped: tf.Tensor | float
  ) -> tuple[tuple[()], tf.Tensor, tf.Tensor]:
    """Computes the curvature of every state; see States."""
    found = self.engine.map('measure', s.numpy(), float(damped))
    mean = tf.constant(found.weighted / self.count, tf.float64)
    return kept, mean, tf.constant(found.largest.value, tf.float64)

  def rise(self, kept: tuple[()], mean: tf.Tensor) -> tf.Tensor:
    """Differentiates the dual along the last update; see States."""
    found = self.engine.map('rise', float(mean))
    return tf.constant(found / self.count, tf.float64)

  def updated(
    self, kept: tuple[()], mean: tf.Tensor, exponent: tf.Tensor
  ) -> tuple[()]:
    """Multiplies the weights by a power of their ratios; see States."""
    found = self.engine.map('reweigh', float(mean), float(exponent))
    self.engine.map('scale_weights', math.log(self.count) - found.value)
    return kept


def _product(engine: Engine, operation: str, weight: float) -> Product:
  """Returns products with a mean that shards sum."""
  return lambda v: tf.constant(engine.map(operation, v.numpy()) / weight)


def make_problem(
  engine: Engine, theta: tf.Tensor, count: int, at_theta: AtTheta
) -> ShardedProblem:
  """Makes the problem.

  Args:
    engine: calls the shards, which are prepared.
    theta: float32 [P], the policy that sampled the batch.
    count: number of states.
    at_theta: sums over the states at theta.

  Returns:
    The ShardedProblem.
  """
  gradient = tf.constant(at_theta.gradient / count)
  return ShardedProblem(
    theta,
    tf.constant(at_theta.surrogate / count, tf.float64),
    gradient,
    tf.norm(gradient),
    engine,
    count,
    at_theta,
  )
