"""Natural policy gradient (Kakade 2002): TRPO's direction, a fixed multiplier.

Section 8.1 of the paper: the only difference from TRPO is that the multiplier
of the KL divergence is fixed (equation 17) and not what makes the step as long
as delta allows. The divergence of the step that results is not bounded, but it
has to leave a policy to go on from.
"""

from typing import Any

import tensorflow as tf

from trpo_tf import config
from trpo_tf.estimation import surrogate
from trpo_tf.optim import step as step_lib
from trpo_tf.optim import trust_region
from trpo_tf.optim.step import Step, StepStatus

__all__ = ['make_step', 'unsearched']

# Mean KL in nats. A step beyond it mostly leaves no policy to go on from:
# deviations of almost nothing, whose log-probabilities float32 networks do not
# agree on.
_MOST_KL = 1e3


def unsearched(
  problem: step_lib.Problem, step: tf.Tensor, sound: tf.Tensor, **fields: Any
) -> step_lib.StepResult:
  """Takes a step as it is, unless what it leads to is no usable policy.

  Args:
    problem: the surrogate at theta.
    step: float64 [P].
    sound: bool [], whether the step may be taken at all.
    **fields: further fields of the StepResult.

  Returns:
    The StepResult, of tensors.
  """
  usable = problem.usable & sound
  moved = tf.cast(problem.theta, tf.float64) + tf.where(usable, step, 0.0)
  candidate = tf.cast(moved, problem.theta.dtype)
  last = problem.evaluate(candidate)
  fit = (last.mean_kl < _MOST_KL) & tf.math.is_finite(last.surrogate)
  status = problem.status(
    [
      (~sound, StepStatus.NON_POSITIVE_CURVATURE),
      (~fit, StepStatus.KL_EXCEEDED),
      (fit, StepStatus.ACCEPTED),
    ]
  )
  one = tf.ones([], tf.float64)
  return step_lib.result(problem, status, candidate, last, one, **fields)


def make_step(
  policy: Any,
  objective: surrogate.Objective,
  settings: config.TrustRegionConfig,
  multiplier: float,
  num_states: int,
) -> Step:
  """Compiles theta + A^-1 g / multiplier.

  Args:
    policy: the policy that samples the batches.
    objective: terms of the surrogate.
    settings: conjugate gradient; delta and the line search are not used.
    multiplier: lambda of equation 17.
    num_states: about how many states a batch has.
  """

  def run(theta, x, data, fisher_rows, blocks):
    problem = step_lib.expand(policy, objective, theta, x, data, blocks)
    direction = trust_region.solve(problem, settings, fisher_rows)
    size = tf.constant(1 / multiplier, tf.float64)
    return unsearched(
      problem,
      size * direction.s,
      direction.sound,
      step_size=size,
      **trust_region.solution_fields(problem, direction),
    )

  return step_lib.compile_step(run, num_states)
