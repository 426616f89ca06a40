"""Says which expression of a task has given a number that is not finite."""

import linecache
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from trpo_tf.tasks.expression import Expression
from trpo_tf.tasks.task import CompiledTask

_FLOAT32_BOUND = float.fromhex('0x1.ffffffp127')  # rounds to infinity
_MOST_SHOWN = 80  # characters of a line of the task


class _Element(NamedTuple):
  """One number of an expression's value."""

  node: Expression
  position: int

  def same(self, other: '_Element') -> bool:
    return self.node is other.node and self.position == other.position


def _log(x: float) -> str:
  if x == 0:
    return 'takes the log of zero'
  return f'takes the log of the negative number {x:g}'


def _power(x: float, y: float) -> str:
  if x == 0:
    return 'takes a negative power of zero'
  if x < 0 and not y.is_integer():
    return f'takes the power {y:g} of the negative number {x:g}'
  return ''


# What an operation does that gives no finite number; '': it overflows.
_DEEDS: dict[str, Callable[..., str]] = {
  'divide': lambda x, y: '' if y else 'divides by zero',
  'log': _log,
  'power': _power,
  'sqrt': lambda x: f'takes the square root of the negative number {x:g}',
}


class _Step:
  """The values that a task's expressions had when a step failed."""

  def __init__(self, compiled: CompiledTask, registers: np.ndarray):
    """Takes the registers after the program's evaluation.

    Args:
      compiled: the task.
      registers: float64 [number of registers].
    """
    self._places, self._registers = compiled.program.places, registers

  def value(self, element: _Element) -> float:
    register, stride = self._places[element.node]
    return float(self._registers[register + element.position * stride])

  def fails(self, element: _Element) -> bool:
    return not math.isfinite(self.value(element))

  def sources(self, element: _Element) -> Iterator[_Element]:
    """Yields the elements of which this step computes an element."""
    node, i = element
    if node.op == 'prev':
      return
    if node.op == 'take':
      start, stride = node.data
      yield _Element(node.inputs[0], start + i * stride)
    elif node.op == 'concatenate':
      for part in node.inputs:
        if 0 <= i < part.size:
          yield _Element(part, i)
        i -= part.size
    elif node.op == 'weighted_sum':
      weights, rows = node.inputs
      for k in range(weights.size):
        yield _Element(weights, k)
        yield _Element(rows, k * node.size + i)
    elif node.op in ('sum', 'norm'):
      (x,) = node.inputs
      yield from (_Element(x, k) for k in range(x.size))
    else:
      operands = [_Element(x, i if x.size > 1 else 0) for x in node.inputs]
      if node.op == 'where':
        condition, *choices = operands
        operands = choices[:1] if self.value(condition) else choices[1:]
      yield from operands

  def origin(self, element: _Element) -> _Element:
    """Returns where a number that is not finite or too large comes up first."""
    bound = math.inf if self.fails(element) else _FLOAT32_BOUND
    while True:
      for source in self.sources(element):
        if not abs(self.value(source)) < bound:
          element = source
          break
      else:
        return element

  def deed(self, element: _Element) -> str:
    """Says how an element fails that is its own origin."""
    node, value = element.node, self.value(element)
    if math.isfinite(value):
      return f'is {value:g}, which is too large for float32'
    if node.op == 'prev':
      return f'reads a prev() that is {value}'
    if not node.inputs:
      return f'reads {node.data[0] if node.data else node.op}, which is {value}'
    if node.op in _DEEDS:
      operands = map(self.value, self.sources(element))
      if deed := _DEEDS[node.op](*operands):
        return deed
    return f'overflows: its {node.op} is {value}'


def explain(compiled: CompiledTask, registers: np.ndarray) -> str:
  """Says what failed in a step whose physics is sound, in one line.

  Args:
    compiled: the task.
    registers: float64 [number of registers], after the step's evaluation.

  Returns:
    The output, what it does and where it is written; '' if all is finite.
  """
  step, definition = _Step(compiled, registers), compiled.definition
  observation = [
    _Element(definition.observation, i)
    for i in range(definition.observation.size)
  ]
  reward = _Element(definition.reward, 0)
  end = _Element(definition.terminated, 0)
  for element in observation:
    if not abs(step.value(element)) < _FLOAT32_BOUND:
      name = f'element {element.position} of the observation'
      return _line(name, step, element)
  if step.fails(reward):
    name = 'the reward'
    for term, node in definition.terms.items():
      part = _Element(node, 0)
      if step.fails(part) and step.origin(part).same(step.origin(reward)):
        name = f"the reward's term {term!r}"
    return _line(name, step, reward)
  return _line('the end', step, end) if step.fails(end) else ''


def _line(name: str, step: _Step, element: _Element) -> str:
  origin = step.origin(element)
  place = origin.node.place
  source = linecache.getline(place.file, place.line).strip()[:_MOST_SHOWN]
  return f'{name} {step.deed(origin)} at {place}' + (
    f', {source!r}' if source else ''
  )
