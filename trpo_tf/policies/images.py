"""The networks of frames and of images, from the settings."""

from trpo_tf.config import PolicyConfig
from trpo_tf.errors import UserError
from trpo_tf.policies.conv import ConvNet
from trpo_tf.tasks.images import Images

__all__ = ['conv_net', 'image_net']


def conv_net(
  settings: PolicyConfig, shape: tuple[int, int, int], output_size: int
) -> ConvNet:
  """Makes the convolutional network of section 8.2.

  Args:
    settings: the convolutions' filters and the hidden layers.
    shape: height, width and channels of an observation.
    output_size: width M of an output.

  Raises:
    UserError: the convolutions leave nothing of an observation.
  """
  return ConvNet(
    shape,
    settings.conv_filters,
    settings.hidden_sizes,
    output_size,
    settings.activation,
  )


def image_net(
  settings: PolicyConfig, task: str, images: Images, output_size: int
) -> ConvNet:
  """Makes the network of an environment's images.

  Args:
    settings: the convolutions' filters and the hidden layers.
    task: the task's id, for the error message.
    images: form of the observations.
    output_size: width M of an output.

  Raises:
    UserError: the images are too small.
  """
  try:
    return conv_net(settings, images.shape, output_size)
  except UserError as error:
    raise UserError(
      f'--task={task}: {error}, or register the environment with a wrapper '
      'such as ResizeObservation or FlattenObservation (docs/tasks.md), or '
      'give --policy=module:function'
    ) from error
