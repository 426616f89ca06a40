"""One thread for the linear algebra of NumPy and SciPy, for equal rounding."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import threadpoolctl

__all__ = ['one_thread']

_P = ParamSpec('_P')
_R = TypeVar('_R')


def one_thread(function: Callable[_P, _R]) -> Callable[_P, _R]:
  """Gives the BLAS one thread while a function runs.

  Its sums are split over its threads, so it rounds by their number, which is
  the machine's number of cores unless OPENBLAS_NUM_THREADS is set.

  Args:
    function: what computes with NumPy or SciPy.
  """

  @functools.wraps(function)
  def with_one_thread(*args: _P.args, **kwargs: _P.kwargs) -> _R:
    with threadpoolctl.threadpool_limits(1, 'blas'):
      return function(*args, **kwargs)

  return with_one_thread
