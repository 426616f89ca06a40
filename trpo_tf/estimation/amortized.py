"""An action-dependent advantage, learned from pairs of branches.

A_phi(s, a) = g(s)^T z + q(s)^T (z^2 - 1) / sqrt(2), z = (a - mean(s)) / std.

Under the policy its expectation is 0 in every state, whatever g and q are. Its
subtraction from the later terms of GAE therefore changes no expected gradient
as long as phi comes from earlier batches. It is fitted to differences of the
lambda-returns of branches from one state, whose later noise is the same.
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg

from trpo_tf import blas
from trpo_tf.errors import UserError
from trpo_tf.estimation.every_step import Partners, PartnerSums
from trpo_tf.policies.gaussian import GaussianPolicy
from trpo_tf.policies.protocols import Policy

__all__ = ['FEATURES', 'PAIRS', 'Amortized', 'basis', 'check', 'initial']

PAIRS = 2000  # newest differences that phi is fitted to
FEATURES = 64  # random ones, besides the inputs
# Differences have heavy tails: a branch that falls loses the rest of the return
_CLIP = 3.0  # root mean squares of the differences
_RIDGE = 1.0  # multiple of the mean squared length of a row of the regression


def basis(noise: np.ndarray) -> np.ndarray:
  """Computes functions of an action that have mean 0 and variance 1.

  Args:
    noise: float64 [..., A], deviations of actions from the policy's mean, in
      standard deviations.

  Returns:
    float64 [..., 2A].
  """
  return np.concatenate([noise, (noise**2 - 1) / np.sqrt(2)], axis=-1)


class Amortized(NamedTuple):
  """A_phi, and the pairs of the last batches that phi is fitted to.

  g(s) and q(s) are linear in 1, the inputs and F random features of them,
  tanh(inputs W + b). Ridge regression on these explains more of the
  differences than a network fitted by Adam, as the pairs are few.

  Attributes:
    layer: float32 [O + 1, F], W and b.
    phi: float64 [1 + O + F, 2A], in units of return.
    inputs: float32 [P, O], of the states of P differences, the newest last.
    contrasts: float32 [P, 2A], differences of the basis.
    differences: float64 [P], of returns; rows of zeros come before the first.
    products: running sum of differences times predictions by earlier batches.
    squares: running sum of these predictions squared.
  """

  layer: np.ndarray
  phi: np.ndarray
  inputs: np.ndarray
  contrasts: np.ndarray
  differences: np.ndarray
  products: float
  squares: float

  @property
  def coefficient(self) -> float:
    """The factor of A_phi that explains most of what phi was not fitted to."""
    return Partners(self.products, self.squares).coefficient

  @blas.one_thread
  def values(self, x: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Computes A_phi, times the coefficient.

    Args:
      x: float32 [N, O], inputs of N states.
      noise: float64 [N, A], see `basis`.

    Returns:
      float64 [N], in units of return; 0 before the third batch.
    """
    return self.coefficient * (self._slopes(x) * basis(noise)).sum(axis=1)

  @blas.one_thread
  def updated(
    self, x: np.ndarray, noise: np.ndarray, returns: np.ndarray
  ) -> 'Amortized':
    """Adds a batch's pairs and fits phi to the newest ones.

    The coefficient is measured on the pairs before phi sees them.

    Args:
      x: float32 [N, O], inputs of the states that branches start from.
      noise: float64 [N, K, A], of their first actions, see `basis`.
      returns: float64 [N, K], of the first actions, but for a constant in each
        state.

    Returns:
      The new A_phi; the old one if the batch has no pairs.
    """
    if not returns.size or returns.shape[1] < 2:
      return self
    # K - 1 independent differences of the K actions of a state
    helmert = scipy.linalg.helmert(returns.shape[1])
    contrasts = np.concatenate(helmert @ basis(noise)).astype(np.float32)
    found = np.concatenate(returns @ helmert.T)
    x = np.repeat(x, len(helmert), axis=0)
    predicted = (self._slopes(x) * contrasts).sum(axis=1)
    state = self._replace(
      inputs=np.concatenate([self.inputs, x])[-PAIRS:],
      contrasts=np.concatenate([self.contrasts, contrasts])[-PAIRS:],
      differences=np.concatenate([self.differences, found])[-PAIRS:],
    )
    clipped = np.clip(found, -state._limit, state._limit)
    before = Partners(self.products, self.squares)
    measured = before.updated(PartnerSums.of(clipped, predicted))
    return state._replace(phi=state._fitted(), **measured._asdict())

  @property
  def _rows(self) -> np.ndarray:
    """Which of the P differences there are, bool [P]."""
    return np.count_nonzero(self.contrasts, axis=1) > 0

  @property
  def _limit(self) -> float:
    """The bound that differences are clipped to."""
    return _CLIP * float(np.sqrt(np.mean(self.differences[self._rows] ** 2)))

  def _features(self, x: np.ndarray) -> np.ndarray:
    hidden = np.tanh(x @ self.layer[:-1] + self.layer[-1])
    return np.concatenate([np.ones_like(x[:, :1]), x, hidden], axis=1)

  def _slopes(self, x: np.ndarray) -> np.ndarray:
    """Returns g and q, float64 [N, 2A]."""
    return self._features(x) @ self.phi

  def _fitted(self) -> np.ndarray:
    """Solves the ridge regression in its dual form: one unknown a difference.

    Its matrix does not grow with the number of observations and actions.
    """
    rows, limit = self._rows, self._limit
    features = self._features(self.inputs[rows]).astype(np.float64)
    contrasts = self.contrasts[rows].astype(np.float64)
    kernel = (features @ features.T) * (contrasts @ contrasts.T)
    kernel[np.diag_indices_from(kernel)] += _RIDGE * kernel.diagonal().mean()
    targets = np.clip(self.differences[rows], -limit, limit)
    weights = scipy.linalg.solve(kernel, targets, assume_a='pos')
    return features.T @ (weights[:, np.newaxis] * contrasts)


def check(policy: Policy) -> None:
  """Raises UserError if A_phi cannot describe the policy's actions."""
  if not isinstance(policy, GaussianPolicy):
    raise UserError(
      '--amortized_advantage needs continuous actions of a Gaussian policy: '
      'leave it out'
    )


def initial(policy: Policy, rng: np.random.Generator) -> Amortized:
  """Returns A_phi = 0, without pairs.

  Args:
    policy: the policy, with O inputs and A actions.
    rng: source of the random features.
  """
  observation_size, action_size = policy.observation_size, policy.output_size
  weights = rng.normal(size=(observation_size + 1, FEATURES))
  weights[:-1] /= np.sqrt(observation_size)
  width = 1 + observation_size + FEATURES
  return Amortized(
    weights.astype(np.float32),
    np.zeros((width, 2 * action_size)),
    np.zeros((PAIRS, observation_size), np.float32),
    np.zeros((PAIRS, 2 * action_size), np.float32),
    np.zeros(PAIRS),
    0.0,
    0.0,
  )
