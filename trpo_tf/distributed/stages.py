"""Compiles a function in two stages, whose second one may run many times.

Conjugate gradient multiplies many vectors by the matrix of one batch. If the
loop runs in one graph, what does not depend on the vector is computed once. If
the loop is elsewhere, these values must leave the graph and enter another one.
They are found in the graph itself, so any network can be cut.
"""

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from trpo_tf.estimation.surrogate import Objective
from trpo_tf.optim import blocks as blocks_lib
from trpo_tf.optim.problem import Matrix, make_problem
from trpo_tf.policies import graphs
from trpo_tf.policies.protocols import Policy

__all__ = ['LateFunction', 'ProblemStages', 'Stages', 'compile_stages']


class LateFunction(NamedTuple):
  """A second stage to compile.

  Attributes:
    function: (what it needs of the first stage, *late inputs) -> late outputs.
    specs: specifications of the late inputs.
  """

  function: Callable[..., Sequence[tf.Tensor]]
  specs: Sequence[tf.TensorSpec]


class _Late(NamedTuple):
  """A compiled second stage, and which values of the first one it takes."""

  call: Callable[..., Any]
  takes: list[int]


class Stages:
  """A function of early and late inputs, compiled in stages."""

  def __init__(self, first: Any, num_outputs: int, late: Mapping[str, _Late]):
    """Keeps what `compile_stages` made.

    Args:
      first: the compiled first stage.
      num_outputs: number of its outputs; kept values follow them.
      late: the second stages by name.
    """
    self._first, self._num_outputs, self._late = first, num_outputs, late

  def begin(self, *early: Any) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Runs the first stage.

    Args:
      *early: the early inputs, flat.

    Returns:
      The early outputs, and the values that `finish` takes.
    """
    found = self._first(*early)
    return found[: self._num_outputs], found[self._num_outputs :]

  def finish(
    self, which: str, kept: Sequence[tf.Tensor], *late: Any
  ) -> list[tf.Tensor]:
    """Runs a second stage.

    Args:
      which: its name.
      kept: the values that `begin` returned.
      *late: the late inputs.

    Returns:
      The late outputs.
    """
    call, takes = self._late[which]
    return call(*map(tf.convert_to_tensor, late), *(kept[i] for i in takes))


def compile_stages(
  early: Callable[..., tuple[Sequence[tf.Tensor], Any]],
  early_specs: Sequence[tf.TensorSpec],
  late: Mapping[str, LateFunction],
) -> Stages:
  """Compiles a function in stages.

  Args:
    early: maps the early inputs to the early outputs and to anything that the
      second stages need.
    early_specs: of the early inputs.
    late: the second stages by name.

  Returns:
    The Stages.
  """
  ends: list[int] = []

  def whole(*inputs):
    given = iter(inputs)
    outputs, needed = early(*itertools.islice(given, len(early_specs)))
    found = [*outputs]
    ends.append(len(found))
    for stage in late.values():
      own = itertools.islice(given, len(stage.specs))
      found += stage.function(needed, *own)
      ends.append(len(found))
    # a fetch must not be an input, nor the same tensor as another fetch
    return [tf.identity(t) for t in found]

  specs = [*early_specs, *(s for stage in late.values() for s in stage.specs)]
  graph = tf.compat.v1.wrap_function(whole, specs)
  outputs, inputs = graph.outputs, iter(graph.inputs[: len(specs)])
  first_inputs = list(itertools.islice(inputs, len(early_specs)))
  from_early = _dependents(first_inputs)
  parts = {}
  for name, begin, end in zip(late, ends[:-1], ends[1:], strict=True):
    own = list(itertools.islice(inputs, len(late[name].specs)))
    wanted = outputs[begin:end]
    parts[name] = own, _cut(own, wanted, from_early), wanted
  kept = list({t.name: t for _, cut, _ in parts.values() for t in cut}.values())
  number = {t.name: i for i, t in enumerate(kept)}
  stages = {
    name: _Late(
      _part(graph, [*own, *cut], wanted), [number[t.name] for t in cut]
    )
    for name, (own, cut, wanted) in parts.items()
  }
  first = _part(graph, first_inputs, [*outputs[: ends[0]], *kept])
  return Stages(first, ends[0], stages)


def _part(
  graph: Any, inputs: Sequence[tf.Tensor], outputs: Sequence[tf.Tensor]
) -> Callable[..., Any]:
  """Compiles a part of a graph; a call of `prune`'s result takes 1 ms more."""
  pruned = graph.prune(inputs, outputs)
  specs = [tf.TensorSpec(t.shape, t.dtype) for t in inputs]
  return graphs.compiled(
    lambda *values: pruned(*values), input_signature=specs
  ).get_concrete_function()


def _dependents(tensors: Sequence[tf.Tensor]) -> set[Any]:
  """Returns the operations that depend on some tensors of one graph.

  An operation also depends on what it has to wait for, as the gradient of a
  squared difference waits for what it is multiplied by.
  """
  inputs = {t.name for t in tensors}
  found: set[Any] = set()
  size = -1
  while len(found) > size:  # one pass suffices if the order is topological
    size = len(found)
    for op in tensors[0].graph.get_operations():
      before = [t.op for t in op.inputs] + list(op.control_inputs)
      named = any(t.name in inputs for t in op.inputs)
      if named or not found.isdisjoint(before):
        found.add(op)
  return found


def _cut(
  values: Sequence[tf.Tensor],
  outputs: Sequence[tf.Tensor],
  from_early: set[Any],
) -> list[tf.Tensor]:
  """Returns the tensors of the first stage that outputs need besides values."""
  names = {t.name for t in values}
  late, seen = _dependents(values), set()
  waiting: list[Any] = [t.op for t in outputs]
  found: dict[str, tf.Tensor] = {}
  while waiting:
    op = waiting.pop()
    if op in seen:
      continue
    seen.add(op)
    waiting += [earlier for earlier in op.control_inputs if earlier in late]
    for t in op.inputs:
      early = t.op in from_early or t.op.type == 'Placeholder'
      if t.op in late:
        waiting.append(t.op)
      elif early:
        # all outputs of an operation: TensorFlow cannot lift some of them
        siblings = [t] if t.op.type == 'Placeholder' else t.op.outputs
        found |= {one.name: one for one in siblings if one.name not in names}
  return list(found.values())


class ProblemStages:
  """A surrogate problem whose parts are called one by one.

  It is compiled at the first batch, with the number of states unknown.
  """

  def __init__(
    self,
    policy: Policy,
    objective: Objective,
    matrix: Matrix,
    num_states: int,
    fraction: float,
    weighs_states: bool = False,
  ):
    """Keeps what the problem is made of.

    Args:
      policy: the policy.
      objective: terms of the surrogate.
      matrix: prepares the products with the step's matrix.
      num_states: about how many states a batch has.
      fraction: share of the states that the matrix uses; 1: all.
      weighs_states: whether states have weights and curvatures.
    """
    self._policy, self._objective, self._matrix = policy, objective, matrix
    self._blocks = blocks_lib.num_blocks(num_states)
    self._fraction, self._weighs_states = fraction, weighs_states
    self._lock = threading.Lock()
    self._stages: Stages | None = None

  def begin(
    self, theta: np.ndarray, x: Any, data: Any, rows: np.ndarray | None
  ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Linearises the policy and differentiates the surrogate.

    Args:
      theta: float32 [P], the policy that sampled the batch.
      x: inputs of N states.
      data: the objective's data, leading dimension N.
      rows: int [n], rows of x for the matrix; None: all.

    Returns:
      Surrogate [], gradient [P] and mean entropy [], float64; and the values
      that `finish` takes.
    """
    given = [x, data] if rows is None else [x, data, rows]
    given = tf.nest.map_structure(tf.convert_to_tensor, given)
    theta = tf.convert_to_tensor(theta)
    with self._lock:
      if self._stages is None:
        self._stages = self._compiled(theta, given)
    return self._stages.begin(theta, *tf.nest.flatten(given))

  def finish(
    self, which: str, kept: list[tf.Tensor], *late: Any
  ) -> list[tf.Tensor]:
    """Calls one of the functions of `_late_functions`.

    Args:
      which: its name.
      kept: the values that `begin` returned.
      *late: its late inputs.

    Returns:
      Its outputs.
    """
    assert self._stages is not None
    return self._stages.finish(which, kept, *late)

  def _compiled(self, theta: tf.Tensor, given: list[Any]) -> Stages:
    def early(theta, *flat):
      x, data, *rows = tf.nest.pack_sequence_as(given, list(flat))
      problem = make_problem(
        self._policy,
        self._objective,
        theta,
        x,
        data,
        self._blocks,
        rows[0] if rows else None,
        self._matrix,
      )
      outputs = problem.surrogate, problem.gradient, problem.entropy
      return outputs, (problem, problem.products(self._fraction))

    specs = tf.nest.flatten(tf.nest.map_structure(graphs.any_batch, given))
    candidate = tf.TensorSpec.from_tensor(theta)
    late = self._late_functions(candidate)
    return compile_stages(early, [candidate, *specs], late)

  def _late_functions(
    self, candidate: tf.TensorSpec
  ) -> dict[str, LateFunction]:
    vector = tf.TensorSpec(candidate.shape, tf.float64)
    found = {
      'product': LateFunction(lambda made, v: [made[1](v)], [vector]),
      'evaluate': LateFunction(
        lambda made, theta: made[0].evaluate(theta), [candidate]
      ),
    }
    if self._weighs_states:
      weights = tf.TensorSpec([None], tf.float64)
      found['curvatures'] = LateFunction(
        lambda made, s: [made[0].states.curvatures(s)], [vector]
      )
      found['weighted_product'] = LateFunction(
        lambda made, v, w: [made[0].states.weighted_products(w)(v)],
        [vector, weights],
      )
    return found
