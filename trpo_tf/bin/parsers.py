"""Parsers of flags whose values or errors absl does not write as we do."""

from typing import Any

from absl import flags as absl_flags

from trpo_tf.experiment import flagfiles

__all__ = ['BoolParser', 'IntTupleParser', 'Serializer', 'WholeParser']


class WholeParser(absl_flags.IntegerParser):
  """Parses 1000000, 1e6 and 1_000_000."""

  def convert(self, argument: Any) -> int:
    """Returns the number."""
    try:
      return int(argument)
    except ValueError:
      pass
    try:
      return _whole(float(argument))
    except ValueError:
      raise ValueError('write a whole number, as in 1000000 or 1e6') from None


def _whole(value: float) -> int:
  if not value.is_integer():
    raise ValueError(value)
  return int(value)


class BoolParser(absl_flags.BooleanParser):
  """Parses true and false, and says so in its error."""

  def parse(self, argument: Any) -> bool:
    """Returns the value."""
    try:
      return super().parse(argument)
    except (TypeError, ValueError):
      raise ValueError('write true or false') from None


class IntTupleParser(absl_flags.ArgumentParser):
  """Parses '64,64' into (64, 64) and '' into ()."""

  syntactic_help = 'integers with commas between; may be empty'

  def parse(self, argument: str | tuple[int, ...]) -> tuple[int, ...]:
    """Returns the integers."""
    if isinstance(argument, tuple):  # the default
      return argument
    try:
      return tuple(int(item) for item in argument.split(',') if argument)
    except ValueError:
      raise ValueError('write integers with commas, as in 64,64') from None

  def flag_type(self) -> str:
    """Names the type, for absl's help."""
    return 'integers'


class Serializer(absl_flags.ArgumentSerializer):
  """Writes (64, 64) as '64,64', and an integer as it is."""

  def serialize(self, value: int | tuple[int, ...]) -> str:
    """Returns the text that is parsed to the same value."""
    return flagfiles.flag_text(value)
