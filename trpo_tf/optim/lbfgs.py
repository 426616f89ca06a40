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

  Args:
    value_and_gradient: maps float32 [P] to the value and its gradient [P].
    theta: float32 [P], where to begin.
    evaluations: largest number of evaluations; a line search that has begun
      may exceed it.

  Returns:
    The Maximum, which is theta itself if nothing better was found.
  """

  def negated(point: np.ndarray) -> tuple[float, np.ndarray]:
    value, gradient = value_and_gradient(point.astype(np.float32))
    return -float(value), -np.asarray(gradient, np.float64)

  found = scipy.optimize.minimize(
    negated,
    theta.astype(np.float64),
    jac=True,
    method='L-BFGS-B',
    options=dict(maxfun=evaluations, maxiter=evaluations),
  )
  return Maximum(found.x.astype(np.float32), int(found.nfev))
