"""Backtracking along a step until a candidate passes every test."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from trpo_tf.estimation.surrogate import CandidateEvaluation
from trpo_tf.optim.candidates import Refuse

__all__ = ['LineSearchResult', 'line_search']


class LineSearchResult(NamedTuple):
  """Outcome of the line search.

  Attributes:
    accepted: bool [], whether a candidate passed.
    theta: [P], the last candidate tried (theta itself when none was).
    fraction: float64 [], ratio^j of that candidate; 0 when none was tried.
    evaluations: int32 [], candidates evaluated.
    last: the evaluation of that candidate.
  """

  accepted: tf.Tensor
  theta: tf.Tensor
  fraction: tf.Tensor
  evaluations: tf.Tensor
  last: CandidateEvaluation


def line_search(
  evaluate: Callable[[tf.Tensor, Refuse], CandidateEvaluation],
  theta: tf.Tensor,
  step: tf.Tensor,
  before: tf.Tensor,
  max_kl: float,
  ratio: float,
  max_tries: int,
  enabled: tf.Tensor | bool = True,
  bounded: str = 'mean_kl',
) -> LineSearchResult:
  """Tries theta + ratio^j * step, j = 0, 1, ... (appendix C of the paper).

  A candidate passes when its surrogate is larger than `before` and its KL
  (mean, or of the worst state) is at most `max_kl`; a NaN passes neither.

  Args:
    evaluate: maps a candidate [P] to its evaluation on the full batch. It may
      stop early if the KL of some states exceeds the bound, which does not
      happen to the last candidate.
    theta: float32 [P] where to start.
    step: float64 [P], the longest step.
    before: float64 [], surrogate at theta.
    max_kl: bound on the KL, in nats.
    ratio: factor between tries, in (0, 1).
    max_tries: largest number of candidates.
    enabled: bool []; if it is False, no candidate is tried.
    bounded: field of CandidateEvaluation that is bounded: 'mean_kl' or
      'max_kl'.

  Returns:
    The LineSearchResult.
  """
  origin = tf.cast(theta, tf.float64)

  def exceeds(found):
    return getattr(found, bounded) > max_kl

  def unfinished(j, accepted, *_):
    return enabled & ~accepted & (j < max_tries)

  def attempt(j, accepted, candidate, fraction, last):
    del accepted, candidate, last
    fraction = tf.where(j == 0, tf.ones([], tf.float64), fraction * ratio)
    candidate = tf.cast(origin + fraction * step, theta.dtype)
    more = tf.less(j + 1, max_tries)
    last = evaluate(candidate, lambda so_far: exceeds(so_far) & more)
    passed = (last.surrogate > before) & (getattr(last, bounded) <= max_kl)
    return j + 1, passed, candidate, fraction, last

  zero = tf.zeros([], tf.float64)
  nothing = CandidateEvaluation(before, zero, zero)
  start = (0, tf.constant(False), theta, zero, nothing)
  j, accepted, candidate, fraction, last = tf.while_loop(
    unfinished, attempt, start
  )
  return LineSearchResult(accepted, candidate, fraction, j, last)
