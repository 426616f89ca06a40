"""Conjugate gradient against dense solvers."""

import numpy as np
import pytest
import scipy.sparse.linalg
import tensorflow as tf

from trpo_tf.optim import conjugate_gradient


def solve(a, b, *args, **kwargs):
  a = tf.constant(np.asarray(a, np.float64))
  return tf.function(
    lambda: conjugate_gradient.conjugate_gradient(
      lambda v: tf.linalg.matvec(a, v),
      tf.constant(b, tf.float64),
      *args,
      **kwargs,
    )
  )()


def spd(size, seed=0):
  root = np.random.default_rng(seed).normal(size=(size, 2 * size))
  return root @ root.T / size


def test_solves_in_as_many_iterations_as_unknowns():
  a, b = spd(6), np.arange(1.0, 7)
  result = solve(a, b, 50, tolerance=1e-12)
  assert result.converged and not result.failed
  assert result.iterations == 6
  np.testing.assert_allclose(result.solution, np.linalg.solve(a, b), rtol=1e-10)


def test_distinct_eigenvalues_set_the_iterations():
  a = np.diag([1.0, 1, 1, 5, 5, 9])
  result = solve(a, np.arange(1.0, 7), 50, tolerance=1e-12)
  assert result.iterations == 3


@pytest.mark.parametrize('iterations', [1, 4, 10])
def test_iterates_equal_scipys(iterations):
  a, b = spd(30, 1), np.random.default_rng(2).normal(size=30)
  expected, _ = scipy.sparse.linalg.cg(a, b, rtol=0, atol=0, maxiter=iterations)
  result = solve(a, b, iterations)
  assert result.iterations == iterations
  np.testing.assert_allclose(result.solution, expected, rtol=1e-9, atol=1e-12)
  np.testing.assert_allclose(
    result.residual_norm, np.linalg.norm(b - a @ expected), rtol=1e-6
  )


def test_zero_right_side_takes_no_iteration():
  result = solve(spd(3), np.zeros(3), 10)
  assert result.converged and result.iterations == 0
  np.testing.assert_array_equal(result.solution, 0)


def test_negative_curvature_keeps_the_iterate_before():
  result = solve(np.diag([1.0, -5.0]), [1.0, 0.1], 10)
  assert result.failed and not result.converged
  assert result.iterations == 2
  # One sound step along b: alpha = 1.01 / (1 - 0.05).
  np.testing.assert_allclose(
    result.solution, 1.01 / 0.95 * np.array([1, 0.1]), rtol=1e-14
  )


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_non_finite_product_fails_with_a_finite_solution(value):
  result = solve(np.diag([value, 1.0]), [1.0, 1.0], 10)
  assert result.failed and result.iterations == 1
  np.testing.assert_array_equal(result.solution, 0)


def test_singular_but_consistent_system_is_solved():
  result = solve(np.diag([2.0, 0.0]), [4.0, 0.0], 10)
  assert result.converged and result.iterations == 1
  np.testing.assert_allclose(result.solution, [2, 0], rtol=1e-15)
