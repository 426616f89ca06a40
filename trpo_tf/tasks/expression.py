"""The values of the task language, and the operators on them."""

import dataclasses
import pathlib
import reprlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from trpo_tf.errors import UserError

_NUMPY = str(pathlib.Path(np.__file__).parent)
_INSIDE = {
  *(
    str(pathlib.Path(__file__).with_name(name))
    for name in ('expression.py', 'language.py', 'simulation.py', 'task.py')
  ),
  '<string>',  # where the __init__ of a dataclass is
}


class Place(NamedTuple):
  """A line of the file in which a task is written."""

  file: str
  line: int

  def __str__(self) -> str:
    return f'{self.file}:{self.line}'


def _is_inside(file: str) -> bool:
  """Whether a file is of the language, or of NumPy, which calls it."""
  return file in _INSIDE or file.startswith(_NUMPY)


def _here() -> Place:
  """Returns the line of the task that is being written."""
  frame = sys._getframe(1)
  while frame.f_back and _is_inside(frame.f_code.co_filename):
    frame = frame.f_back
  return Place(frame.f_code.co_filename, frame.f_lineno)


def fail(message: str) -> NoReturn:
  """Raises UserError with the file and line of the task being written."""
  raise UserError(f'{_here()}: {message}')


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
    place: where the task makes it.
  """

  op: str
  shape: tuple[int, ...]
  # not in the repr, which would show shared operands again and again
  inputs: tuple['Expression', ...] = dataclasses.field(default=(), repr=False)
  data: Any = None
  place: Place = dataclasses.field(default_factory=_here, repr=False)

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
  __add__ = lambda a, b: elementwise('add', a, b)
  __radd__ = lambda a, b: elementwise('add', b, a)
  __sub__ = lambda a, b: elementwise('subtract', a, b)
  __rsub__ = lambda a, b: elementwise('subtract', b, a)
  __mul__ = lambda a, b: elementwise('multiply', a, b)
  __rmul__ = lambda a, b: elementwise('multiply', b, a)
  __truediv__ = lambda a, b: elementwise('divide', a, b)
  __rtruediv__ = lambda a, b: elementwise('divide', b, a)
  __pow__ = lambda a, b: elementwise('power', a, b)
  __rpow__ = lambda a, b: elementwise('power', b, a)
  __lt__ = lambda a, b: elementwise('less', a, b)
  __gt__ = lambda a, b: elementwise('less', b, a)
  __le__ = lambda a, b: elementwise('less_equal', a, b)
  __ge__ = lambda a, b: elementwise('less_equal', b, a)
  __and__ = __rand__ = lambda a, b: elementwise('and', a, b)
  __or__ = __ror__ = lambda a, b: elementwise('or', a, b)
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
    array = np.array(value, np.float64)  # a copy, as the caller's may change
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


def elementwise(op: str, *operands: Operand) -> Expression:
  """Applies an operation of the native program element by element.

  Args:
    op: its name.
    *operands: of the same shape or with one element.

  Returns:
    An expression of their common shape.

  Raises:
    UserError: the shapes differ.
  """
  inputs = tuple(constant(x) for x in operands)
  shapes = {x.shape for x in inputs if x.size > 1}
  if len(shapes) > 1:
    fail(f'{op}: shapes {" and ".join(map(str, sorted(shapes)))} differ')
  longest = max((x.shape for x in inputs), key=len)
  shape = shapes.pop() if shapes else longest
  return Expression(op, shape, inputs)
