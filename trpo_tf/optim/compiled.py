"""Compiles a step on a batch into one graph call."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from trpo_tf.config import ExperimentConfig
from trpo_tf.estimation.surrogate import Objective
from trpo_tf.optim import blocks as blocks_lib
from trpo_tf.optim import fisher
from trpo_tf.optim.problem import Matrix, Problem, make_problem
from trpo_tf.optim.step import Step, StepResult, StepStatus
from trpo_tf.policies import graphs, stacks
from trpo_tf.policies.protocols import Policy

__all__ = ['Rule', 'compile_step', 'numpy_result']

# (problem, config) -> the StepResult, of tensors
Rule: TypeAlias = Callable[[Problem, ExperimentConfig], StepResult]


def compile_step(
  rule: Rule,
  policy: Policy,
  objective: Objective,
  config: ExperimentConfig,
  num_states: int,
  matrix: Matrix = fisher.analytic,
) -> Step:
  """Compiles a step into one graph call per update.

  XLA is not used: on a CPU its matrix products made the step slower at 50,000
  states (66 ms per product instead of 29 ms).

  Args:
    rule: solves the problem.
    policy: the policy that samples the batches.
    objective: terms of the surrogate.
    config: the rule's settings.
    num_states: about how many states a batch has; sets the number of blocks.
    matrix: prepares the products with the step's matrix.

  Returns:
    The Step.
  """
  blocks = blocks_lib.num_blocks(num_states)

  def graph(theta, x, data, fisher_rows=None):
    x = stacks.assembled(x, blocks * blocks_lib.BLOCK)
    problem = make_problem(
      policy, objective, theta, x, data, blocks, fisher_rows, matrix
    )
    return rule(problem, config)._replace(outputs=problem.outputs)

  on_all = graphs.compile_any_batch(graph, fixed=1)
  on_rows = graphs.compile_any_batch(graph, fixed=1)

  def step(theta, x, data, fisher_rows=None):
    found = (
      on_all(theta, x, data)
      if fisher_rows is None
      else on_rows(theta, x, data, fisher_rows)
    )
    return numpy_result(found, theta)

  return step


def numpy_result(found: StepResult, theta: np.ndarray) -> StepResult:
  """Converts a StepResult of tensors.

  Args:
    found: the result, of tensors.
    theta: float32 [P], the old policy, which a refused step returns.

  Returns:
    The StepResult, of NumPy values.
  """
  found = StepResult(*(np.asarray(value)[()] for value in found))
  status = StepStatus(int(found.status))
  kept = found.theta if status == StepStatus.ACCEPTED else theta
  return found._replace(status=status, theta=kept)
