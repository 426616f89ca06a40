"""A simulator's complete state as a value that can be stored and sent."""

import dataclasses

from trpo_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Snapshot:
  """The state of an environment before an action; hashable and picklable.

  Unpickle snapshots from trusted processes only (docs/branching.md).

  All fields but `data` say what can restore it. Equal snapshots restore equal
  states.

  Attributes:
    kind: kind of simulator that made it and can restore it, such as 'native'
      or 'ale'.
    version: the simulator and its version, such as 'mujoco 4.0.0'.
    model: hash of what is simulated: model and task, or ROM and settings.
    data: the state.
  """

  kind: str
  version: str
  model: str
  data: bytes

  @property
  def size(self) -> int:
    """Bytes of the state."""
    return len(self.data)

  def check(
    self, kind: str, version: str, model: str, size: int | None = None
  ) -> None:
    """Refuses a snapshot that another simulator made.

    Args:
      kind: kind of the simulator that is about to restore it.
      version: version of that simulator.
      model: hash of what it simulates.
      size: bytes of a state of that simulator; None if any size will do.

    Raises:
      UserError: something differs; the message names it.
    """
    wanted: dict[str, str | int] = dict(kind=kind, version=version, model=model)
    if size is not None:
      wanted['size'] = size
    for name, expected in wanted.items():
      found = getattr(self, name)
      if found != expected:
        raise UserError(
          f'the snapshot has {name} {found}, this simulator has {expected}: '
          'take a new snapshot with the simulator that is to restore it'
        )
