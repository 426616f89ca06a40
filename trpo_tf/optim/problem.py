"""The problem that a step solves: a surrogate at the sampling policy."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from trpo_tf.estimation import surrogate
from trpo_tf.optim import blocks as blocks_lib
from trpo_tf.optim import candidates, fisher
from trpo_tf.optim.candidates import Refuse
from trpo_tf.optim.states import BatchStates, States
from trpo_tf.optim.step import StepResult, StepStatus
from trpo_tf.policies import stacks
from trpo_tf.policies.protocols import Inputs, Policy

__all__ = [
  'KEPT_BYTES',
  'Matrix',
  'Problem',
  'Product',
  'SurrogateProblem',
  'make_problem',
]

KEPT_BYTES = 2**30  # of the activations that products with a matrix may keep

Product = Callable[[tf.Tensor], tf.Tensor]
# (policy, theta, linearized, data) -> v [P] -> A v [P], on the rows of data
Matrix = Callable[[Policy, tf.Tensor, fisher.Linearized, Any], Product]


@dataclasses.dataclass(frozen=True)
class Problem(abc.ABC):
  """A surrogate at the policy that sampled its batch; fields are tensors.

  Attributes:
    theta: float32 [P].
    surrogate: float64 [], at theta.
    gradient: float64 [P], of the surrogate.
    norm: float64 [], norm of the gradient.
  """

  theta: tf.Tensor
  surrogate: tf.Tensor
  gradient: tf.Tensor
  norm: tf.Tensor

  @abc.abstractmethod
  def evaluate(
    self, candidate: tf.Tensor, refuse: Refuse | None = None
  ) -> surrogate.CandidateEvaluation:
    """Evaluates a candidate on the full batch.

    Args:
      candidate: float32 [P].
      refuse: says from the evaluation of some states whether the others can
        be left out; see `candidates`.
    """

  @abc.abstractmethod
  def products(self, fraction: float = 1.0) -> Product:
    """Prepares products with the step's matrix A.

    Args:
      fraction: share of the states that the matrix uses.

    Returns:
      A function that maps v float64 [P] to A v, float64 [P].
    """

  @property
  @abc.abstractmethod
  def states(self) -> States:
    """The states, for a step that weighs each of them."""

  @property
  @abc.abstractmethod
  def entropy(self) -> tf.Tensor:
    """Mean entropy of the policy at theta, float64 []."""

  @property
  def usable(self) -> tf.Tensor:
    """Whether the gradient is finite and not zero, bool []."""
    return tf.math.is_finite(self.norm) & (self.norm > 0)

  def status(self, cases: list[tuple[tf.Tensor, StepStatus]]) -> tf.Tensor:
    """Finds the first status that applies, of the gradient or of `cases`.

    Args:
      cases: pairs of a condition, bool [], and its status. The last condition
        is assumed to be true.

    Returns:
      int32 [].
    """
    tested = [
      (~tf.math.is_finite(self.norm), StepStatus.NON_FINITE_GRADIENT),
      (self.norm == 0, StepStatus.ZERO_GRADIENT),
      *cases[:-1],
    ]
    status = tf.constant(int(cases[-1][1]))
    for case, value in reversed(tested):
      status = tf.where(case, int(value), status)
    return status

  def result(
    self,
    status: tf.Tensor,
    candidate: tf.Tensor,
    last: surrogate.CandidateEvaluation,
    fraction: tf.Tensor,
    **fields: Any,
  ) -> StepResult:
    """Makes the result of a step that ended with one candidate.

    Args:
      status: int32 [], see `status`.
      candidate: float32 [P], the last candidate tried.
      last: its evaluation.
      fraction: float64 [], length of the candidate's step as a fraction of the
        first candidate's.
      **fields: further fields of the StepResult.

    Returns:
      The StepResult, of tensors; the old theta unless ACCEPTED.
    """
    accepted = status == int(StepStatus.ACCEPTED)

    def if_accepted(value, otherwise):
      return tf.where(accepted, value, otherwise)

    zero = tf.zeros([], tf.float64)
    return StepResult(
      status=status,
      theta=if_accepted(candidate, self.theta),
      surrogate_before=self.surrogate,
      surrogate_after=if_accepted(last.surrogate, self.surrogate),
      mean_kl=if_accepted(last.mean_kl, zero),
      max_state_kl=if_accepted(last.max_kl, zero),
      entropy=self.entropy,
      step_fraction=if_accepted(fraction, zero),
      gradient_norm=self.norm,
      tried_surrogate=last.surrogate,
      tried_kl=last.mean_kl,
      **fields,
    )


@dataclasses.dataclass(frozen=True)
class SurrogateProblem(Problem):
  """The problem of a batch that is here.

  Attributes:
    policy: the policy.
    objective: terms of the surrogate.
    x: inputs of N states.
    data: the objective's data, leading dimension N.
    blocks: number of blocks of states, see `blocks.num_blocks`.
    linearized: the policy linearised on x.
    outputs: [N, M] network outputs, if they come with the gradient; else None.
    old: float64 distribution at theta, batch [N].
    fisher_rows: int [n], rows of x for the matrix; None: all.
    matrix: prepares the products with the matrix.
  """

  policy: Policy
  objective: surrogate.Objective
  x: Inputs
  data: Any
  blocks: int
  linearized: fisher.Linearized
  outputs: tf.Tensor | None
  old: tfd.Distribution
  fisher_rows: tf.Tensor | None
  matrix: Matrix

  def evaluate(
    self, candidate: tf.Tensor, refuse: Refuse | None = None
  ) -> surrogate.CandidateEvaluation:
    """Evaluates a candidate on the full batch; see Problem."""
    if refuse is not None and self.outputs is not None:
      return candidates.evaluate(
        self.policy,
        self.objective,
        self.theta,
        self.outputs,
        self.x,
        self.data,
        candidate,
        refuse,
      )
    outputs = blocks_lib.outputs(self.policy, candidate, self.x, self.blocks)
    return surrogate.evaluate(
      self.policy, self.objective, self.data, self.old, candidate, outputs
    )

  def products(self, fraction: float = 1.0) -> Product:
    """Prepares products with the matrix on its rows; see Problem."""
    linearized, data = self.linearized, self.data
    if self.fisher_rows is not None:
      share = max(1, round(self.blocks * fraction))
      states = self.blocks * blocks_lib.BLOCK * fraction
      kept = 4 * self.policy.network.activation_size * states
      rows = stacks.take(self.x, self.fisher_rows)
      linearized = fisher.linearize(
        self.policy, self.theta, rows, share, keep=kept <= KEPT_BYTES
      )
      data = tf.nest.map_structure(
        lambda t: tf.gather(t, self.fisher_rows), data
      )
    return self.matrix(self.policy, self.theta, linearized, data)

  @property
  def states(self) -> BatchStates:
    """The states, for a step that weighs each of them."""
    return BatchStates(self.policy, self.linearized)

  @property
  def entropy(self) -> tf.Tensor:
    """Mean entropy of the policy at theta, float64 []."""
    return surrogate.mean_over_states(self.old.entropy(), self.data)


def make_problem(
  policy: Policy,
  objective: surrogate.Objective,
  theta: tf.Tensor,
  x: Inputs,
  data: Any,
  blocks: int = 1,
  fisher_rows: tf.Tensor | None = None,
  matrix: Matrix = fisher.analytic,
) -> SurrogateProblem:
  """Linearises the policy and differentiates the surrogate at theta.

  Args:
    policy: the policy that sampled the batch.
    objective: terms of the surrogate.
    theta: float32 [P] parameters.
    x: inputs of N states.
    data: the objective's data, leading dimension N.
    blocks: number of blocks of states, see `blocks.num_blocks`.
    fisher_rows: int [n], rows of x for the matrix; None: all.
    matrix: prepares the products with the Fisher matrix.

  Returns:
    The SurrogateProblem.
  """
  linearized = fisher.linearize(policy, theta, x, blocks)
  outputs = None
  if linearized.blocks[0].pullback is None:
    before, by_outputs, direct = surrogate.output_gradient(
      policy, objective, data, theta, linearized.outputs
    )
    gradient = fisher.vjp(linearized, by_outputs) + tf.cast(direct, tf.float64)
  else:
    outputs, before, gradient = _in_one_pass(
      policy, objective, theta, linearized, data
    )
    linearized = linearized._replace(outputs=outputs)
  old = surrogate.distribution64(policy, theta, linearized.outputs)
  return SurrogateProblem(
    theta,
    before,
    gradient,
    tf.norm(gradient),
    policy,
    objective,
    x,
    data,
    blocks,
    linearized,
    outputs,
    old,
    fisher_rows,
    matrix,
  )


def _in_one_pass(
  policy: Policy,
  objective: surrogate.Objective,
  theta: tf.Tensor,
  linearized: fisher.Linearized,
  data: Any,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Differentiates the surrogate while the network runs.

  Args:
    policy: the policy.
    objective: terms of the surrogate.
    theta: float32 [P] parameters.
    linearized: the policy linearised on N states.
    data: the objective's data, leading dimension N.

  Returns:
    Outputs [N, M], the surrogate float64 [] and its gradient float64 [P].
  """
  flat = tf.nest.flatten(data)
  N = tf.cast(tf.shape(flat[0])[0], tf.float64)
  columns = [blocks_lib.split(t, len(linearized.blocks)) for t in flat]
  found = []
  for block, *rows in zip(linearized.blocks, *columns, strict=True):
    of_block = tf.nest.pack_sequence_as(data, rows)

    def cotangent(outputs, cut, of_block=of_block):
      before, u, direct = surrogate.output_gradient(
        policy,
        objective,
        tf.nest.map_structure(cut, of_block),
        theta,
        outputs,
      )
      # the share of the chunk in the mean over all states
      share = tf.cast(tf.shape(outputs)[0], tf.float64) / N
      sums = share * before, share * tf.cast(direct, tf.float64)
      return tf.cast(share, u.dtype) * u, sums

    start = tf.zeros([], tf.float64), tf.zeros_like(theta, tf.float64)
    assert block.pullback is not None
    outputs, through, (before, direct) = block.pullback(cotangent, start)
    found.append((outputs, before, direct + tf.cast(through, tf.float64)))
  all_outputs, befores, gradients = zip(*found, strict=True)
  return tf.concat(all_outputs, 0), tf.add_n(befores), tf.add_n(gradients)
