"""TRPO's step with a bound on the KL divergence of every state (equation 11).

The theory bounds the largest KL divergence of a state, and TRPO bounds the mean
instead. Section 8.1 of the paper compares the two. To second order the step d
solves

  maximise g^T d  subject to  d^T F_s d / 2 <= delta in every state s,

where F_s = J_s^T M_s J_s. With multipliers in proportion to weights w_s of mean
1, d is a multiple of F_w^-1 g, where F_w is the mean of w_s F_s, and the dual
problem is to minimise g^T F_w^-1 g over w: a c-optimal design. Its derivative
in w_s is minus the curvature d^T F_s d, so a weight grows if the curvature of
its state is above the weighted mean and shrinks if it is below. At the optimum
the curvature of no state is above the weighted mean.

Uniform weights give TRPO's direction, which is where the iteration begins.
"""

from typing import NamedTuple

import tensorflow as tf

from trpo_tf.config import ExperimentConfig, TrustRegionConfig
from trpo_tf.errors import UserError
from trpo_tf.estimation.surrogate import Objective
from trpo_tf.optim import conjugate_gradient, fisher, trust_region
from trpo_tf.optim.compiled import compile_step
from trpo_tf.optim.problem import Problem, SurrogateProblem
from trpo_tf.optim.step import Step, StepResult
from trpo_tf.policies.protocols import Policy

__all__ = ['MAX_STATES', 'Solution', 'make_step', 'solve', 'take']

# An update of the weights costs up to cg_iterations + 2 products over all
# states. Cart-pole's batches have 256,000 states, and whole episodes add some.
MAX_STATES = 300_000

_MAX_UPDATES = 50  # of the weights
# The iteration stops when the largest curvature is within this factor of the
# weighted mean. The factor's square root bounds the gain of a better d.
_MAX_RATIO = 1.02
# Each update continues the previous solution, so it need not be exact.
_CG_TOLERANCE = 1e-3
# The exponent of an update changes by the first factor while the dual keeps
# falling along updates, and by the second once it has risen: no fixed power
# between 0.5 and 2 serves all problems.
_FASTER, _SLOWER = 1.5, 0.4
_MIN_RATIO = 1e-3  # A weight must be able to come back.


class Solution(NamedTuple):
  """The step's direction and the multipliers of the states.

  Attributes:
    direction: the direction s; its curvature is the largest over the states,
      not the mean.
    weights: float64 [N] of mean 1, the states' multipliers up to a factor.
    updates: int32 [], updates of the weights.
  """

  direction: trust_region.Direction
  weights: tf.Tensor
  updates: tf.Tensor


class _Iterate(NamedTuple):
  """Weights and the solution that they lead to.

  Attributes:
    updates: int32 [], updates of the weights so far.
    log_weights: float64 [N], logarithms of weights of mean 1, which do not
      underflow.
    exponent: float64 [], the exponent of the next update.
    ratios: float64 [N], curvature of each state over their weighted mean.
    cg: the solution of (F_w + damping I) s = g; its iterations are those of
      all updates.
    best: the cg with the largest gain so far.
    gain: float64 [], g^T s / sqrt(largest curvature) of `best`.
  """

  updates: tf.Tensor
  log_weights: tf.Tensor
  exponent: tf.Tensor
  ratios: tf.Tensor
  cg: conjugate_gradient.ConjugateGradientResult
  best: conjugate_gradient.ConjugateGradientResult
  gain: tf.Tensor


def _curvatures(problem: SurrogateProblem, s: tf.Tensor) -> tf.Tensor:
  """Returns s^T F_s s of every state, float64 [N]."""
  linearized = problem.linearized
  tangent = tf.cast(s, linearized.outputs.dtype)
  parts = []
  for block, metric in zip(linearized.blocks, linearized.metrics, strict=True):
    along = block.jvp(tangent)
    terms = tf.cast(along, tf.float64) * tf.cast(metric(along), tf.float64)
    parts.append(tf.reduce_sum(terms, axis=1))
  direct = tf.tensordot(s, problem.policy.bypass_fisher_product(s), 1)
  return tf.concat(parts, axis=0) + direct


def _solve_reweighted(
  problem: SurrogateProblem,
  settings: TrustRegionConfig,
  weights: tf.Tensor,
  last: conjugate_gradient.ConjugateGradientResult,
) -> conjugate_gradient.ConjugateGradientResult:
  """Solves (F_w + damping I) s = g for new weights, starting from `last`."""
  linearized = fisher.reweighted(problem.linearized, weights)

  def product(v):
    through = fisher.product(problem.policy, linearized, v)
    return through + settings.cg_damping * v

  cg = conjugate_gradient.conjugate_gradient(
    product,
    problem.gradient - product(last.solution),
    settings.cg_iterations,
    _CG_TOLERANCE,
  )
  return cg._replace(
    solution=last.solution + cg.solution,
    iterations=last.iterations + cg.iterations,
  )


def _curvature_ratios_and_gain(
  problem: SurrogateProblem,
  damping: float,
  weights: tf.Tensor,
  s: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns `_Iterate.ratios` and `gain` of s, with damped curvatures."""
  damped = damping * tf.tensordot(s, s, 1)
  curvatures = _curvatures(problem, s) + damped
  ratios = curvatures / tf.reduce_mean(weights * curvatures)
  along = tf.tensordot(problem.gradient, s, 1)
  return ratios, along / tf.sqrt(tf.reduce_max(curvatures))


def _update(
  problem: SurrogateProblem,
  settings: TrustRegionConfig,
  last: _Iterate,
) -> _Iterate:
  """Multiplies the weights by a power of the ratios, and solves again."""
  slopes = tf.math.log(tf.maximum(last.ratios, _MIN_RATIO))
  logits = last.log_weights + last.exponent * slopes
  count = tf.cast(tf.size(logits), tf.float64)
  log_weights = tf.nn.log_softmax(logits) + tf.math.log(count)
  weights = tf.exp(log_weights)
  cg = _solve_reweighted(problem, settings, weights, last.cg)
  ratios, gain = _curvature_ratios_and_gain(
    problem, settings.cg_damping, weights, cg.solution
  )
  # The dual's derivative along the update, at its end, has the other sign.
  falling = tf.reduce_mean(weights * slopes * (ratios - 1)) > 0
  exponent = last.exponent * tf.where(
    falling, tf.constant(_FASTER, tf.float64), _SLOWER
  )
  better = gain > last.gain
  best = tf.nest.map_structure(
    lambda new, old: tf.where(better, new, old), cg, last.best
  )
  return _Iterate(
    last.updates + 1,
    log_weights,
    exponent,
    ratios,
    cg,
    best,
    tf.where(better, gain, last.gain),
  )


def solve(problem: SurrogateProblem, settings: TrustRegionConfig) -> Solution:
  """Solves the quadratic model, with every F_s damped as TRPO's matrix is.

  The direction with the largest gain is kept, so that the solution is never
  worse than TRPO's direction.

  Args:
    problem: the surrogate at theta.
    settings: iterations and damping.

  Returns:
    The Solution, whose direction is zero if the gradient is not usable.
  """
  cg = trust_region.solve(problem, settings).cg
  ones = tf.ones_like(problem.old.entropy())
  ratios, gain = _curvature_ratios_and_gain(
    problem, settings.cg_damping, ones, cg.solution
  )
  start = _Iterate(
    tf.constant(0),
    tf.zeros_like(ones),
    tf.ones([], tf.float64),
    ratios,
    cg,
    cg,
    gain,
  )

  def unfinished(iterate):
    # The comparison is False for the NaNs of a zero direction.
    apart = tf.reduce_max(iterate.ratios) > _MAX_RATIO
    return apart & (iterate.updates < _MAX_UPDATES)

  (last,) = tf.while_loop(
    unfinished, lambda iterate: (_update(problem, settings, iterate),), (start,)
  )
  s = last.best.solution
  curvature = tf.reduce_max(_curvatures(problem, s))
  direction = trust_region.Direction(
    s,
    curvature,
    curvature + settings.cg_damping * tf.tensordot(s, s, 1),
    (curvature > 0) & tf.math.is_finite(curvature),
    last.best._replace(iterations=last.cg.iterations),
  )
  return Solution(direction, tf.exp(last.log_weights), last.updates)


def take(problem: Problem, config: ExperimentConfig) -> StepResult:
  """Maximises the surrogate subject to KL <= delta in every state.

  Args:
    problem: the surrogate at theta.
    config: gives delta, in nats, and the settings of CG and line search.

  Returns:
    The StepResult, of tensors.
  """
  assert isinstance(problem, SurrogateProblem)  # states have weights
  settings = config.trust_region
  direction = solve(problem, settings).direction
  curvature = tf.where(direction.sound, direction.curvature, 1.0)
  beta = tf.sqrt(2 * settings.max_kl / curvature)
  return trust_region.search(
    problem, settings, direction, beta, bounded='max_kl'
  )


def _check_states(count: int) -> None:
  if count > MAX_STATES:
    raise UserError(
      f'--method=max_kl weighs each of {count} states, more than '
      f'{MAX_STATES}: lower --batch_steps or --num_slots, or take '
      '--method=trpo'
    )


def make_step(
  policy: Policy,
  objective: Objective,
  config: ExperimentConfig,
  num_states: int,
) -> Step:
  """Compiles the step.

  Args:
    policy: the policy that samples the batches.
    objective: terms of the surrogate.
    config: gives delta, here the bound in nats on every state's KL, and the
      settings of CG and line search.
    num_states: about how many states a batch has.

  Returns:
    The step. It takes no fisher_rows, and raises UserError for a batch of more
    than MAX_STATES states.

  Raises:
    UserError: a batch would have more than MAX_STATES states; or the Fisher
      matrix is to use only some of them, so that the bound would not be
      enforced in the others.
  """
  settings = config.trust_region
  if settings.fisher_fraction != 1:
    raise UserError(
      '--method=max_kl bounds the KL divergence of every state: take '
      f'--fisher_fraction=1, not {settings.fisher_fraction}'
    )
  _check_states(num_states)

  compiled = compile_step(take, policy, objective, config, num_states)

  def step(theta, x, data, fisher_rows=None):
    if fisher_rows is not None:
      raise ValueError(f'{len(fisher_rows)} fisher_rows: all states count')
    _check_states(len(data[0]))
    return compiled(theta, x, data)

  return step
