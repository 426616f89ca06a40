"""The bytes of a MuJoCo model by which it is recognised."""

from collections.abc import Iterator

import mujoco
import numpy as np
from mujoco.introspect import structs

__all__ = ['field_names', 'model_image']


def field_names(struct: str, *, arrays: bool) -> list[str]:
  """Returns the names of a struct's arrays, or of its numbers.

  Args:
    struct: name of the C struct, such as mjModel.
    arrays: whether to return those of the arrays.
  """
  fields = structs.STRUCTS[struct].fields
  kind = 'inner_type' if arrays else 'name'
  return [f.name for f in fields if hasattr(f.type, kind)]


_NUMBERS = [
  name
  for name in field_names('mjModel', arrays=False)
  if name.startswith(('n', 'flg_')) and name not in ('nbuffer', 'npaths')
]
_ARRAYS = [
  name
  for name in field_names('mjModel', arrays=True)
  if name not in ('buffer', 'paths') and not name.endswith('_pathadr')
]
_PARTS = {'opt': 'mjOption', 'stat': 'mjStatistic'}


def model_image(model: mujoco.MjModel) -> bytes:
  """Returns bytes that differ between models that simulate differently.

  The bytes of a binary model file hold the paths of the files of meshes,
  height fields and textures as they were written. These are left out, so that
  an equal model in another directory has the same bytes.

  Args:
    model: the model.
  """
  if model.npaths > 1:
    return b'\0'.join(_pieces(model))
  image = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
  mujoco.mj_saveModel(model, None, image)
  return image.tobytes()


def _pieces(model: mujoco.MjModel) -> Iterator[bytes]:
  yield repr([getattr(model, name) for name in _NUMBERS]).encode()
  for part, struct in _PARTS.items():
    values = getattr(model, part)
    numbers = field_names(struct, arrays=False)
    yield repr([getattr(values, name) for name in numbers]).encode()
    for name in field_names(struct, arrays=True):
      yield np.asarray(getattr(values, name)).tobytes()
  for name in _ARRAYS:
    yield np.asarray(getattr(model, name)).tobytes()
