"""The cursors in MuJoCo's history of delayed actuators and sensors.

The history of one is [user slot, cursor, times, values]. MuJoCo uses the cursor
as an index and does not check it, so a forged one would write elsewhere.
"""

import mujoco
import numpy as np

__all__ = ['Cursors']

_BEFORE = mujoco.mjtState.mjSTATE_HISTORY - 1  # parts of a state before it
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


class Cursors:
  """The cursors of a model's history."""

  def __init__(self, model: mujoco.MjModel):
    """Finds them.

    Args:
      model: the model.
    """
    addresses = np.append(model.actuator_historyadr, model.sensor_historyadr)
    samples = np.append(
      model.actuator_history[:, 0], model.sensor_history[:, 0]
    )
    used = addresses >= 0
    self._places, self._samples = addresses[used] + 1, samples[used]
    self._offset = mujoco.mj_stateSize(model, int(_STATE) & int(_BEFORE))

  def valid(self, history: np.ndarray) -> np.ndarray:
    """Returns whether every cursor is the number of a sample, bool [...].

    Args:
      history: float64 [..., H], as in mjData.
    """
    found = history[..., self._places]
    right = (found >= 0) & (found < self._samples) & (found == np.trunc(found))
    return right.all(axis=-1)

  def valid_states(self, states: np.ndarray) -> np.ndarray:
    """Returns the same for integration states, [..., D], and what follows."""
    return self.valid(states[..., self._offset :])
