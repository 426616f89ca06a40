"""Line search on functions of one parameter."""

import numpy as np
import pytest
import tensorflow as tf

from trpo_tf.estimation import surrogate
from trpo_tf.optim import line_search


def search(gain, kl, step=1.0, tries=10, max_kl=1.0, **kwargs):
  def evaluate(theta, refuse):
    del refuse
    x = tf.cast(theta[0], tf.float64)
    return surrogate.CandidateEvaluation(gain(x), kl(x), 2 * kl(x))

  return line_search.line_search(
    evaluate,
    tf.constant([0.0]),
    tf.constant([step], tf.float64),
    tf.zeros([], tf.float64),
    max_kl,
    0.5,
    tries,
    **kwargs,
  )


def test_takes_the_first_candidate_when_it_passes():
  result = search(lambda x: x, lambda x: x * x)
  assert result.accepted and result.evaluations == 1
  assert result.fraction == 1 and result.theta == [1.0]
  assert result.last.mean_kl == 1 and result.last.max_kl == 2


@pytest.mark.parametrize(
  'gain, kl, tries',
  [
    pytest.param(lambda x: x, lambda x: 10 * x * x, 3, id='kl'),
    pytest.param(lambda x: x * (0.3 - x), lambda x: 0 * x, 3, id='improvement'),
    pytest.param(
      lambda x: x, lambda x: tf.where(x > 0.3, np.nan, x), 3, id='nan kl'
    ),
    pytest.param(
      lambda x: tf.where(x > 0.3, np.nan, x),
      lambda x: 0 * x,
      3,
      id='nan surrogate',
    ),
  ],
)
def test_backs_off_until_both_tests_pass(gain, kl, tries):
  result = search(gain, kl)
  assert result.accepted
  assert result.evaluations == tries
  assert result.fraction == 0.5 ** (tries - 1)


def test_equal_surrogate_is_no_improvement():
  assert not search(lambda x: 0 * x, lambda x: 0 * x).accepted


def test_gives_up_after_its_tries():
  result = search(lambda x: -x, lambda x: 0 * x, tries=4)
  assert not result.accepted
  assert result.evaluations == 4
  assert result.fraction == 0.125


def test_disabled_it_evaluates_nothing():
  result = search(lambda x: x, lambda x: 0 * x, enabled=tf.constant(False))
  assert not result.accepted
  assert result.evaluations == 0 and result.theta == [0.0]


@pytest.mark.parametrize('bounded', ['mean_kl', 'max_kl'])
def test_a_kl_above_its_bound_refuses_all_but_the_last_candidate(bounded):
  asked = []

  def evaluate(theta, refuse):
    del theta
    found = []
    for kl in (0.9, 1.0, 1.1, np.nan):
      kls = {'mean_kl': 0.0, 'max_kl': 0.0} | {bounded: kl}
      values = {
        name: tf.constant(value, tf.float64) for name, value in kls.items()
      }
      zero = tf.zeros([], tf.float64)
      found.append(surrogate.CandidateEvaluation(zero, **values))
    asked.append([bool(refuse(value)) for value in found])
    return found[2]

  result = line_search.line_search(
    evaluate,
    tf.constant([0.0]),
    tf.ones([1], tf.float64),
    tf.zeros([], tf.float64),
    1.0,
    0.5,
    3,
    bounded=bounded,
  )
  assert result.evaluations == 3 and not result.accepted
  assert asked == 2 * [[False, False, True, False]] + [4 * [False]]
