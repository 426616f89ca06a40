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

from trpo_tf.tasks.expression import (
  Expression,
  Operand,
  constant,
  elementwise,
  fail,
)


def sin(x: Operand) -> Expression:
  """Returns the sine of `x`, which is in radians."""
  return elementwise('sin', x)


def cos(x: Operand) -> Expression:
  """Returns the cosine of `x`, which is in radians."""
  return elementwise('cos', x)


def exp(x: Operand) -> Expression:
  """Returns e to the power of `x`."""
  return elementwise('exp', x)


def log(x: Operand) -> Expression:
  """Returns the natural logarithm of `x`."""
  return elementwise('log', x)


def tanh(x: Operand) -> Expression:
  """Returns the hyperbolic tangent of `x`."""
  return elementwise('tanh', x)


def atan2(y: Operand, x: Operand) -> Expression:
  """Returns the angle of the point (x, y), element by element.

  Args:
    y: the ordinate.
    x: the abscissa, of the same shape or with one element.

  Returns:
    An expression of their common shape, in radians within [-pi, pi].
  """
  return elementwise('atan2', y, x)


def power(x: Operand, y: Operand) -> Expression:
  """Returns `x` to the power of `y`, as x**y does, element by element.

  Args:
    x: the base.
    y: the exponent, of the same shape or with one element.

  Returns:
    An expression of their common shape.
  """
  return elementwise('power', x, y)


def square(x: Operand) -> Expression:
  """Returns the square of `x`."""
  return elementwise('square', x)


def sqrt(x: Operand) -> Expression:
  """Returns the square root of `x`."""
  return elementwise('sqrt', x)


def minimum(x: Operand, y: Operand) -> Expression:
  """Returns the smaller of two values, element by element.

  Args:
    x: one value.
    y: the other, of the same shape or with one element.

  Returns:
    An expression of their common shape.
  """
  return elementwise('minimum', x, y)


def maximum(x: Operand, y: Operand) -> Expression:
  """Returns the larger of two values, element by element.

  Args:
    x: one value.
    y: the other, of the same shape or with one element.

  Returns:
    An expression of their common shape.
  """
  return elementwise('maximum', x, y)


def clip(x: Operand, low: Operand, high: Operand) -> Expression:
  """Returns `x` limited to [low, high], element by element.

  Args:
    x: the value.
    low: lower bound, of x's shape or with one element.
    high: upper bound, of x's shape or with one element.

  Returns:
    An expression of their common shape.
  """
  return elementwise('clip', x, low, high)


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
  return elementwise('where', condition, x, y)


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
