"""Loads the MuJoCo model of a task."""

import logging
import os

import mujoco

from trpo_tf.errors import UserError

__all__ = ['load_model']


def load_model(path: str | os.PathLike) -> mujoco.MjModel:
  """Loads an MJCF file, with MuJoCo's reset after a divergence disabled.

  Args:
    path: path of the file.

  Raises:
    UserError: the file cannot be read, or the model has no actuators.
  """
  path = os.fspath(path)
  if not os.path.isfile(path):
    raise UserError(f'{path}: no such MJCF file')
  warned: list[str] = []
  handler = mujoco.get_mju_user_warning()
  # MuJoCo's own handler would write MUJOCO_LOG.TXT in the working directory.
  mujoco.set_mju_user_warning(warned.append)
  try:
    model = mujoco.MjModel.from_xml_path(path)
  except ValueError as error:
    raise UserError(f'{path}: {" ".join(str(error).split())}') from error
  finally:
    mujoco.set_mju_user_warning(handler)
  for text in warned:
    logging.debug('%s: %s', path, text)
  if not model.nu:
    raise UserError(f'{path}: the model has no actuators to act with')
  # With it, a diverged simulation would silently restart from its first state.
  model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
  return model
