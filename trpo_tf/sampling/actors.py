"""Policies in NumPy, for samplers that act for a few rows at a time.

A call of a compiled TensorFlow function takes about 40 times as long (eight
rows, 64-64). Apart from TensorFlow and C++, only this module has log densities.
"""

from typing import Protocol

import numpy as np

__all__ = [
  'Actor',
  'CategoricalActor',
  'GaussianActor',
  'gaussian_log_normalizer',
]


class Actor(Protocol):
  """Draws actions from a policy, given the outputs of its network."""

  def draw(
    self, rng: np.random.Generator, shape: tuple[int, ...]
  ) -> np.ndarray:
    """Draws the noise, float64 [*shape], that `act` turns into actions.

    Args:
      rng: source of the noise.
      shape: shape of the noise.
    """

  def act(self, outputs: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
    """Chooses actions.

    Args:
      outputs: float32 [S, M] of the network.
      noise: float64 [S, A] from `draw`; None: act by the mean or the likeliest
        choice.

    Returns:
      Actions [S, A].
    """

  def log_prob(self, outputs: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Computes the log probabilities [...] of actions.

    Args:
      outputs: float32 [..., M] of the network.
      actions: [..., A].
    """

  def propose(
    self, outputs: np.ndarray, noise: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Chooses K actions in each of N states.

    Args:
      outputs: float32 [N, M] of the network.
      noise: float64 [N, K, A] from `draw`.

    Returns:
      Actions [N, K, A] and their log probabilities, float64 [N, K].
    """


def gaussian_log_normalizer(log_std: np.ndarray) -> np.ndarray:
  """Returns the log density [...] at the mean, for log_std float64 [..., A]."""
  size = log_std.shape[-1]
  return -log_std.sum(-1) - size * 0.5 * np.log(2 * np.pi)


class GaussianActor:
  """Actions of a GaussianPolicy, in float64."""

  @staticmethod
  def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draws standard normals; see Actor."""
    return rng.standard_normal(shape)

  def __init__(self, log_std: np.ndarray):
    """Takes log standard deviations [A], or [S, A] with one row per state."""
    self._log_std = log_std.astype(np.float64)
    self._deviation = np.exp(self._log_std)
    self._constant = self._log_std + 0.5 * np.log(2 * np.pi)

  def act(self, means: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
    """Adds scaled noise [..., A] to means [..., A]; see Actor."""
    means = means.astype(np.float64)
    return means if noise is None else means + self._deviation * noise

  def log_prob(self, means: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Computes the log density [...] at actions [..., A]; see Actor.

    If log_std is [S, A], its rows belong to the first axis of the actions.
    """
    shape = self._deviation.shape
    if len(shape) > 1:
      shape = (shape[0], *[1] * (actions.ndim - 2), shape[1])
    z = (actions - means) / self._deviation.reshape(shape)
    return -(0.5 * z * z + self._constant.reshape(shape)).sum(-1)

  def propose(
    self, means: np.ndarray, noise: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Chooses K actions in each of N states; see Actor."""
    log_q = -(0.5 * noise * noise + self._constant).sum(-1)
    return self.act(means[:, np.newaxis], noise), log_q


class CategoricalActor:
  """Actions of a CategoricalPolicy: int32, computed in float64."""

  @staticmethod
  def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draws uniforms; see Actor."""
    return rng.random(shape)

  def __init__(self, factors: tuple[int, ...]):
    """Takes the number of choices of each factor."""
    ends = np.cumsum(factors)
    self._slices = [slice(e - n, e) for e, n in zip(ends, factors, strict=True)]

  def act(self, logits: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
    """Inverts the CDF at uniforms [S, A]; see Actor."""
    if noise is None:
      choices = [logits[:, part].argmax(1) for part in self._slices]
      return np.stack(choices, 1).astype(np.int32)
    actions = np.empty(noise.shape, np.int32)
    for i, part in enumerate(self._slices):
      z = logits[:, part].astype(np.float64)
      cdf = np.exp(z - z.max(1, keepdims=True)).cumsum(1)
      # without the last, so that a product rounded up to the sum stays in range
      below = cdf[:, :-1] <= noise[:, i, None] * cdf[:, -1:]
      actions[:, i] = below.sum(1)
    return actions

  def log_prob(self, logits: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Computes the log probability [...] of actions [..., A]; see Actor."""
    total = np.zeros(actions.shape[:-1])
    for i, part in enumerate(self._slices):
      z = logits[..., part].astype(np.float64)
      z -= z.max(-1, keepdims=True)
      chosen = np.take_along_axis(z, actions[..., i, None], -1)[..., 0]
      total += chosen - np.log(np.exp(z).sum(-1))
    return total

  def propose(
    self, logits: np.ndarray, noise: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Chooses K actions in each of N states; see Actor."""
    rows = np.repeat(logits, noise.shape[1], axis=0)
    choices = self.act(rows, noise.reshape(-1, noise.shape[2]))
    log_q = self.log_prob(rows, choices)
    return choices.reshape(noise.shape), log_q.reshape(noise.shape[:2])
