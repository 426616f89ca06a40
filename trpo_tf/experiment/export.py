"""Exports trained policies: a SavedModel, and a description of it.

What is written needs TensorFlow alone: the observation normaliser and the map
from the policy's choice to what the environment receives are parts of it.
"""

import json
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from trpo_tf.experiment import backend as backend_lib
from trpo_tf.experiment.trained import TrainedPolicy
from trpo_tf.policies import graphs
from trpo_tf.policies.categorical import CategoricalPolicy
from trpo_tf.policies.conv import ConvNet
from trpo_tf.policies.normalizer import Normalizer
from trpo_tf.tasks.actions import Controls
from trpo_tf.tasks.atari import STACK
from trpo_tf.tasks.images import Images

__all__ = ['Interface', 'description', 'interface', 'saved_model', 'write']


class Interface(NamedTuple):
  """What an exported policy takes and returns.

  Attributes:
    observation_shape: of one observation: (O,), (4, H, W) for frames, or an
      image's own.
    observation_dtype: 'float32', or 'uint8' for frames and images.
    action_shape: of one action, as the environment takes it.
    action_dtype: type of an action.
    controls: the map from means or choices to the action; None: `codes` is.
    codes: the action of each combination of choices, if there is a table.
    images: form of frames or images; None for vectors.
  """

  observation_shape: tuple[int, ...]
  observation_dtype: str
  action_shape: tuple[int, ...]
  action_dtype: np.dtype
  controls: Controls | None = None
  codes: np.ndarray | None = None
  images: Images | None = None


def interface(policy: TrainedPolicy) -> Interface:
  """Finds out what a policy takes and returns once it is exported."""
  task, backend = policy.config.task, policy.backend
  if isinstance(backend, backend_lib.Atari):
    game = backend.game
    frames, codes = (STACK, *game.frame_shape), game.codes
    return Interface(
      frames, 'uint8', (), codes.dtype, codes=codes, images=Images(frames)
    )
  shape = (policy.policy.observation_size,)
  if isinstance(backend, backend_lib.Native):
    _, controls = backend.task.actions(task.action_range, task.clip_actions)
    width = (backend.task.action_size,)
    return Interface(shape, 'float32', width, np.dtype(np.float64), controls)
  spaces = backend.spaces
  _, controls = spaces.actions(task.task, task.action_range, task.clip_actions)
  sent, dtype = spaces.action_shape, np.dtype(spaces.action_space.dtype)
  if images := spaces.images:
    own = images.own_shape
    return Interface(own, 'uint8', sent, dtype, controls, images=images)
  return Interface(shape, 'float32', sent, dtype, controls)


def saved_model(policy: TrainedPolicy) -> tuple[tf.Module, dict[str, Any]]:
  """Builds the policy as a module whose parameters are constants.

  Args:
    policy: the trained policy.

  Returns:
    The module, and its signatures by name: `act` maps `observation` [N, ...] to
    `action` [N, ...], the mean or likeliest one; `distribution` maps it to
    `mean` and `standard_deviation`, float32 [N, A], or to `logits`, float32
    [N, M]. Both are those of the policy's own actions, before they are mapped
    and clipped.
  """
  face = interface(policy)
  spec = tf.TensorSpec(
    [None, *face.observation_shape], face.observation_dtype, 'observation'
  )

  def act(observation):
    outputs = _outputs(face, policy, observation)
    return {'action': _sent(face, policy, outputs)}

  def distribution(observation):
    outputs = _outputs(face, policy, observation)
    if isinstance(policy.policy, CategoricalPolicy):
      return {'logits': outputs}
    deviation = np.exp(policy.policy.log_std(policy.theta))
    spread = tf.broadcast_to(deviation, tf.shape(outputs))
    return {'mean': outputs, 'standard_deviation': spread}

  module = tf.Module()
  signatures = {}
  functions: tuple[Callable, ...] = act, distribution
  for function in functions:
    name = function.__name__
    signatures[name] = graphs.compiled(function, input_signature=[spec])
    setattr(module, name, signatures[name])
  return module, signatures


def _normalized(normalizer: Normalizer, observation: tf.Tensor) -> tf.Tensor:
  if not normalizer.enabled:
    return observation
  z = (observation - normalizer.mean32) * normalizer.inv_std32
  return tf.clip_by_value(z, -normalizer.clip, normalizer.clip)


def _pixels(images: Images, observation: tf.Tensor) -> tf.Tensor:
  """Puts the channels last, uint8 [N, H, W, C]."""
  if len(images.own_shape) == 2:
    return observation[..., tf.newaxis]
  if images.channels_first:
    return tf.transpose(observation, [0, 2, 3, 1])
  return observation


def _outputs(
  face: Interface, policy: TrainedPolicy, observation: tf.Tensor
) -> tf.Tensor:
  """Returns the network's outputs [N, M] for raw observations [N, ...]."""
  network, theta = policy.network, tf.constant(policy.theta)
  if isinstance(network, ConvNet):
    assert face.images
    parameters = policy.policy.network_parameters(theta)
    pixels = _pixels(face.images, observation)
    return network.pixel_outputs(parameters, pixels)
  return policy.policy.outputs(
    theta, _normalized(policy.normalizer, observation)
  )


def _sent(
  face: Interface, policy: TrainedPolicy, outputs: tf.Tensor
) -> tf.Tensor:
  """Maps the network's outputs [N, M] to what the environment receives."""
  actions = outputs
  if isinstance(policy.policy, CategoricalPolicy):
    parts = tf.split(outputs, policy.policy.factor_sizes, axis=1)
    choices = [tf.argmax(part, axis=1) for part in parts]
    actions = tf.stack(choices, axis=1)
  if face.codes is not None:
    return tf.gather_nd(face.codes, actions)
  controls = face.controls
  assert controls is not None
  actions = tf.cast(actions, tf.float64)
  actions = controls.offset.astype(np.float64) + controls.scale * actions
  if controls.clip:
    actions = tf.clip_by_value(actions, controls.low, controls.high)
  return tf.reshape(
    tf.cast(actions, face.action_dtype), [-1, *face.action_shape]
  )


def description(policy: TrainedPolicy) -> dict[str, Any]:
  """Describes an exported policy, for export.json."""
  face = interface(policy)
  distribution, choices = 'mean and standard_deviation', tuple[int, ...]()
  if isinstance(policy.policy, CategoricalPolicy):
    distribution, choices = 'logits', policy.policy.factor_sizes
  assert policy.checkpoint is not None
  return dict(
    task=policy.task,
    env_steps=policy.env_steps,
    checkpoint=policy.checkpoint.name,
    observation=dict(
      shape=face.observation_shape, dtype=face.observation_dtype
    ),
    action=dict(shape=face.action_shape, dtype=str(face.action_dtype)),
    distribution=distribution,
    choices=choices,
  )


def write(policy: TrainedPolicy, out: pathlib.Path, onnx: bool) -> None:
  """Writes an exported policy; it is there as a whole or not at all.

  Args:
    policy: the trained policy.
    out: the directory to make, which must not exist.
    onnx: whether to write policy.onnx too, which needs the package onnx.

  Raises:
    OSError: it cannot be written.
  """
  out = out.absolute()
  out.parent.mkdir(parents=True, exist_ok=True)
  module, signatures = saved_model(policy)
  with tempfile.TemporaryDirectory(
    prefix=f'.{out.name}.', dir=out.parent
  ) as folder:
    new = pathlib.Path(folder) / 'export'
    tf.saved_model.save(module, str(new / 'saved_model'), signatures)
    if onnx:
      from trpo_tf.experiment import onnx_model

      model = onnx_model.build(policy, interface(policy))
      (new / 'policy.onnx').write_bytes(model.SerializeToString())
    text = json.dumps(description(policy), indent=2)
    (new / 'export.json').write_text(text + '\n')
    os.rename(new, out)
