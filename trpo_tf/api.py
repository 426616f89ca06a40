"""The functions that only Python programs need; see trpo_tf.__all__."""

import contextlib
import dataclasses
import json
import logging
import numbers
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from trpo_tf import config as config_lib
from trpo_tf.bin import flags
from trpo_tf.config import ExperimentConfig, TrustRegionConfig
from trpo_tf.errors import UserError
from trpo_tf.estimation.surrogate import (
  Objective,
  PathData,
  WeightedPathData,
  importance_sampled,
)
from trpo_tf.experiment import devices, flagfiles, presets, recording
from trpo_tf.experiment.training import Iteration, Training
from trpo_tf.optim import blocks, fisher, trust_region
from trpo_tf.optim.step import Step
from trpo_tf.policies.categorical import CategoricalPolicy
from trpo_tf.policies.mlp import MLP
from trpo_tf.policies.protocols import Inputs, Policy
from trpo_tf.policies.stacks import FrameStacks

__all__ = ['fisher_vector_product', 'make_trust_region_step', 'train']

_LOG = logging.getLogger('trpo_tf')


def train(
  preset: str | Sequence[str] | ExperimentConfig = '', **overrides: Any
) -> Iterator[Iteration]:
  """Trains a policy, and yields each iteration: its state, record and batch.

  The numbers are those of the program train. Nothing is written unless run_dir
  is given. With it, the directory is that of the program: the same call, or the
  program, continues a run that was stopped. Close the iterator, or use all of
  it, to save the last state and to unlock the directory.

  Args:
    preset: names of presets such as 'v5/hopper', as a list or with commas
      between; or all settings.
    **overrides: settings by the names of train's flags.

  Returns:
    The iterator.

  Raises:
    UserError: a setting has a wrong name or value, or settings contradict each
      other; the task, the sampler or the method cannot be built. While it is
      iterated: run_dir cannot be used, or the task failed.
  """
  if isinstance(preset, ExperimentConfig):
    given = _arguments(config_lib.settings(preset))
  else:
    names = preset if isinstance(preset, str) else ','.join(preset)
    given = presets.arguments(names)
  config = flags.parse([*given, *_arguments(overrides)])
  if config.sampler.num_shards > 1:
    raise UserError(
      f'--num_shards={config.sampler.num_shards} is for the program train: '
      'leave num_shards out'
    )
  try:
    devices.configure_tensorflow(
      config.run.tf_threads, config.run.device, config.run.deterministic_gpu
    )
  except RuntimeError:  # TensorFlow has its threads already
    if config.run.device != 'cpu':
      raise UserError(
        f'--device={config.run.device}: TensorFlow runs already: call train '
        'first'
      ) from None
    if config.run.tf_threads:
      raise UserError(
        f'--tf_threads={config.run.tf_threads}: TensorFlow runs already, with '
        'other threads: call train first, or leave tf_threads out'
      ) from None
  for name in ('json_lines', 'wandb', 'mlflow'):
    if getattr(config.run, name) and not config.run.run_dir:
      raise UserError(f'--{name} is for a run with a directory: give run_dir')
  training = Training(config)
  if not config.run.run_dir:
    for message in training.backend.check():
      _LOG.warning(message)
    return _closing(training, training.iterations())
  return _closing(training, recording.iterations(training, _LOG.warning))


def _closing(
  training: Training, iterations: Iterator[Iteration]
) -> Iterator[Iteration]:
  """Yields the iterations, and stops at their end what the sampler started."""
  with contextlib.closing(training.sampler):
    yield from iterations


def _arguments(settings: dict[str, Any]) -> list[str]:
  """Returns settings as arguments of the program train."""
  arguments = []
  for name, value in settings.items():
    if isinstance(value, list):
      value = tuple(value)
    if value is None:
      raise UserError(f'--{name}=None: leave it out for its default')
    if isinstance(value, dict):
      value = _json(name, value)
    if isinstance(value, os.PathLike):
      value = os.fspath(value)
    if not isinstance(value, (str, tuple, numbers.Number, np.generic)):
      hint = ': register it with Gymnasium, and give its id' * (name == 'task')
      raise UserError(f'--{name} takes no {type(value).__name__}{hint}')
    arguments.append(f'--{name}={flagfiles.flag_text(value)}')
  return arguments


def _json(name: str, value: dict[str, Any]) -> str:
  try:
    return json.dumps(value)
  except (TypeError, ValueError) as error:
    raise UserError(f'--{name} cannot be written as JSON: {error}') from None


def make_trust_region_step(
  policy: Policy,
  objective: Objective = importance_sampled,
  num_states: int = 4096,
  **settings: Any,
) -> Step:
  """Compiles TRPO's step for a policy.

  Args:
    policy: a GaussianPolicy or CategoricalPolicy of any network, or your own
      Policy.
    objective: maps (distribution, data) to the terms [N] of the surrogate, to
      be maximised; by default that of equation 14 on PathData.
    num_states: about how many states a batch has.
    **settings: fields of config.TrustRegionConfig, such as max_kl.

  Returns:
    The step (theta, x, data, fisher_rows=None) -> StepResult: the new theta,
    its KL divergence and why the step was taken or refused. fisher_rows are the
    rows of x for the Fisher matrix, int [n]; None: all.

  Raises:
    UserError: there is no such setting, or it is out of range; when the step is
      called: theta, x or data have other shapes, or the objective does not
      return [N].
  """
  _check_step_settings(settings)
  config = flags.parse(_arguments(settings))
  if num_states < 1:
    raise UserError(f'num_states={num_states}: take at least 1')

  def checked(distribution, data):
    terms = tf.convert_to_tensor(objective(distribution, data))
    if terms.shape.rank != 1:
      raise UserError(
        f'the objective returned shape {tuple(terms.shape)} instead of [N]'
      )
    sizes = tf.size(terms), tf.shape(tf.nest.flatten(data)[0])[0]
    with tf.control_dependencies([tf.debugging.assert_equal(*sizes, _TERMS)]):
      return tf.identity(terms)

  compiled = trust_region.make_step(policy, checked, config, num_states)

  def step(theta, x, data, fisher_rows=None):
    data = tf.nest.map_structure(_float64, data)  # as the surrogate is
    theta, x = np.asarray(theta, np.float32), _states(policy, x)
    _check_shapes(policy, theta, x, data)
    if isinstance(data, PathData | WeightedPathData):
      given = data.actions
      data = tf.nest.map_structure(np.float64, data)
      if isinstance(policy, CategoricalPolicy):
        data = data._replace(actions=_choices(policy, given))
    try:
      return compiled(theta, x, data, fisher_rows)
    except tf.errors.InvalidArgumentError as error:
      if _TERMS not in error.message:
        raise
      raise UserError(_TERMS) from None

  return step


_TERMS = 'the objective returned other than one term for each state'


def _check_step_settings(settings: dict[str, Any]) -> None:
  """Raises UserError if TRPO's step alone would not use a setting."""
  names = {field.name for field in dataclasses.fields(TrustRegionConfig)}
  for name in settings.keys() - names:
    raise UserError(
      f'{name}: the step has the settings {", ".join(sorted(names))}'
    )
  if settings.get('fisher_fraction', 1) != 1:
    raise UserError(
      f'fisher_fraction={settings["fisher_fraction"]}: the step does not draw '
      'states: give it fisher_rows, the rows of x for the Fisher matrix'
    )


def _choices(policy: CategoricalPolicy, actions: np.ndarray) -> np.ndarray:
  """Returns actions [N, factors] in int32; raises UserError if unfit."""
  if actions.dtype.kind not in 'iu':
    raise UserError(f'actions are {actions.dtype}, not the numbers of choices')
  if ((actions < 0) | (actions >= policy.factor_sizes)).any():
    raise UserError(f'actions are outside of the choices {policy.factor_sizes}')
  return actions.astype(np.int32)


def _check_shapes(
  policy: Policy, theta: np.ndarray, x: Inputs, data: Any
) -> None:
  """Raises UserError if arrays would fail, or broadcast to other terms."""
  P, N = policy.num_parameters, _num_states(x)
  if theta.shape != (P,):
    raise UserError(f'theta has shape {theta.shape} instead of ({P},)')
  for value in tf.nest.flatten(data):
    if value.shape[:1] != (N,):
      raise UserError(f'data of shape {value.shape} for {N} states')
  wide = N, policy.observation_size
  if not isinstance(x, FrameStacks) and x.ndim == 2 and x.shape != wide:
    raise UserError(f'x has shape {tuple(x.shape)} instead of {wide}')
  if not isinstance(data, PathData | WeightedPathData):
    return
  A = policy.log_std(theta).size  # 0 for a policy that has no deviations
  if isinstance(policy, CategoricalPolicy):
    A = len(policy.factor_sizes)
  for name, value in data._asdict().items():
    wanted = (N, A or value.shape[-1]) if name == 'actions' else (N,)
    if value.shape != wanted:
      raise UserError(f'{name} have shape {value.shape} instead of {wanted}')


def _num_states(x: Inputs) -> int:
  return len(tf.nest.flatten(x)[-1])  # of FrameStacks, the rows


def _float32(x: Inputs) -> Inputs:
  """Returns inputs in float32, as networks take them; bytes stay bytes."""

  def cast(values: Any) -> Any:
    if isinstance(values, tf.Tensor):
      return tf.cast(values, tf.float32) if values.dtype.is_floating else values
    values = np.asarray(values)
    return values.astype(np.float32) if values.dtype.kind == 'f' else values

  return tf.nest.map_structure(cast, x)


def _states(policy: Policy, x: Any) -> Inputs:
  """Returns inputs as the policy's network takes them."""
  network = getattr(policy, 'network', None)
  if isinstance(network, MLP):
    return np.asarray(x, np.float32)
  return _float32(np.asarray(x) if isinstance(x, list) else x)


def _float64(values: Any) -> np.ndarray:
  """Returns floating-point numbers in float64, and others as they are."""
  values = np.asarray(values)
  return values.astype(np.float64) if values.dtype.kind == 'f' else values


def fisher_vector_product(
  policy: Policy, theta: np.ndarray, x: Inputs
) -> Callable[[tf.Tensor], tf.Tensor]:
  """Prepares products with the Fisher matrix, averaged over states.

  Args:
    policy: the policy.
    theta: float32 [P], its parameters.
    x: inputs of N states.

  Returns:
    A function that maps v [P] to the product, float64 [P].
  """
  parts = np.asarray(theta, np.float32), _states(policy, x)
  theta, x = tf.nest.map_structure(tf.convert_to_tensor, parts)
  num_blocks = blocks.num_blocks(_num_states(x))
  linearized = fisher.linearize(policy, theta, x, num_blocks)

  def product(v: tf.Tensor) -> tf.Tensor:
    return fisher.product(policy, linearized, tf.cast(v, tf.float64))

  return product
