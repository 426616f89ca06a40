"""The interface and the result of every step on a surrogate."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from trpo_tf.config import ExperimentConfig
from trpo_tf.estimation.surrogate import Objective
from trpo_tf.policies.protocols import Inputs, Policy

__all__ = ['MakeStep', 'Step', 'StepResult', 'StepStatus']


class StepStatus(enum.IntEnum):
  """Why a step was taken or refused."""

  ACCEPTED = 0
  ZERO_GRADIENT = 1
  NON_FINITE_GRADIENT = 2
  # The curvature may also be infinite or NaN. It never reaches a square root.
  NON_POSITIVE_CURVATURE = 3
  # The KL divergence of the last candidate is too large or not finite.
  KL_EXCEEDED = 4
  # The last candidate was within the bound but did not raise the surrogate.
  NO_IMPROVEMENT = 5


class StepResult(NamedTuple):
  """Everything that happened in a step; scalars are float64 unless stated.

  Attributes:
    status: StepStatus (int32 inside the graph).
    theta: float32 [P]; bit for bit the old one unless ACCEPTED.
    surrogate_before: surrogate at the old theta.
    surrogate_after: surrogate at the returned theta.
    mean_kl: mean KL(old || returned) over the full batch, in nats.
    max_state_kl: the largest KL of a state, in nats.
    entropy: mean entropy of the old policy, in nats.
    step_fraction: ratio^j of the accepted candidate; 0 when refused.
    step_size: the multiple of the direction s that is tried first.
    gradient_norm: norm of the surrogate's gradient.
    curvature: s^T A s, undamped; NaN for a method without a matrix A.
    damped_curvature: s^T (A + damping I) s.
    cg_iterations: int32, products used by conjugate gradient.
    cg_residual: final residual norm of conjugate gradient, relative to the
      gradient's norm.
    cg_failed: bool, whether a non-positive or non-finite curvature stopped
      conjugate gradient. The iterate before it is then used, and the step is
      refused if the curvature of that iterate is unsound too.
    evaluations: int32, candidates tried.
    tried_surrogate: surrogate of the last candidate, accepted or not.
    tried_kl: mean KL of the last candidate in nats, accepted or not.
    outputs: [N, M], network outputs at the old theta, if they came with the
      gradient; else None.
  """

  status: Any
  theta: Any
  surrogate_before: Any
  surrogate_after: Any
  mean_kl: Any
  max_state_kl: Any
  entropy: Any
  step_fraction: Any
  step_size: Any
  gradient_norm: Any
  curvature: Any = float('nan')
  damped_curvature: Any = float('nan')
  cg_iterations: Any = 0
  cg_residual: Any = float('nan')
  cg_failed: Any = False
  evaluations: Any = 1
  tried_surrogate: Any = float('nan')
  tried_kl: Any = float('nan')
  outputs: Any = None


class Step(Protocol):
  """A compiled step on a surrogate."""

  def __call__(
    self,
    theta: np.ndarray,
    x: Inputs,
    data: Any,
    fisher_rows: np.ndarray | None = None,
  ) -> StepResult:
    """Takes the step, or refuses to.

    Args:
      theta: float32 [P], the policy that sampled the batch.
      x: inputs of N states.
      data: the objective's data, leading dimension N.
      fisher_rows: int [n], rows of x for the Fisher matrix; None: all.

    Returns:
      The StepResult, of NumPy values.
    """


# (policy, objective, config, num_states) -> Step. The objective gives the terms
# of the surrogate, and num_states says about how many states a batch has.
MakeStep: TypeAlias = Callable[[Policy, Objective, ExperimentConfig, int], Step]
