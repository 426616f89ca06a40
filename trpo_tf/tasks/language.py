"""The task language: expressions over MuJoCo's fields (simulation.py).

The observation, reward and termination of a task are small expressions.
`tasks/program.py` compiles them to a flat program, which the native sampler
runs at every step. An expression is a value with a NumPy shape; operators work
element by element and a scalar fits every shape. Slices of fields follow NumPy,
and a string selects a row by the name of its body, geom, site, joint, ...:

  upright = (sim.qpos[1] > 0.7) & (abs(sim.qpos[2]) < 0.2)
  speed = (sim.qpos[0] - prev(sim.qpos[0])) / sim.dt
  reach = norm(sim.xpos['fingertip'] - sim.xpos['target'])

Truth values are 0.0 and 1.0. A malformed expression raises UserError when it is
written, with the file and line of the task.
"""

import dataclasses
import pathlib
import reprlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from trpo_tf.errors import UserError


def fail(message: str) -> NoReturn:
  """Raises UserError with the file and line of the task being written."""
  frame = sys._getframe(1)
  here = pathlib.Path(__file__)
  inside = [
    str(here.with_name(name))
    for name in (here.name, 'simulation.py', 'task.py')
  ]
  inside.append('<string>')  # where the __init__ of a dataclass is
  while frame.f_back and frame.f_code.co_filename in inside:
    frame = frame.f_back
  where = f'{frame.f_code.co_filename}:{frame.f_lineno}'
  raise UserError(f'{where}: {message}')


@dataclasses.dataclass(frozen=True, eq=False)
class Expression:
  """A value of the task language.

  Attributes:
    op: 'constant', 'action', 'load', 'take', 'concatenate', 'prev', or an
      operation of the native program.
    shape: NumPy shape of the value.
    inputs: operands.
    data: the values of a 'constant', (field, start, stride) of a 'load', or
      (start, stride) into the flat input of a 'take'.
  """

  op: str
  shape: tuple[int, ...]
  inputs: tuple['Expression', ...] = ()
  data: Any = None

  __array_ufunc__ = None  # lets `array * expression` reach __rmul__

  @property
  def size(self) -> int:
    """Number of elements."""
    return int(np.prod(self.shape, dtype=int))

  def __getitem__(self, key: Any) -> 'Expression':
    grid = np.arange(self.size).reshape(self.shape)
    try:
      elements = grid[key]
    except (IndexError, TypeError):
      fail(f'[{_show(key)}] does not fit a value of shape {self.shape}')
    if elements.size == 0:
      fail(f'[{_show(key)}] of a value of shape {self.shape} is empty')
    return self._elements(np.asarray(elements))

  def _elements(self, elements: np.ndarray) -> 'Expression':
    runs = _runs(elements.ravel())
    parts = []
    for start, stride, count in runs:
      shape = elements.shape if len(runs) == 1 else (count,)
      if self.op == 'load':
        field, first, step = self.data
        place = (field, first + start * step, stride * step)
        parts.append(Expression('load', shape, (), place))
      else:
        parts.append(Expression('take', shape, (self,), (start, stride)))
    if len(parts) == 1:
      return parts[0]
    return Expression('concatenate', elements.shape, tuple(parts))

  def __bool__(self):
    fail(
      'an expression has no truth value while the task is built: write '
      '(a < x) & (x < b) for a < x < b, and & | ~ for and, or, not'
    )

  def __iter__(self):
    if not self.shape:
      fail('a single number cannot be unpacked or iterated over')
    return (self[i] for i in range(self.shape[0]))

  def __eq__(self, other: object):
    fail(
      'an expression cannot be compared with == or !=: write '
      '(a <= x) & (x <= a), or abs(x - a) < tolerance'
    )

  __hash__ = object.__hash__
  __add__ = lambda a, b: _binary('add', a, b)
  __radd__ = lambda a, b: _binary('add', b, a)
  __sub__ = lambda a, b: _binary('subtract', a, b)
  __rsub__ = lambda a, b: _binary('subtract', b, a)
  __mul__ = lambda a, b: _binary('multiply', a, b)
  __rmul__ = lambda a, b: _binary('multiply', b, a)
  __truediv__ = lambda a, b: _binary('divide', a, b)
  __rtruediv__ = lambda a, b: _binary('divide', b, a)
  __lt__ = lambda a, b: _binary('less', a, b)
  __gt__ = lambda a, b: _binary('less', b, a)
  __le__ = lambda a, b: _binary('less_equal', a, b)
  __ge__ = lambda a, b: _binary('less_equal', b, a)
  __and__ = __rand__ = lambda a, b: _binary('and', a, b)
  __or__ = __ror__ = lambda a, b: _binary('or', a, b)
  __neg__ = lambda a: Expression('negate', a.shape, (a,))
  __abs__ = lambda a: Expression('abs', a.shape, (a,))
  __invert__ = lambda a: Expression('not', a.shape, (a,))


Operand = Expression | float | Sequence[float] | np.ndarray


def _show(key: Any) -> str:
  if isinstance(key, tuple):
    return ', '.join(_show(item) for item in key)
  if isinstance(key, slice):
    ends = ['' if i is None else str(i) for i in (key.start, key.stop)]
    return ':'.join(ends + ([str(key.step)] if key.step else []))
  return repr(key)


def _runs(elements: np.ndarray) -> list[tuple[int, int, int]]:
  """Splits indices into (start, stride, count) arithmetic progressions."""
  runs, i = [], 0
  while i < len(elements):
    stride = int(elements[i + 1] - elements[i]) if i + 1 < len(elements) else 1
    j = i + 1
    while j < len(elements) and elements[j] - elements[j - 1] == stride:
      j += 1
    runs.append((int(elements[i]), stride, j - i))
    i = j
  return runs


def constant(value: Operand) -> Expression:
  """Makes an expression of a number or array; keeps an expression as it is."""
  if isinstance(value, Expression):
    return value
  try:
    array = np.asarray(value, np.float64)
  except (TypeError, ValueError):
    fail(f'{reprlib.repr(value)} is neither an expression nor a number')
  if not array.size:
    fail(f'the constant {reprlib.repr(value)} is empty')
  if not np.isfinite(array).all():
    fail(
      f'the constant {reprlib.repr(value)} is not finite: leave the bound out '
      'instead'
    )
  return Expression('constant', array.shape, (), array)


def _elementwise(op: str, *operands: Operand) -> Expression:
  inputs = tuple(constant(x) for x in operands)
  shapes = {x.shape for x in inputs if x.size > 1}
  if len(shapes) > 1:
    fail(f'{op}: shapes {" and ".join(map(str, sorted(shapes)))} differ')
  shape = shapes.pop() if shapes else inputs[0].shape
  return Expression(op, shape, inputs)


def _binary(op: str, a: Operand, b: Operand) -> Expression:
  return _elementwise(op, a, b)


def sin(x: Operand) -> Expression:
  """Returns the sine of `x`, which is in radians."""
  return _elementwise('sin', x)


def cos(x: Operand) -> Expression:
  """Returns the cosine of `x`, which is in radians."""
  return _elementwise('cos', x)


def exp(x: Operand) -> Expression:
  """Returns e to the power of `x`."""
  return _elementwise('exp', x)


def square(x: Operand) -> Expression:
  """Returns the square of `x`."""
  return _elementwise('square', x)


def sqrt(x: Operand) -> Expression:
  """Returns the square root of `x`."""
  return _elementwise('sqrt', x)


def minimum(x: Operand, y: Operand) -> Expression:
  """Returns the smaller of two values, element by element.

  Args:
    x: one value.
    y: the other, of the same shape or with one element.

  Returns:
    An expression of their common shape.
  """
  return _elementwise('minimum', x, y)


def maximum(x: Operand, y: Operand) -> Expression:
  """Returns the larger of two values, element by element.

  Args:
    x: one value.
    y: the other, of the same shape or with one element.

  Returns:
    An expression of their common shape.
  """
  return _elementwise('maximum', x, y)


def clip(x: Operand, low: Operand, high: Operand) -> Expression:
  """Returns `x` limited to [low, high], element by element.

  Args:
    x: the value.
    low: lower bound, of x's shape or with one element.
    high: upper bound, of x's shape or with one element.

  Returns:
    An expression of their common shape.
  """
  return _elementwise('clip', x, low, high)


def where(condition: Operand, x: Operand, y: Operand) -> Expression:
  """Returns `x` where the condition holds and `y` elsewhere.

  Args:
    condition: truth value, which holds where it is nonzero.
    x: value where it holds.
    y: value where it does not. Operands with more than one element have one
      shape.

  Returns:
    An expression of their common shape.
  """
  return _elementwise('where', condition, x, y)


def total(x: Operand) -> Expression:
  """Returns the sum of all elements, in NumPy's order of summation."""
  return Expression('sum', (), (constant(x),))


def norm(x: Operand) -> Expression:
  """Returns the Euclidean norm of all elements."""
  return Expression('norm', (), (constant(x),))


def every(x: Operand) -> Expression:
  """Returns whether all elements are nonzero."""
  return Expression('all', (), (constant(x),))


def all_finite(x: Operand) -> Expression:
  """Returns whether no element is infinite or NaN."""
  return Expression('all_finite', (), (constant(x),))


def weighted_sum(weights: Operand, rows: Operand) -> Expression:
  """Returns sum_i weights[i] * rows[i, :].

  Args:
    weights: [n].
    rows: [n, c].

  Returns:
    An expression of shape [c].
  """
  w, x = constant(weights), constant(rows)
  if len(x.shape) != 2 or w.shape != x.shape[:1]:
    fail(f'weighted_sum: weights {w.shape} do not fit rows {x.shape}')
  return Expression('weighted_sum', x.shape[1:], (w, x))


def concatenate(*parts: Operand) -> Expression:
  """Returns all elements of all parts, in order, as one vector."""
  inputs = tuple(constant(x) for x in parts)
  if not inputs:
    fail('concatenate needs at least one part')
  return Expression('concatenate', (sum(x.size for x in inputs),), inputs)


def prev(x: Operand) -> Expression:
  """Returns the value of `x` one env step before; at a reset, `x` itself."""
  x = constant(x)
  return Expression('prev', x.shape, (x,))
