"""Files of frames: MP4 and GIF."""

import contextlib
from typing import Any

import imageio

__all__ = ['writer']


def writer(
  path: str, fps: float
) -> contextlib.AbstractContextManager[Any, bool | None]:
  """Opens a video for writing; its `append_data` takes one frame.

  Args:
    path: .mp4, or .gif, which repeats for ever.
    fps: frames per second.

  Returns:
    A context manager, whose end completes the file. Frames are uint8
    [height, width, 3], of even height and width.
  """
  if path.endswith('.gif'):
    return imageio.get_writer(path, duration=1000 / fps, loop=0)
  # by default sizes are stretched to multiples of 16 for the codec
  return imageio.get_writer(path, fps=fps, macro_block_size=2)
