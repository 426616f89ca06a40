"""Checks the state of an emulator, because ALE trusts what it loads.

ALE takes a number of bytes, a bank of the ROM or a sprite's position from a
state as it is, and would write or read past its arrays. A state is a header,
the console with its generator as text, the chips and the cartridge, and the
environment's generator as text before two integers. An emulator's own state
tells where the chips' fields lie, and this module says what they may be.
"""

import re

__all__ = ['check_state']

_NAMES = re.compile(
  rb'M6502Low|M6532|TIASound|TIA|Cartridge(?:2K|4K|F[68]SC|F[68E]|E0|DPC)'
)
# (chip, first integer behind its name, number of integers, least, most)
_RANGES = (
  (b'M6532', 0, 1, 128, 128),  # bytes of RAM
  (b'M6532', 130, 1, 0, 10),  # shift of the timer
  (b'TIA', 30, 5, 0, 15),  # motions
  (b'TIA', 41, 5, 0, 159),  # positions
  (b'TIA', 51, 1, 0, 3),
  (b'CartridgeF8', 0, 1, 0, 1),  # bank
  (b'CartridgeF6', 0, 1, 0, 3),
  (b'CartridgeF8SC', 0, 1, 0, 1),
  (b'CartridgeF8SC', 1, 1, 128, 128),
  (b'CartridgeF6SC', 0, 1, 0, 3),
  (b'CartridgeF6SC', 1, 1, 128, 128),
  (b'CartridgeE0', 0, 1, 4, 4),  # slices
  (b'CartridgeE0', 1, 4, 0, 7),
  (b'CartridgeDPC', 0, 1, 0, 1),
  *((b'CartridgeDPC', at, 1, 8, 8) for at in (1, 10, 19, 28)),
  (b'CartridgeDPC', 20, 8, 0, 2047),  # counters
  (b'CartridgeDPC', 37, 1, 3, 3),
)


def check_state(state: bytes, own: bytes, include_rng: bool) -> None:
  """Refuses a state that could lead the emulator out of its memory.

  Args:
    state: a serialised ALEState.
    own: one that an emulator of the same ROM made.
    include_rng: whether both hold the environment's random generator.

  Raises:
    ValueError: the state is damaged or forged.
  """
  chips, own_chips = (_chips(part, include_rng) for part in (state, own))
  same = _integer(state, 24) == len(state) - 36 and state[28:74] == own[28:74]
  if not same or len(chips) != len(own_chips):
    raise ValueError('an emulator of another form')
  for found in _NAMES.finditer(own_chips):
    name, begin, end = found[0], found.start() - 4, found.end()
    if _integer(own_chips, begin) != len(name):
      continue  # by chance
    if chips[begin:end] != own_chips[begin:end]:
      raise ValueError(f'an emulator without {name.decode()}')
    for chip, first, count, least, most in _RANGES:
      for at in range(first, first + count if chip == name else first):
        if not least <= _integer(chips, end + 4 * at) <= most:
          raise ValueError(f'an emulator with a wrong {name.decode()}')


def _integer(data: bytes, at: int) -> int:
  return int.from_bytes(data[at : at + 4], 'little')


def _chips(state: bytes, include_rng: bool) -> bytes:
  """Checks the generators; returns what is between them."""
  end = 82 + _integer(state, 78)
  _check_generator(state[82:end])
  if not include_rng:
    return state[end:]
  chips = state[end:-8].rstrip(b' 0123456789')
  words = state[end + len(chips) : -8]
  _check_generator(words)
  if _integer(chips, len(chips) - 4) != len(words):
    raise ValueError('an emulator without a generator')
  return chips[:-4]


def _check_generator(text: bytes) -> None:
  foreign = text.translate(None, b' 0123456789') or b'  ' in text
  place = text[text.rfind(b' ') + 1 :]
  if foreign or text.count(b' ') != 624 or int(place or b'625') > 624:
    raise ValueError('an emulator without a generator')
