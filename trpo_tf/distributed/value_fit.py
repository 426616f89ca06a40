"""The value network's fit from gradients of shards.

Each shard's gradient is computed apart, so that it has the same bytes whatever
other shards its process has. A minibatch of one shard is small, and a call into
TensorFlow costs more than its gradient, so one call serves all shards of a
process, and the whole fit where one process has them all.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from trpo_tf.distributed import reduction
from trpo_tf.estimation.value_network import ValueNetwork, adam_step, padded
from trpo_tf.policies import graphs, mlp

__all__ = ['AdamState', 'Fit', 'FitData', 'by_rounds', 'make_fit']

# XLA compiles for one shape, and batches vary in size.
_ROWS, _STEPS = 4096, 512


class FitData(NamedTuple):
  """A shard's part of a fit.

  Attributes:
    divisor: float32 [], what the sum of a minibatch's gradients is divided by.
    rows: int32 [steps, n], rows of the shard in every minibatch.
    x: inputs of N steps.
    targets: float32 [N, 1], standardised.
  """

  divisor: Any
  rows: Any
  x: Any
  targets: Any


class AdamState(NamedTuple):
  """Parameters and Adam's moments, float32 [P] each."""

  theta: Any
  first_moment: Any
  second_moment: Any


class Fit(Protocol):
  """The fits of the shards in one process."""

  def begin(self, data: Sequence[FitData]) -> None:
    """Takes the data of a fit.

    Args:
      data: of each shard.
    """

  def gradients(self, theta: np.ndarray, step: int) -> np.ndarray:
    """Computes the gradients of a minibatch.

    Args:
      theta: float32 [P], the value network.
      step: number of the minibatch.

    Returns:
      float64 [shards, P].
    """


def make_fit(network: ValueNetwork, rate: float) -> Fit:
  """Makes the fit that is fastest for a network.

  Args:
    network: the value network.
    rate: Adam's learning rate.
  """
  if isinstance(network.network, mlp.MLP):
    return StackedFit(network, rate)
  return _SeparateFit(network)


class StackedFit:
  """The fit of an MLP, compiled by XLA over the steps of all shards."""

  def __init__(self, network: ValueNetwork, rate: float):
    """Compiles the fit.

    Args:
      network: the value network.
      rate: Adam's learning rate.
    """
    self._data: tuple[tf.Tensor, ...] = ()

    def gradients(theta, step, divisors, rows, x, targets):
      chosen = tf.gather(rows, step)

      def of_shard(i):
        found = network.gradient(
          theta, divisors[i], x, targets, tf.gather(chosen, i)
        )
        return tf.cast(found, tf.float64)

      spec = tf.TensorSpec(theta.shape, tf.float64)
      return tf.map_fn(
        of_shard, tf.range(divisors.shape[0]), fn_output_signature=spec
      )

    def whole(theta, first, second, done, steps, divisors, *data):
      S = divisors.shape[0]

      def iteration(i, theta, first, second):
        found = gradients(theta, i, divisors, *data)
        parts = {(s, s + 1): found[s] for s in range(S)}
        gradient = tf.cast(reduction.finished(S, parts), tf.float32)
        count = tf.cast(done + i + 1, tf.float32)
        return i + 1, *_isolated_adam(
          theta, first, second, gradient, count, rate
        )

      start = tf.constant(0), theta, first, second
      return tf.while_loop(lambda i, *_: i < steps, iteration, start)[1:]

    self._gradients = graphs.compiled(gradients, jit_compile=True)
    self._whole = graphs.compiled(whole, jit_compile=True)

  def begin(self, data: Sequence[FitData]) -> None:
    """Joins the steps of the shards; see Fit."""
    sizes = [len(part.targets) for part in data]
    firsts = np.cumsum([0, *sizes[:-1]], dtype=np.int32)
    rows = [part.rows + first for part, first in zip(data, firsts, strict=True)]
    columns = [
      _filled(np.concatenate([getattr(part, name) for part in data]), _ROWS)
      for name in ('x', 'targets')
    ]
    divisors = np.array([part.divisor for part in data])
    arrays = divisors, _filled(np.stack(rows, axis=1), _STEPS), *columns
    self._data = tuple(map(tf.constant, arrays))

  def gradients(self, theta: np.ndarray, step: int) -> np.ndarray:
    """Computes the gradients of a minibatch; see Fit."""
    found = self._gradients(tf.constant(theta), tf.constant(step), *self._data)
    return found.numpy()

  def whole(self, start: AdamState, done: int, steps: int) -> AdamState:
    """Takes all steps of Adam, if this process has all shards; see by_rounds.

    Args:
      start: the state before.
      done: number of steps before.
      steps: number of steps.
    """
    counts = tf.constant(done, tf.int32), tf.constant(steps, tf.int32)
    state = map(tf.constant, start)
    return AdamState(
      *(t.numpy() for t in self._whole(*state, *counts, *self._data))
    )


class _SeparateFit:
  """The fit of any network, in a graph that has a part for each shard."""

  def __init__(self, network: ValueNetwork):
    self._network = network
    self._compiled: dict[int, Callable[..., tf.Tensor]] = {}
    self._data: list[FitData] = []

  def begin(self, data: Sequence[FitData]) -> None:
    """Takes the data of a fit; see Fit."""
    self._data = tf.nest.map_structure(tf.convert_to_tensor, list(data))

  def gradients(self, theta: np.ndarray, step: int) -> np.ndarray:
    """Computes the gradients of a minibatch; see Fit."""
    count, flat = len(self._data), tf.nest.flatten(self._data)
    if count not in self._compiled:
      self._compiled[count] = self._compile(len(theta), flat)
    found = self._compiled[count](tf.constant(theta), tf.constant(step), *flat)
    return found.numpy()

  def _compile(
    self, size: int, flat: Sequence[tf.Tensor]
  ) -> Callable[..., tf.Tensor]:
    structure = self._data

    def gradients(theta, step, *tensors):
      found = [
        self._network.gradient(
          theta,
          part.divisor,
          part.x,
          part.targets,
          part.rows[step],
        )
        for part in tf.nest.pack_sequence_as(structure, list(tensors))
      ]
      return tf.cast(tf.stack(found), tf.float64)

    specs = [tf.TensorSpec([size]), tf.TensorSpec([], tf.int32)]
    specs += [graphs.any_batch(t) if t.shape.rank else _spec(t) for t in flat]
    compiled = graphs.compiled(gradients, input_signature=specs)
    return compiled.get_concrete_function()


def by_rounds(
  value_gradient: Callable[[np.ndarray, int], np.ndarray],
  start: AdamState,
  done: int,
  steps: int,
  rate: float,
) -> AdamState:
  """Takes steps of Adam, each with a round of gradients.

  Args:
    value_gradient: returns the gradient float64 [P] of a minibatch at theta,
      summed over the shards.
    start: the state before.
    done: number of steps before.
    steps: number of steps.
    rate: Adam's learning rate.

  Returns:
    The state afterwards, with the same bytes as from StackedFit.whole.
  """
  adam = _compiled_adam(rate)
  state = AdamState(*map(tf.constant, start))
  for i in range(steps):
    gradient = value_gradient(state.theta.numpy(), i).astype(np.float32)
    count = tf.constant(done + i + 1, tf.float32)
    state = AdamState(*adam(*state, tf.constant(gradient), count))
  return AdamState(*(t.numpy() for t in state))


@functools.cache
def _compiled_adam(rate: float) -> Callable[..., Any]:
  return graphs.compiled(
    functools.partial(_isolated_adam, rate=rate), jit_compile=True
  )


def _isolated_adam(theta, first, second, gradient, count, rate):
  """Takes a step that XLA does not fuse with what is around it.

  Fused arithmetic may round differently.
  """
  theta, first, second, gradient, count = xla.optimization_barrier(
    theta, first, second, gradient, count
  )
  found = adam_step(theta, first, second, gradient, count, rate)
  return xla.optimization_barrier(*found)


def _filled(array: np.ndarray, multiple: int) -> np.ndarray:
  return padded(array, -(-len(array) // multiple) * multiple)


def _spec(t: tf.Tensor) -> tf.TensorSpec:
  return tf.TensorSpec(t.shape, t.dtype)
