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

from typing import Any, NamedTuple

import tensorflow as tf

from trpo_tf.config import ExperimentConfig, TrustRegionConfig
from trpo_tf.errors import UserError
from trpo_tf.estimation.surrogate import Objective
from trpo_tf.optim import conjugate_gradient, trust_region
from trpo_tf.optim.compiled import compile_step
from trpo_tf.optim.problem import Problem
from trpo_tf.optim.step import Step, StepResult
from trpo_tf.policies.protocols import Policy

__all__ = ['MAX_STATES', 'check', 'make_step', 'solve', 'take']

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


class _Iterate(NamedTuple):
  """Weights and the solution that they lead to.

  Attributes:
    updates: int32 [], updates of the weights so far.
    kept: what is known of each state, see States.
    mean: float64 [], weighted mean of the states' damped curvatures.
    largest: float64 [], the largest one.
    exponent: float64 [], the exponent of the next update.
    cg: the solution of (F_w + damping I) s = g; its iterations are those of
      all updates.
    best: the cg with the largest gain so far.
    gain: float64 [], g^T s / sqrt(largest curvature) of `best`.
  """

  updates: tf.Tensor
  kept: Any
  mean: tf.Tensor
  largest: tf.Tensor
  exponent: tf.Tensor
  cg: conjugate_gradient.ConjugateGradientResult
  best: conjugate_gradient.ConjugateGradientResult
  gain: tf.Tensor


def _solve_reweighted(
  problem: Problem,
  settings: TrustRegionConfig,
  kept: Any,
  last: conjugate_gradient.ConjugateGradientResult,
) -> conjugate_gradient.ConjugateGradientResult:
  """Solves (F_w + damping I) s = g for new weights, starting from `last`."""
  through = problem.states.products(kept)

  def product(v):
    return through(v) + settings.cg_damping * v

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


def _measured(
  problem: Problem, damping: float, kept: Any, s: tf.Tensor
) -> tuple[Any, tf.Tensor, tf.Tensor, tf.Tensor]:
  """Returns `kept`, `mean`, `largest` and `gain` of s; see _Iterate."""
  damped = damping * tf.tensordot(s, s, 1)
  kept, mean, largest = problem.states.measured(kept, s, damped)
  along = tf.tensordot(problem.gradient, s, 1)
  return kept, mean, largest, along / tf.sqrt(largest)


def _update(
  problem: Problem,
  settings: TrustRegionConfig,
  last: _Iterate,
) -> _Iterate:
  """Updates the weights, and solves again."""
  states = problem.states
  kept = states.updated(last.kept, last.mean, last.exponent)
  cg = _solve_reweighted(problem, settings, kept, last.cg)
  kept, mean, largest, gain = _measured(
    problem, settings.cg_damping, kept, cg.solution
  )
  falling = states.rise(kept, mean) > 0
  exponent = last.exponent * tf.where(
    falling, tf.constant(_FASTER, tf.float64), _SLOWER
  )
  better = gain > last.gain
  best = tf.nest.map_structure(
    lambda new, old: tf.where(better, new, old), cg, last.best
  )
  return _Iterate(
    last.updates + 1,
    kept,
    mean,
    largest,
    exponent,
    cg,
    best,
    tf.where(better, gain, last.gain),
  )


def solve(
  problem: Problem, settings: TrustRegionConfig
) -> trust_region.Direction:
  """Solves the quadratic model, with every F_s damped as TRPO's matrix is.

  The direction with the largest gain is kept, so that the solution is never
  worse than TRPO's direction.

  Args:
    problem: the surrogate at theta.
    settings: iterations and damping.

  Returns:
    The Direction, whose curvature is the largest over the states, not the mean.
    It is zero if the gradient is not usable.
  """
  cg = trust_region.solve(problem, settings).cg
  kept, mean, largest, gain = _measured(
    problem, settings.cg_damping, problem.states.evenly(), cg.solution
  )
  start = _Iterate(
    tf.constant(0),
    kept,
    mean,
    largest,
    tf.ones([], tf.float64),
    cg,
    cg,
    gain,
  )

  def unfinished(iterate):
    # The comparison is False for the NaNs of a zero direction.
    apart = iterate.largest / iterate.mean > _MAX_RATIO
    return apart & (iterate.updates < _MAX_UPDATES)

  (last,) = tf.while_loop(
    unfinished, lambda iterate: (_update(problem, settings, iterate),), (start,)
  )
  s = last.best.solution
  _, _, curvature = problem.states.measured(last.kept, s, 0.0)
  return trust_region.Direction(
    s,
    curvature,
    curvature + settings.cg_damping * tf.tensordot(s, s, 1),
    (curvature > 0) & tf.math.is_finite(curvature),
    last.best._replace(iterations=last.cg.iterations),
  )


def take(problem: Problem, config: ExperimentConfig) -> StepResult:
  """Maximises the surrogate subject to KL <= delta in every state.

  Args:
    problem: the surrogate at theta.
    config: gives delta, in nats, and the settings of CG and line search.

  Returns:
    The StepResult, of tensors.
  """
  settings = config.trust_region
  direction = solve(problem, settings)
  curvature = tf.where(direction.sound, direction.curvature, 1.0)
  beta = tf.sqrt(2 * settings.max_kl / curvature)
  return trust_region.search(
    problem, settings, direction, beta, bounded='max_kl'
  )


def check(config: ExperimentConfig, num_states: int) -> None:
  """Raises UserError for settings, or a number of states, that are refused.

  Args:
    config: the experiment.
    num_states: of a batch; of a run in shards, those of one shard.
  """
  fraction = config.trust_region.fisher_fraction
  if fraction != 1:
    raise UserError(
      '--method=max_kl bounds the KL divergence of every state: take '
      f'--fisher_fraction=1, not {fraction}'
    )
  if num_states > MAX_STATES:
    of, more = '', ''
    if config.sampler.num_shards > 1:
      of, more = ' of a shard', 'raise --num_shards, '
    raise UserError(
      f'--method=max_kl weighs each of {num_states} states{of}, more than '
      f'{MAX_STATES}: {more}lower --batch_steps or --num_slots, or take '
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
  check(config, num_states)
  compiled = compile_step(take, policy, objective, config, num_states)

  def step(theta, x, data, fisher_rows=None):
    if fisher_rows is not None:
      raise ValueError(f'{len(fisher_rows)} fisher_rows: all states count')
    check(config, len(data[0]))
    return compiled(theta, x, data)

  return step
