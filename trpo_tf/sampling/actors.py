"""A policy in NumPy, for samplers that act for a few rows at a time.

A call of a compiled TensorFlow function takes some 40 times as long (eight
rows, 64-64).
"""

from collections.abc import Callable

import numpy as np

from trpo_tf.policies.mlp import MLP

__all__ = [
  'CategoricalActor',
  'GaussianActor',
  'NumpyActor',
  'network_function',
]


class GaussianActor:
  """Actions of a GaussianPolicy; all float64."""

  draw = staticmethod(np.random.Generator.standard_normal)

  def __init__(self, log_std: np.ndarray):
    self._log_std = log_std.astype(np.float64)
    self._deviation = np.exp(self._log_std)

  def act(self, means: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
    """Means [S, A] plus scaled normal noise [S, A]; without, the means."""
    means = means.astype(np.float64)
    return means if noise is None else means + self._deviation * noise

  def log_prob(self, means: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Log density [...] at actions [..., A]."""
    z = (actions - means) / self._deviation
    constant = self._log_std + 0.5 * np.log(2 * np.pi)
    return -(0.5 * z * z + constant).sum(-1)


class CategoricalActor:
  """Actions of a CategoricalPolicy; int32, computed in float64."""

  draw = staticmethod(np.random.Generator.random)

  def __init__(self, factors: tuple[int, ...]):
    ends = np.cumsum(factors)
    self._slices = [slice(e - n, e) for e, n in zip(ends, factors, strict=True)]

  def act(self, logits: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
    """Inverse CDF of uniforms [S, A]; without, the likeliest choice."""
    if noise is None:
      choices = [logits[:, part].argmax(1) for part in self._slices]
      return np.stack(choices, 1).astype(np.int32)
    actions = np.empty(noise.shape, np.int32)
    for i, part in enumerate(self._slices):
      z = logits[:, part].astype(np.float64)
      cdf = np.exp(z - z.max(1, keepdims=True)).cumsum(1)
      # all but the last: a product that rounds up to the sum stays in range
      below = cdf[:, :-1] <= noise[:, i, None] * cdf[:, -1:]
      actions[:, i] = below.sum(1)
    return actions

  def log_prob(self, logits: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Log probability [...] of actions [..., A]."""
    total = np.zeros(actions.shape[:-1])
    for i, part in enumerate(self._slices):
      z = logits[..., part].astype(np.float64)
      z -= z.max(-1, keepdims=True)
      chosen = np.take_along_axis(z, actions[..., i, None], -1)[..., 0]
      total += chosen - np.log(np.exp(z).sum(-1))
    return total


NumpyActor = GaussianActor | CategoricalActor

_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  'tanh': np.tanh,
  'softplus': lambda x: np.logaddexp(x, 0),
}


def network_function(
  network: MLP, theta: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
  """The network at theta as a function of float32 [S, O], in NumPy.

  The outputs of a row are the same bits whatever the other rows are.
  """
  activation = _ACTIVATIONS[network.activation]
  shapes = network.layer_shapes
  starts = np.cumsum([a * b for a, b in shapes])[:-1]
  parts = np.split(theta[: network.num_parameters], starts)
  *hidden, last = (p.reshape(s) for p, s in zip(parts, shapes, strict=True))

  def outputs(x):
    # rows multiplied one by one: a product of matrices sums in an order that
    # depends on their number
    x = x[:, None]
    for layer in hidden:
      x = activation(x @ layer[:-1] + layer[-1])
    return (x @ last[:-1] + last[-1])[:, 0]

  return outputs
