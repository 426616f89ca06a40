"""Networks of the user: any differentiable function, or a Keras model."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from trpo_tf.errors import UserError
from trpo_tf.policies import graphs
from trpo_tf.policies.linearization import Linearization, linearize_autodiff
from trpo_tf.policies.mlp import MLP
from trpo_tf.policies.protocols import Network

__all__ = ['FunctionNetwork', 'KerasNetwork', 'numpy_function']


def numpy_function(
  network: Network, theta: np.ndarray
) -> Callable[[Any], np.ndarray]:
  """Makes a NumPy function of a network.

  Args:
    network: the network.
    theta: float32 [D] parameters.

  Returns:
    A function that maps inputs of S states to outputs float32 [S, M].
  """
  if isinstance(network, MLP):
    return network.numpy_function(theta)
  outputs, parameters = _compiled(network), tf.constant(theta)

  def function(x: Any) -> np.ndarray:
    return outputs(parameters, tf.nest.map_structure(tf.constant, x)).numpy()

  return function


@functools.lru_cache(maxsize=8)
def _compiled(network: Network) -> Callable[[tf.Tensor, Any], tf.Tensor]:
  signature = [tf.TensorSpec([network.num_parameters]), network.input_spec]
  return graphs.compiled(network.outputs, input_signature=signature)


@dataclasses.dataclass(frozen=True, eq=False)
class FunctionNetwork:
  """A differentiable function as the network of a policy.

  Products with its Jacobian come from automatic differentiation.

  Attributes:
    function: maps (theta [D], x of N states) to outputs [N, M], in TensorFlow
      operations; all of them float32.
    initial: float32 [D], the parameters to begin with.
    output_size: width M of an output.
    input_size: width O of an observation.
  """

  function: Callable[[tf.Tensor, Any], tf.Tensor]
  initial: np.ndarray
  output_size: int
  input_size: int

  @property
  def num_parameters(self) -> int:
    """Number D of parameters."""
    return self.initial.size

  @property
  def activation_size(self) -> int:
    """Width of an output, as the values before it are not known."""
    return self.output_size

  @property
  def layer_shapes(self) -> tuple[tuple[int, int], ...]:
    """Returns (), as the layers are not known."""
    return ()

  @property
  def input_spec(self) -> tf.TensorSpec:
    """Specification of float32 inputs [N, O]."""
    return tf.TensorSpec([None, self.input_size], tf.float32)

  def initial_parameters(
    self, rng: np.random.Generator, output_scale: float
  ) -> np.ndarray:
    """Returns `initial`, float32 [D].

    Args:
      rng: not used.
      output_scale: not used.
    """
    del rng, output_scale
    return np.asarray(self.initial, np.float32)

  def with_layers(
    self, hidden_sizes: tuple[int, ...], output_size: int, activation: str
  ) -> MLP:
    """Returns an MLP with the same inputs; see Network."""
    return MLP(self.input_size, hidden_sizes, output_size, activation)

  def outputs(self, theta: tf.Tensor, x: Any) -> tf.Tensor:
    """Runs the function; see Network.

    Raises:
      UserError: its outputs are not [N, M].
    """
    found = self.function(theta, x)
    if not found.shape.is_compatible_with([None, self.output_size]):
      raise UserError(
        f'the function returned shape {tuple(found.shape)} instead of '
        f'[N, {self.output_size}]'
      )
    return found

  def linearize(
    self, theta: tf.Tensor, x: Any, keep: bool = True
  ) -> Linearization:
    """Runs the function and differentiates it; see Network."""
    del keep
    return linearize_autodiff(self.outputs, theta, x)


class KerasNetwork(FunctionNetwork):
  """A Keras model of vectors; theta holds its trainable variables in order.

  The model itself changes only by `assign`. Its other variables, such as the
  means of a batch normalisation, stay as they are.

  Attributes:
    model: the model.
  """

  model: Any

  def __init__(self, model: Any):
    """Takes a keras.Model that was built, with inputs [N, O], outputs [N, M].

    Args:
      model: the model.

    Raises:
      UserError: the model has no trainable variables.
    """
    variables = model.trainable_variables
    if not variables:
      raise UserError(
        'the Keras model has no trainable variables: begin a Sequential model '
        'with tf.keras.Input, so that it is built'
      )
    shapes = [tuple(variable.shape) for variable in variables]
    sizes = [math.prod(shape) for shape in shapes]

    def function(theta: tf.Tensor, x: Any) -> tf.Tensor:
      parts = zip(tf.split(theta, sizes), shapes, strict=True)
      return model.stateless_call(
        [tf.reshape(part, shape) for part, shape in parts],
        model.non_trainable_variables,
        x,
      )[0]

    values = [np.ravel(variable.numpy()) for variable in variables]
    super().__init__(
      function,
      np.concatenate(values).astype(np.float32),
      output_size=model.output_shape[-1],
      input_size=model.input_shape[-1],
    )
    object.__setattr__(self, 'model', model)

  def assign(self, parameters: np.ndarray) -> None:
    """Sets the model's trainable variables to parameters [D]."""
    variables = self.model.trainable_variables
    ends = itertools.accumulate(math.prod(v.shape) for v in variables)
    parts = np.split(parameters, list(ends)[:-1])
    for variable, part in zip(variables, parts, strict=True):
      variable.assign(np.reshape(part, variable.shape))
