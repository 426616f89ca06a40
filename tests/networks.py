"""A float64 network, with a bound on what the same network in float32 errs."""

import itertools

import numpy as np

_UNIT = 2.0**-24  # relative rounding error of float32
# tanh in float32 is good to a few units in the last place wherever it is
# vectorised; this many roundings of 1 allow for it
_ACTIVATION_ROUNDINGS = 16


def outputs(
  theta: np.ndarray, sizes: tuple[int, ...], x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """The outputs of a tanh network and their error bound.

  The bound is the running error analysis of the float32 pass: a sum of n + 1
  terms in any order errs by at most n + 1 roundings of the sum of its absolute
  terms, tanh hands on its argument's error at most.

  Args:
    theta: [P]: W1 [in, out] row-major, b1, W2, b2, ...; more may follow.
    sizes: in, hidden..., out.
    x: float32 [N, in].

  Returns:
    Outputs and bounds, float64 [N, out] each.
  """
  theta, h = theta.astype(np.float64), x.astype(np.float64)
  bound, used = np.zeros_like(h), 0
  for layer, (a, b) in enumerate(itertools.pairwise(sizes)):
    weights = theta[used : used + a * b].reshape(a, b)
    biases = theta[used + a * b : used + (a + 1) * b]
    used += (a + 1) * b
    absolute = (np.abs(h) + bound) @ np.abs(weights) + np.abs(biases)
    bound = bound @ np.abs(weights) + (a + 2) * _UNIT * absolute
    h = h @ weights + biases
    if layer < len(sizes) - 2:
      h, bound = np.tanh(h), bound + _ACTIVATION_ROUNDINGS * _UNIT
  return h, bound


def normalized(normalizer, observations: np.ndarray) -> np.ndarray:
  """What the network sees of raw observations, float32 of their shape."""
  variance = normalizer.m2 / max(float(normalizer.count), 1) + 1e-8
  if not normalizer.count:
    variance = np.ones_like(normalizer.mean)
  scale = (1 / np.sqrt(variance)).astype(np.float32)
  centered = observations.astype(np.float32) - normalizer.mean.astype(
    np.float32
  )
  bound = np.float32(normalizer.clip)
  return np.clip(centered * scale, -bound, bound)
