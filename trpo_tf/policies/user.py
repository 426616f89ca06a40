"""The network of --policy, which a function of the user's own makes."""

import contextlib
import functools
import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from trpo_tf.errors import UserError, cause
from trpo_tf.policies import graphs
from trpo_tf.policies.protocols import Network
from trpo_tf.tasks import code

__all__ = ['load']

# what code that takes any Network reads of it
_MEMBERS = tuple(name for name in vars(Network) if not name.startswith('_'))


def load(
  name: str, observation_size: int, output_size: int, seed: int
) -> Network:
  """Makes the network that a function of the user's own returns.

  Args:
    name: my_module:make_network or path/to/file.py:make_network; the function
      maps (observation_size, output_size) to a Network.
    observation_size: width O of an observation.
    output_size: width M of an output.
    seed: seed of the global generators while the function runs, from which a
      Keras model, for example, draws its weights.

  Returns:
    The network; the same one for the same arguments, as long as the file is the
    same. The generators of Python and NumPy go on as if nothing had been drawn.

  Raises:
    UserError: there is no such function, or it raised an exception or returned
      something else.
  """
  path = code.file_of(name)
  place = os.path.abspath(path) if path else ''
  file = place, code.content(name)
  return _load(name, file, (observation_size, output_size), seed)


@functools.lru_cache(maxsize=8)
def _load(
  name: str, file: tuple[str, str | None], sizes: tuple[int, int], seed: int
) -> Network:
  """Makes the network; `file` tells apart what a name has meant so far."""
  flag, make = f'--policy={name}', _function(name)
  try:
    with _seeded(seed):
      network = make(*sizes)
    fault = _fault(network, *sizes)
  except KeyboardInterrupt:
    raise
  except UserError as error:
    raise UserError(f'{flag}: {error}') from error
  except BaseException as error:  # the user's code may raise anything
    raise UserError(f'{flag} failed: {cause(error)}') from error
  if fault:
    raise UserError(
      f'{flag} returned {type(network).__name__}, {fault}: return a Network '
      f'from {sizes[0]} inputs to {sizes[1]} outputs, for example a '
      'trpo_tf.FunctionNetwork (docs/python.md)'
    )
  return network


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
  """Seeds the global generators, and then gives the caller's states back.

  TensorFlow cannot say the state of its own, so that one stays seeded.
  """
  states = random.getstate(), np.random.get_state()
  tf.keras.utils.set_random_seed(seed % 2**32)
  try:
    yield
  finally:
    random.setstate(states[0])
    np.random.set_state(states[1])


def _function(name: str) -> Any:
  """Finds the function that a name says."""
  flag, (place, _, attribute) = f'--policy={name}', name.rpartition(':')
  if not (place and attribute):
    raise UserError(
      f'{flag}: write my_module:make_network or path/to/file.py:make_network'
    )
  path = code.file_of(name)
  names = (
    code.run_file(flag, path) if path else vars(code.import_module(flag, place))
  )
  if not callable(names.get(attribute)):
    raise UserError(f'{flag}: {place} has no function called {attribute!r}')
  return names[attribute]


def _fault(network: Any, observation_size: int, output_size: int) -> str:
  """Returns why an object cannot be the policy's network; '' if it can."""
  lacking = [name for name in _MEMBERS if not hasattr(network, name)]
  if lacking:
    return f'which has no {lacking[0]}'
  sizes = network.input_size, network.output_size
  if sizes != (observation_size, output_size):
    return f'from {sizes[0]} inputs to {sizes[1]} outputs'
  hash(network)  # graphs are kept by network
  theta, again = (_initial_parameters(network, seed) for seed in (0, 1))
  if not np.array_equal(theta, again, equal_nan=True):
    return 'whose initial_parameters draws from other generators than its rng'
  if np.shape(theta) != (network.num_parameters,):
    return (
      f'whose {network.num_parameters} parameters begin as an array of shape '
      f'{np.shape(theta)}'
    )
  if not np.isfinite(theta).all():
    return 'whose parameters are not finite'
  rng = np.random.default_rng(0)
  x = tf.constant(rng.standard_normal((2, observation_size)), tf.float32)
  theta = tf.constant(theta, tf.float32)
  outputs = network.outputs(theta, x)
  if outputs.shape != (2, output_size) or outputs.dtype != tf.float32:
    return (
      f'whose outputs for 2 states are {outputs.dtype.name} of shape '
      f'{tuple(outputs.shape)}'
    )
  if not np.isfinite(outputs).all():
    return 'whose outputs are not finite'
  alone = network.outputs(theta, x[:1])
  if not np.allclose(alone, outputs[:1], rtol=1e-3, atol=1e-3):
    return 'whose outputs for a state depend on other states'
  if any(product is None for product in _differentiate(network)(theta, x)):
    return 'whose outputs have no derivative with respect to its parameters'
  return ''


def _initial_parameters(network: Network, global_seed: int) -> np.ndarray:
  with _seeded(global_seed):
    return network.initial_parameters(np.random.default_rng(0), 1.0)


def _differentiate(network: Network) -> Any:
  """Compiles products with the Jacobian, as an update does."""
  theta = tf.TensorSpec([network.num_parameters], tf.float32)

  def products(theta, x):
    at = network.linearize(theta, x)
    return at.jvp(theta), at.vjp(at.outputs)

  signature = [theta, network.input_spec]
  return graphs.compiled(products, input_signature=signature)
