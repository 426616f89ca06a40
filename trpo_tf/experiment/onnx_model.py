"""Builds a trained policy as a model of ONNX, without TensorFlow's graph.

A policy is a dozen operations, so they are written down here. A converter of
graphs would be a second package to keep, and would have to follow TensorFlow.
"""

import math
from typing import Any

import numpy as np

from trpo_tf import extras
from trpo_tf.experiment.export import Interface
from trpo_tf.experiment.trained import TrainedPolicy
from trpo_tf.policies.categorical import CategoricalPolicy
from trpo_tf.policies.conv import ConvNet
from trpo_tf.policies.layers import STRIDE
from trpo_tf.policies.mlp import MLP
from trpo_tf.tasks.images import Images

onnx = extras.optional('onnx', 'onnx')

__all__ = ['build']

_OPSET, _IR_VERSION = 17, 8  # what ONNX Runtime reads since 2022
_ACTIVATIONS = {'tanh': 'Tanh', 'softplus': 'Softplus', 'relu': 'Relu'}


class _Graph:
  """The operations of a graph in order, and its constants."""

  def __init__(self):
    self.nodes: list[Any] = []
    self.constants: list[Any] = []

  def __call__(self, op: str, *inputs: Any, output: str = '', **attributes):
    """Adds an operation on values, named or constant; returns its output."""
    names = [x if isinstance(x, str) else self._constant(x) for x in inputs]
    output = output or f'{op}_{len(self.nodes)}'
    node = onnx.helper.make_node(op, names, [output], **attributes)
    self.nodes.append(node)
    return output

  def _constant(self, value: np.ndarray) -> str:
    name = f'constant_{len(self.constants)}'
    array = np.ascontiguousarray(value)
    self.constants.append(onnx.numpy_helper.from_array(array, name))
    return name


def build(policy: TrainedPolicy, face: Interface) -> Any:
  """Builds the model.

  Args:
    policy: the trained policy.
    face: what it takes and returns.

  Returns:
    An onnx.ModelProto from `observation` [N, ...] to `action` and `mean` and
    `standard_deviation`, or to `action` and `logits`, as in the SavedModel.

  Raises:
    UserError: the package onnx is not installed.
  """
  graph, shape = _Graph(), face.observation_shape
  discrete = isinstance(policy.policy, CategoricalPolicy)
  name = 'logits' if discrete else 'mean'
  outputs = _network(graph, policy, face.images, name)
  action = _choices(graph, policy, outputs) if discrete else outputs
  _send(graph, face, action)
  values = {name: (policy.policy.output_size,)}
  if not discrete:
    name = 'standard_deviation'
    spread = np.exp(policy.policy.log_std(policy.theta))
    graph('Expand', spread, graph('Shape', outputs), output=name)
    values[name] = values['mean']
  info = [_value('action', face.action_dtype, face.action_shape)]
  info += [_value(k, np.float32, size) for k, size in values.items()]
  return _model(
    onnx.helper.make_graph(
      graph.nodes,
      'policy',
      [_value('observation', face.observation_dtype, shape)],
      info,
      graph.constants,
    )
  )


def _model(graph: Any) -> Any:
  opset = onnx.helper.make_opsetid('', _OPSET)
  model = onnx.helper.make_model(
    graph,
    producer_name='trpo_tf',
    opset_imports=[opset],
    ir_version=_IR_VERSION,
  )
  onnx.checker.check_model(model, full_check=True)
  return model


def _type(dtype: Any) -> int:
  return onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _value(name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
  return onnx.helper.make_tensor_value_info(name, _type(dtype), ['N', *shape])


def _network(
  graph: _Graph, policy: TrainedPolicy, images: Images | None, name: str
) -> str:
  """Adds the network, with its normaliser, and calls its outputs `name`."""
  network, x = policy.network, 'observation'
  assert isinstance(network, MLP | ConvNet)
  shapes = network.layer_shapes
  theta = policy.policy.network_parameters(policy.theta)
  ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
  layers = [
    part.reshape(shape)
    for part, shape in zip(np.split(theta, ends), shapes, strict=True)
  ]
  activation = _ACTIVATIONS[network.activation]
  if isinstance(network, ConvNet):
    count = len(network.filters)
    assert images
    x = _convolutions(graph, images, layers[:count], activation)
    x = graph('Reshape', x, np.array([-1, network.head.input_size]))
    layers = layers[count:]
  elif policy.normalizer.enabled:
    clip = np.float32(policy.normalizer.clip)
    x = graph('Sub', x, policy.normalizer.mean32)
    x = graph('Mul', x, policy.normalizer.inv_std32)
    x = graph('Clip', x, np.array(-clip), np.array(clip))
  for layer in layers[:-1]:
    x = graph(activation, graph('Gemm', x, layer[:-1], layer[-1]))
  return graph('Gemm', x, layers[-1][:-1], layers[-1][-1], output=name)


def _convolutions(
  graph: _Graph, images: Images, layers: list[np.ndarray], activation: str
) -> str:
  """Adds the convolutions of frames or images; returns [N, H, W, C]."""
  x = graph('Cast', 'observation', to=_type(np.float32))
  x = graph('Div', x, np.array(255, np.float32))
  if len(images.own_shape) == 2:
    x = graph('Unsqueeze', x, np.array([1]))
  elif not images.channels_first:
    x = graph('Transpose', x, perm=[0, 3, 1, 2])
  channels = images.shape[2]
  for layer in layers:
    side = math.isqrt((len(layer) - 1) // channels)
    kernel = layer[:-1].reshape(side, side, channels, -1)
    kernel = kernel.transpose(3, 2, 0, 1)
    x = graph('Conv', x, kernel, layer[-1], strides=[STRIDE, STRIDE])
    x = graph(activation, x)
    channels = len(kernel)
  return graph('Transpose', x, perm=[0, 2, 3, 1])


def _choices(graph: _Graph, policy: TrainedPolicy, logits: str) -> str:
  """Adds the likeliest choice of each factor, int64 [N, F]."""
  assert isinstance(policy.policy, CategoricalPolicy)
  ends = np.cumsum(policy.policy.factor_sizes)
  found = []
  for end, size in zip(ends, policy.policy.factor_sizes, strict=True):
    begin, stop = np.array([end - size]), np.array([end])
    part = graph('Slice', logits, begin, stop, np.array([1]))
    found.append(graph('ArgMax', part, axis=1, keepdims=1))
  return graph('Concat', *found, axis=1)


def _send(graph: _Graph, face: Interface, x: str) -> None:
  """Adds the map from means or choices to `action`."""
  if face.codes is not None:
    graph('GatherND', face.codes, x, output='action')
    return
  assert face.controls is not None
  controls = face.controls
  wide = np.float64
  x = graph('Cast', x, to=_type(wide))
  x = graph('Mul', x, controls.scale.astype(wide))
  x = graph('Add', x, controls.offset.astype(wide))
  if controls.clip:
    x = graph('Max', x, controls.low.astype(wide))
    x = graph('Min', x, controls.high.astype(wide))
  x = graph('Cast', x, to=_type(face.action_dtype))
  shape = np.array([-1, *face.action_shape])
  graph('Reshape', x, shape, output='action')
