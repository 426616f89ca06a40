"""L-BFGS: multiples of a function have one maximum."""

import numpy as np
import pytest
import scipy.optimize

from trpo_tf.optim import lbfgs

START = np.array([-1.2, 1.0, 0.5], np.float32)


def _search(scale, evaluations=200):
  def value_and_gradient(point):
    point = point.astype(np.float64)
    value = scipy.optimize.rosen(point)
    return -scale * value, -scale * scipy.optimize.rosen_der(point)

  return lbfgs.maximize(value_and_gradient, START, evaluations)


@pytest.mark.parametrize('exponent', [-100, -30, 5, 100])
def test_multiples_have_one_result(exponent):
  found, expected = _search(2.0**exponent), _search(1.0)
  assert found.theta.tobytes() == expected.theta.tobytes()
  assert found.evaluations == expected.evaluations
  np.testing.assert_allclose(found.theta, 1, atol=1e-2)


@pytest.mark.parametrize('scale', [0.0, np.nan])
def test_what_has_no_slope_stays(scale):
  np.testing.assert_array_equal(_search(scale).theta, START)


def test_evaluations_are_bounded():
  assert _search(1.0, evaluations=5).evaluations <= 6
