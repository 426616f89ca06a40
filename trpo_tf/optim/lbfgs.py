"""Unconstrained maximisation by SciPy's L-BFGS-B."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize

__all__ = ['Maximum', 'maximize']


class Maximum(NamedTuple):
  """The result of the search.

  Attributes:
    theta: float32 [P], the best point.
    evaluations: number of evaluations of the function and its gradient.
  """

  theta: np.ndarray
  evaluations: int


def maximize(
  value_and_gradient: Callable[[np.ndarray], tuple[Any, Any]],
  theta: np.ndarray,
  evaluations: int,
) -> Maximum:
  """Maximises a function, starting from theta.

  SciPy's tolerances are absolute. The function is divided by a power of two of
  about the size of its gradient at theta, so multiples of it have one result.

  Args:
    value_and_gradient: maps float32 [P] to the value and its gradient [P].
    theta: float32 [P], where to begin.
    evaluations: largest number of evaluations; a line search that has begun
      may exceed it.

  Returns:
    The Maximum, which is theta itself if nothing better was found.
  """
  unit: list[float] = []

  def negated(point: np.ndarray) -> tuple[float, np.ndarray]:
    value, gradient = value_and_gradient(point.astype(np.float32))
    gradient = np.asarray(gradient, np.float64)
    if not unit:
      unit.append(_power_of_two(float(np.linalg.norm(gradient))))
    return -float(value) / unit[0], -gradient / unit[0]

  found = scipy.optimize.minimize(
    negated,
    theta.astype(np.float64),
    jac=True,
    method='L-BFGS-B',
    options=dict(maxfun=evaluations, maxiter=evaluations),
  )
  return Maximum(found.x.astype(np.float32), int(found.nfev))


def _power_of_two(size: float) -> float:
  """Returns the power of two below a size; 1 if it is 0 or not finite."""
  if not 0 < size < np.inf:
    return 1.0
  return 2.0 ** np.floor(np.log2(size))
