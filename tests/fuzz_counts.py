"""The seeds of the tests with the marker fuzz, and counts of their calls."""

import json
import pathlib
from typing import NamedTuple

_SUITE = 100_000  # the tests without the marker draw by seeds below


class Fuzz(NamedTuple):
  """What a test draws by, and where it counts.

  Attributes:
    seed: the seed of the session.
    path: JSON file of the counts; None: they are printed only.
  """

  seed: int
  path: pathlib.Path | None

  def seeds(self, part: int, size: int) -> range:
    """Returns seeds that no other session draws by, nor the suite.

    Args:
      part: number of the part of a test.
      size: number of seeds in a part; all parts have up to 100,000.
    """
    first = _SUITE * (1 + self.seed) + part * size
    return range(first, first + size)

  def count(
    self, kind: str, draw: str, calls: int, refused: int, findings: int
  ) -> None:
    """Adds calls to the file, once however often they are repeated.

    Args:
      kind: what was called, with what.
      draw: names what was drawn, with its seed.
      calls: number of calls.
      refused: how many of them were refused as they should be.
      findings: how many ended otherwise than they should.
    """
    counts = dict(calls=calls, refused=refused, findings=findings)
    print(kind, draw, counts)
    if self.path is None:
      return
    found = json.loads(self.path.read_text()) if self.path.exists() else {}
    found.setdefault(kind, {})[draw] = counts
    self.path.write_text(json.dumps(found, indent=2) + '\n')
