"""A field of a settings dataclass and the check of its range."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

_Value = TypeVar('_Value')
_MAX_ITEMS = 100  # layers of a network


def setting(
  default: _Value,
  help: str,
  *,
  low: float = -math.inf,
  high: float = math.inf,
  open_low: bool = False,
  choices: Sequence[str] = (),
) -> _Value:
  """Makes a dataclass field with its meaning and its range.

  Args:
    default: default value; its type is the type of the flag.
    help: one sentence, with the unit.
    low: smallest value allowed (of each element, for a tuple).
    high: largest value allowed.
    open_low: whether `low` itself is refused.
    choices: the strings allowed.

  Returns:
    The field; type checkers see a value of the type of `default`.
  """
  metadata = dict(
    help=help, low=low, high=high, open_low=open_low, choices=tuple(choices)
  )
  return dataclasses.field(default=default, metadata=metadata)


def _check_range(name: str, value: float, meta: Mapping[str, Any]) -> None:
  low, high = meta['low'], meta['high']
  above = value > low if meta['open_low'] else value >= low
  if above and value <= high and math.isfinite(value):
    return
  left = '(' if meta['open_low'] else '['
  ends = f'{_end(low)}, {_end(high)}'
  raise ValueError(f'--{name}={value} is outside {left}{ends}]')


def _end(value: float) -> str:
  short = f'{value:g}'
  return short if float(short) == value else f'{value}'


@dataclasses.dataclass(frozen=True)
class Config:
  """Base of the setting groups: checks every field's range."""

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value, meta = getattr(self, field.name), field.metadata
      if meta['choices'] and value not in meta['choices']:
        raise ValueError(
          f'--{field.name}={value}: choose one of {", ".join(meta["choices"])}'
        )
      if isinstance(value, tuple) and len(value) > _MAX_ITEMS:
        raise ValueError(
          f'--{field.name} has {len(value)} values: take at most {_MAX_ITEMS}'
        )
      for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, int | float) and not isinstance(item, bool):
          _check_range(field.name, item, meta)
