"""Compiles a task's expressions to the flat program that C++ evaluates.

One register file of float64 holds everything: constants, the action, the values
of `prev` one step before, temporaries and the outputs. An instruction is nine
int32 numbers (csrc/program.h). Slices cost nothing, because operands have a
stride. An expression that is used twice is computed once.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from trpo_tf.tasks.expression import Expression

# The native operations, in the order of csrc/program.cc. The order is checked
# when the extension is loaded.
OPS = (
  'load',
  'copy',
  'negate',
  'abs',
  'sin',
  'cos',
  'exp',
  'square',
  'sqrt',
  'not',
  'add',
  'subtract',
  'multiply',
  'divide',
  'minimum',
  'maximum',
  'less',
  'less_equal',
  'and',
  'or',
  'clip',
  'where',
  'sum',
  'norm',
  'all',
  'all_finite',
  'weighted_sum',
  'tanh',
  'log',
  'atan2',
  'power',
  'time',
)
_REDUCTIONS = ('sum', 'norm', 'all', 'all_finite')
_POST_CONSTRAINT = ('cacc', 'cfrc_int', 'cfrc_ext')
_SUBTREE_VELOCITY = ('subtree_linvel', 'subtree_angmom')


@dataclasses.dataclass(frozen=True)
class Program:
  """A compiled task.

  Attributes:
    code: int32 [n, 9], instructions; operand a of a load indexes `fields`.
    fields: names of the mjData fields that are read.
    constants: float64 [number of constants], values of the first registers.
    num_registers: size of the register file.
    action: first register of the action.
    prev: first register of the values one step before.
    current: registers whose values become those of `prev` after a step.
    reset_passes: number of evaluations that settle nested `prev`s at a reset.
    outputs: first register of [observation, reward, terminated, terms].
    num_outputs: number of these outputs.
    observation_size: elements of the observation.
    derived: bits of the functions that mj_step leaves out and the program
      needs: 1 for mj_rnePostConstraint, 2 for mj_subtreeVel.
    places: register and stride of every expression; each keeps its register
      until the next evaluation.
  """

  code: np.ndarray
  fields: tuple[str, ...]
  constants: np.ndarray
  num_registers: int
  action: int
  prev: int
  current: tuple[int, ...]
  reset_passes: int
  outputs: int
  num_outputs: int
  observation_size: int
  derived: int
  places: Mapping[Expression, tuple[int, int]]


def _walk(roots: list[Expression]) -> list[Expression]:
  """Lists the roots and all expressions below them, operands first."""
  found: dict[int, Expression] = {}

  def visit(node: Expression) -> None:
    if id(node) not in found:
      for child in node.inputs:
        visit(child)
      found[id(node)] = node

  for root in roots:
    visit(root)
  return list(found.values())


def _prev_depth(nodes: list[Expression]) -> int:
  """Returns how deep `prev`s are nested in nodes that list operands first."""
  depth: dict[int, int] = {}
  for node in nodes:
    below = max((depth[id(child)] for child in node.inputs), default=0)
    depth[id(node)] = below + (node.op == 'prev')
  return max(depth.values())


class _Compiler:
  """Assigns registers and emits instructions."""

  def __init__(self, nodes: list[Expression], action_size: int):
    self.code: list[list[int]] = []
    self.fields: list[str] = []
    self.constants: list[float] = []
    self.place: dict[int, tuple[int, int]] = {}  # id -> register, stride
    for node in nodes:
      if node.op == 'constant':
        self.place[id(node)] = (len(self.constants), 1)
        self.constants.extend(node.data.ravel())
    self.action = self.next = len(self.constants)
    self.next += action_size
    self.prev = self.next
    for node in nodes:
      if node.op == 'action':
        self.place[id(node)] = (self.action, 1)
    # The outermost come first. After a step they are copied in this order, and
    # a prev of a prev must read the inner one before that is overwritten.
    self.prevs = [node for node in reversed(nodes) if node.op == 'prev']
    for node in self.prevs:
      self.place[id(node)] = (self.allocate(node.size), 1)

  def allocate(self, size: int) -> int:
    self.next += size
    return self.next - size

  def operand(self, node: Expression, n: int) -> tuple[int, int]:
    register, stride = self.emit(node)
    return register, stride if node.size == n > 1 else 0

  def emit(self, node: Expression, target: int | None = None):
    """Emits the node, into `target` if given; returns register and stride."""
    place = self.place.get(id(node))
    if place is None and node.op == 'take':
      register, stride = self.emit(node.inputs[0])
      start, step = node.data
      place = self.place[id(node)] = register + start * stride, step * stride
    if place is not None:
      if target is not None:
        self.instruction('copy', node.size, target, place)
      return place
    register = self.allocate(node.size) if target is None else target
    self.place[id(node)] = register, 1
    if node.op == 'concatenate':
      for child in node.inputs:
        self.emit(child, register)
        register += child.size
    elif node.op == 'load':
      self.load(node, register)
    elif node.op == 'weighted_sum':
      weights, rows = node.inputs
      block, stride = self.emit(rows)
      if stride != 1:
        block = self.allocate(rows.size)
        self.emit(rows, block)
      self.instruction(
        node.op,
        weights.size,
        register,
        self.emit(weights),
        (block, 1),
        (node.size, 0),
      )
    elif node.op in _REDUCTIONS:
      (x,) = node.inputs
      self.instruction(node.op, x.size, register, self.operand(x, x.size))
    elif node.op == 'time':
      self.instruction(node.op, node.size, register, (register, 0))
    else:
      operands = [self.operand(x, node.size) for x in node.inputs]
      self.instruction(node.op, node.size, register, *operands)
    return self.place[id(node)]

  def load(self, node: Expression, register: int) -> None:
    field, start, stride = node.data
    if field not in self.fields:
      self.fields.append(field)
    self.instruction(
      'load',
      node.size,
      register,
      (self.fields.index(field), 0),
      (start, stride),
    )

  def instruction(self, op: str, n: int, target: int, *operands) -> None:
    # The first operand takes the place of those that the operation lacks.
    a = operands[0]
    b = operands[1] if len(operands) > 1 else a
    c = operands[2] if len(operands) > 2 else a
    self.code.append([OPS.index(op), n, target, *a, *b, *c])


def compile_program(
  observation: Expression,
  reward: Expression,
  terminated: Expression,
  terms: tuple[Expression, ...],
  action_size: int,
) -> Program:
  """Compiles a task's expressions.

  Args:
    observation: shape [O], at least one element.
    reward: one element.
    terminated: one element; nonzero ends the episode.
    terms: one element each; recorded along with the reward.
    action_size: elements of the action.

  Returns:
    The program.
  """
  roots = [observation, reward, terminated, *terms]
  nodes = _walk(roots)
  compiler = _Compiler(nodes, action_size)
  current: list[int] = []
  for node in compiler.prevs:
    register, stride = compiler.emit(node.inputs[0])
    current.extend(register + i * stride for i in range(node.size))
  num_outputs = sum(root.size for root in roots)
  outputs = place = compiler.allocate(num_outputs)
  for root in roots:
    compiler.emit(root, place)
    place += root.size
  fields = set(compiler.fields)
  return Program(
    code=np.asarray(compiler.code, np.int32),
    fields=tuple(compiler.fields),
    constants=np.asarray(compiler.constants, np.float64),
    num_registers=compiler.next,
    action=compiler.action,
    prev=compiler.prev,
    current=tuple(current),
    reset_passes=1 + _prev_depth(nodes),
    outputs=outputs,
    num_outputs=num_outputs,
    observation_size=observation.size,
    derived=(1 if fields & set(_POST_CONSTRAINT) else 0)
    + (2 if fields & set(_SUBTREE_VELOCITY) else 0),
    places={node: compiler.place[id(node)] for node in nodes},
  )
