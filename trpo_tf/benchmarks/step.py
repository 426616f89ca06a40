"""Times of the trust-region step, its Fisher products and its gradient."""

import functools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from trpo_tf.benchmarks import timing
from trpo_tf.config import ExperimentConfig, PolicyConfig, TrustRegionConfig
from trpo_tf.estimation import surrogate
from trpo_tf.optim import blocks as blocks_lib
from trpo_tf.optim import conjugate_gradient, fisher
from trpo_tf.optim.trust_region import make_step
from trpo_tf.policies.gaussian import GaussianPolicy, gaussian_policy

OBSERVATION_SIZE, ACTION_SIZE = 11, 3  # Hopper's
_PRODUCTS = 10


class Problem(NamedTuple):
  """A policy and a batch of N states, actions and advantages."""

  policy: GaussianPolicy
  theta: np.ndarray
  x: np.ndarray
  data: surrogate.PathData


def make_problem(num_states: int) -> Problem:
  """Draws normal states and advantages, and actions of a new 64-64 policy."""
  rng = np.random.default_rng(0)
  policy = gaussian_policy(PolicyConfig(), OBSERVATION_SIZE, ACTION_SIZE)
  theta = policy.initial_parameters(rng)
  x = rng.standard_normal((num_states, OBSERVATION_SIZE), np.float32)
  means = policy.outputs(tf.constant(theta), tf.constant(x))
  noise = rng.standard_normal(means.shape)
  distribution = surrogate.distribution64(policy, theta, means)
  actions = means.numpy() + np.exp(policy.log_std(theta)) * noise
  advantages = rng.standard_normal(num_states, np.float32)
  log_probs = distribution.log_prob(actions).numpy().astype(np.float32)
  return Problem(
    policy, theta, x, surrogate.PathData(actions, log_probs, advantages)
  )


def product_over_gradient(num_states: int, pairs: int) -> dict[str, Any]:
  """Times one Fisher-vector product inside CG and one surrogate gradient.

  The gradient is that of the trust-region step, with the same blocks. The time
  of a product is the difference between CG with 11 and with 1 iterations,
  divided by ten. So it excludes the linearisation, which is done once per step.

  Args:
    num_states: N.
    pairs: number of repetitions.

  Returns:
    Milliseconds of both, the ratio with its interval, and the ratio of their
    multiply-adds.
  """
  problem = make_problem(num_states)
  policy, data = problem.policy, problem.data
  blocks = blocks_lib.num_blocks(num_states)

  def gradient(theta, x, data):
    linearized = fisher.linearize(policy, theta, x, blocks)
    _, by_outputs, direct = surrogate.output_gradient(
      policy, surrogate.importance_sampled, data, theta, linearized.outputs
    )
    return fisher.vjp(linearized, by_outputs) + tf.cast(direct, tf.float64)

  def solve(theta, x, b, iterations):
    linearized = fisher.linearize(policy, theta, x, blocks)
    return conjugate_gradient.conjugate_gradient(
      lambda v: fisher.product(policy, linearized, v) + 0.1 * v, b, iterations
    ).solution

  x, data = tf.constant(problem.x), tf.nest.map_structure(tf.constant, data)
  theta = tf.constant(problem.theta)
  graph = tf.function(gradient)
  b = graph(theta, x, data)
  short, long = (
    tf.function(functools.partial(solve, iterations=n))
    for n in (1, 1 + _PRODUCTS)
  )
  calls = (
    lambda: graph(theta, x, data).numpy(),
    lambda: short(theta, x, b).numpy(),
    lambda: long(theta, x, b).numpy(),
  )
  for call in calls:
    call()
  times = np.array([[timing.seconds(c) for c in calls] for _ in range(pairs)])
  products = (times[:, 2] - times[:, 1]) / _PRODUCTS
  return dict(
    num_states=num_states,
    gradient_milliseconds=1e3 * float(np.median(times[:, 0])),
    product_milliseconds=1e3 * float(np.median(products)),
    product_over_gradient=timing.ratio(products, times[:, 0]),
    multiply_adds_ratio=_multiply_adds_ratio(policy.network.layer_shapes),
  )


def _multiply_adds_ratio(shapes: tuple[tuple[int, int], ...]) -> float:
  """Divides the cost of J v and J^T u by that of forward and backward passes.

  The linearisation is kept, so J v and J^T u do not evaluate the network.
  """
  full = sum(rows * columns for rows, columns in shapes)
  inner = full - shapes[0][0] * shapes[0][1]
  return 2 * (full + inner) / (2 * full + inner)


def policy_step_seconds(num_states: int, repeats: int) -> np.ndarray:
  """Times whole policy steps: gradient, CG of 10 iterations, line search.

  Args:
    num_states: N.
    repeats: number of steps.

  Returns:
    float64 [repeats], in seconds.
  """
  problem = make_problem(num_states)
  step = make_step(
    problem.policy,
    surrogate.importance_sampled,
    ExperimentConfig(trust_region=TrustRegionConfig(cg_iterations=_PRODUCTS)),
    num_states,
  )
  run = functools.partial(step, problem.theta, problem.x, problem.data)
  run()
  return np.array([timing.seconds(run) for _ in range(repeats)])
