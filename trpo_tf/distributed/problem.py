"""The problem of a step whose states are spread over shards."""

import dataclasses

import tensorflow as tf

from trpo_tf.distributed.local import Engine
from trpo_tf.distributed.results import Prepared
from trpo_tf.estimation import surrogate
from trpo_tf.optim.problem import Problem, Product

__all__ = ['ShardedProblem', 'make_problem']


@dataclasses.dataclass(frozen=True)
class ShardedProblem(Problem):
  """A surrogate whose means are sums over shards; see Problem.

  Attributes:
    engine: calls the shards.
    prepared: sums over the states at theta.
  """

  engine: Engine
  prepared: Prepared

  def evaluate(self, candidate: tf.Tensor) -> surrogate.CandidateEvaluation:
    """Evaluates a candidate [P] on the full batch."""
    found = self.engine.map('evaluate', candidate.numpy())
    weight = self.prepared.weight
    return surrogate.CandidateEvaluation(
      tf.constant(found.surrogate / weight, tf.float64),
      tf.constant(found.kl / weight, tf.float64),
      tf.constant(found.max_kl.value, tf.float64),
    )

  def products(self, fraction: float = 1.0) -> Product:
    """Returns products with the matrix of `Shard.prepare`; see Problem."""
    del fraction
    weight = self.prepared.matrix_weight
    return lambda v: tf.constant(self.engine.map('product', v.numpy()) / weight)

  @property
  def entropy(self) -> tf.Tensor:
    """Mean entropy of the policy at theta, float64 []."""
    mean = self.prepared.entropy / self.prepared.weight
    return tf.constant(mean, tf.float64)


def make_problem(
  engine: Engine, theta: tf.Tensor, prepared: Prepared
) -> ShardedProblem:
  """Makes the problem.

  Args:
    engine: calls the shards, which are prepared.
    theta: float32 [P], the policy that sampled the batch.
    prepared: sums over the states at theta.

  Returns:
    The ShardedProblem.
  """
  gradient = tf.constant(prepared.gradient / prepared.weight)
  return ShardedProblem(
    theta,
    tf.constant(prepared.surrogate / prepared.weight, tf.float64),
    gradient,
    tf.norm(gradient),
    engine,
    prepared,
  )
