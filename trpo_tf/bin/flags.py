"""Flags from the dataclasses of trpo_tf.config, and the start of every program.

A program defines its flags when it is imported and ends with

    if __name__ == '__main__':
      flags.run(main)
"""

import contextlib
import dataclasses
import errno
import faulthandler
import functools
import glob
import logging
import math
import os
import pathlib
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from absl import app
from absl import flags as absl_flags

from trpo_tf import config, errors
from trpo_tf.bin import parsers, usage
from trpo_tf.experiment import presets, quiet

__all__ = [
  'EXIT_USER_ERROR',
  'TRUST_HELP',
  'as_user_errors',
  'define',
  'define_presets',
  'expand',
  'experiment_config',
  'import_tensorflow',
  'parse',
  'run',
]

EXIT_USER_ERROR = 2
TRUST_HELP = (
  'let the Python code run that run.json names as the task or the policy (a '
  'file or a module), though it is not known that you made the run here: see '
  'SECURITY.md'
)
_EXIT_INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C
_PRESET = re.compile('--?preset(?:=(.*))?')
_HOME = re.compile('(--?[^=]+=)?(~.*)', re.DOTALL)
_interrupted = threading.Event()  # whether Ctrl-C was pressed

# With MUJOCO_GL=egl, PyOpenGL says that its optional accelerator is missing.
logging.getLogger('OpenGL').setLevel(logging.WARNING)

# --help shows the flags of the program that called define().
absl_flags.disclaim_key_flags()


def import_tensorflow() -> None:
  """Imports TensorFlow without its messages, to compute on the CPU.

  A run with --device=gpu shows it a GPU later.
  """
  quiet.import_tensorflow()
  from trpo_tf.experiment import devices

  devices.hide_gpus()


def define(flag_values: absl_flags.FlagValues = absl_flags.FLAGS) -> None:
  """Defines one flag for each setting of an ExperimentConfig.

  Args:
    flag_values: the FlagValues that receive the flags.
  """
  for group in dataclasses.fields(config.ExperimentConfig):
    kind: Any = group.default_factory
    for field in dataclasses.fields(kind):
      _define_one(field, flag_values)


def define_presets() -> None:
  """Defines --preset, which `run` replaces by the flags of the presets."""
  absl_flags.DEFINE_list(
    'preset',
    [],
    'settings to start from, such as v5/hopper: flagfiles of configs/, which '
    'are installed with the program; later presets override earlier ones, and '
    'all other flags override presets',
  )


def _define_one(
  field: dataclasses.Field, flag_values: absl_flags.FlagValues
) -> None:
  name, default, meta = field.name, field.default, field.metadata
  text = meta['help'] + _range_text(meta)
  if meta['choices']:
    absl_flags.DEFINE_enum(
      name, default, list(meta['choices']), text, flag_values=flag_values
    )
  elif isinstance(default, bool):
    absl_flags.DEFINE_bool(name, default, text, flag_values=flag_values)
    flag_values[name].parser = parsers.BoolParser()
  elif isinstance(default, int):
    _define_parsed(parsers.WholeParser(), field, text, flag_values)
  elif isinstance(default, tuple):
    _define_parsed(parsers.IntTupleParser(), field, text, flag_values)
  else:
    kind = {
      float: absl_flags.DEFINE_float,
      str: absl_flags.DEFINE_string,
    }[type(default)]
    kind(name, default, text, flag_values=flag_values)


def _define_parsed(
  parser: absl_flags.ArgumentParser,
  field: dataclasses.Field,
  text: str,
  flag_values: absl_flags.FlagValues,
) -> None:
  serializer = parsers.Serializer()
  absl_flags.DEFINE(
    parser, field.name, field.default, text, flag_values, serializer
  )


def _range_text(meta: Mapping[str, Any]) -> str:
  """Describes the range of a setting; '' if it has none."""
  low, high = meta['low'], meta['high']
  more = 'more than' if meta['open_low'] else 'at least'
  parts = []
  if math.isfinite(low):
    parts.append(f'{more} {low}')
  if math.isfinite(high):
    parts.append(f'at most {high}')
  return f' [{", ".join(parts)}]' if parts else ''


def experiment_config(
  flag_values: absl_flags.FlagValues = absl_flags.FLAGS,
) -> config.ExperimentConfig:
  """Builds the settings of an experiment from the parsed flags.

  Args:
    flag_values: the flags, defined by `define` and parsed.

  Returns:
    The settings.

  Raises:
    UserError: a value out of range, or values that contradict each other.
  """
  names = config.settings(config.ExperimentConfig())
  with as_user_errors():
    return config.from_settings(
      {name: flag_values[name].value for name in names}
    )


def parse(arguments: Sequence[str]) -> config.ExperimentConfig:
  """Parses arguments of the train binary into settings.

  Raises:
    UserError: an unknown flag, a value out of range, values that contradict
      each other, or an argument that is not a flag.
  """
  values = absl_flags.FlagValues()
  define(values)
  try:
    rest = values(_with_presets(['train', *arguments], values))[1:]
  except (absl_flags.Error, UnicodeDecodeError) as error:
    raise errors.UserError(_one_line(error)) from error
  if rest:
    raise errors.UserError(f'{rest[0]!r} is not a flag: write --NAME=VALUE')
  return experiment_config(values)


def _with_presets(
  argv: Sequence[str], flag_values: absl_flags.FlagValues
) -> list[str]:
  """Replaces --preset by the preset's flags, which go before all others.

  So all other flags override them. Flagfiles may name presets too.
  """
  names, others = [], []
  arguments = iter(flag_values.read_flags_from_files(list(argv[1:])))
  for argument in arguments:
    found = _PRESET.fullmatch(argument)
    if found is None:
      others.append(argument)
    elif found[1] is None:  # the value is the next argument
      names.append(next(arguments, ''))
    else:
      names.append(found[1])
  return [argv[0], *presets.arguments(','.join(names)), *others]


@contextlib.contextmanager
def as_user_errors() -> Iterator[None]:
  """Turns the ValueErrors of a block that takes user input into UserErrors.

  Use it where the things that flags name are built (a task, an environment),
  but not around the training itself, where a ValueError is a bug and keeps its
  traceback.
  """
  try:
    yield
  except ValueError as error:
    raise errors.UserError(_one_line(error)) from error


def expand(patterns: Sequence[str]) -> list[str]:
  """Lists the directories that match patterns such as 'runs/*', each once."""
  paths = []
  for pattern in patterns:
    # The name of a directory may contain brackets and not match itself.
    found = [] if os.path.isdir(pattern) else glob.glob(pattern)
    matches = sorted(filter(os.path.isdir, found)) or [pattern]
    paths += [str(pathlib.Path(match)) for match in matches]
  return list(dict.fromkeys(paths))


def run(
  main: Callable[[list[str]], int | None],
  argv: list[str] | None = None,
  *,
  takes_arguments: bool = False,
) -> NoReturn:
  """Parses the flags, runs a program and exits.

  Exit codes: what `main` returns (None is 0); 2 after a UserError or an error
  of the flags or of the operating system (a full disk, no permission), which is
  reported in one line on stderr, with a traceback only under --verbosity=1; 130
  after Ctrl-C.

  Args:
    main: the program, called with the arguments that are not flags.
    argv: the command line; None: sys.argv.
    takes_arguments: whether there may be arguments that are not flags.
  """
  signal.signal(signal.SIGINT, _interrupt)
  # An environment's native code may end the process; this shows where.
  faulthandler.enable(2)
  usage.define(main)
  program = functools.partial(_guarded, main, takes_arguments)
  app.run(program, argv=argv, flags_parser=_parse)
  raise AssertionError('app.run returned')


def _parse(argv: Sequence[str]) -> list[str]:
  flag_values = absl_flags.FLAGS
  argv = [argv[0], *map(_at_home, argv[1:])]
  try:
    if 'preset' in flag_values:
      argv = _with_presets(argv, flag_values)
    rest = flag_values(argv)
  except (absl_flags.Error, UnicodeDecodeError, errors.UserError) as error:
    sys.exit(_report(f'{_one_line(error)} (--help lists the flags)'))
  # else absl shows TensorFlow's messages of how it writes a SavedModel
  flag_values['verbosity'].using_default_value = False
  return rest


def _at_home(argument: str) -> str:
  """Replaces the ~ of --FLAG=~/PATH or '~/PATTERN', which a shell leaves."""
  found = _HOME.fullmatch(argument)
  if found is None:
    return argument
  return (found[1] or '') + os.path.expanduser(found[2])


def _guarded(
  main: Callable[[list[str]], int | None],
  takes_arguments: bool,
  argv: list[str],
) -> int | None:
  try:
    if argv[1:] and not takes_arguments:
      raise errors.UserError(f'{argv[1]!r} is not a flag: write --NAME=VALUE')
    return main(argv[1:])
  except (KeyboardInterrupt, Exception) as error:
    # an import that is interrupted may fail with an error of its own
    if _interrupted.is_set() or isinstance(error, KeyboardInterrupt):
      _report('interrupted')
      return _EXIT_INTERRUPTED
    if isinstance(error, errors.UserError):
      return _report(_one_line(error))
    if isinstance(error, OSError):
      return _report(_os_error(error))
    raise


def _interrupt(number, frame) -> NoReturn:
  del number, frame
  _interrupted.set()
  raise KeyboardInterrupt


def _one_line(error: Exception) -> str:
  return ' '.join(str(error).split())


def _os_error(error: OSError) -> str:
  text = error.strerror or _one_line(error)
  if error.filename is not None:
    text = f'{error.filename}: {text}'
  if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
    text += '. Free some space or raise the limit, and give the same command '
    text += 'again: what was saved before is intact'
  return text


def _report(message: str) -> int:
  """Prints an error, with the traceback under --verbosity=1."""
  flag_values = absl_flags.FLAGS
  if flag_values.is_parsed() and flag_values.verbosity >= 1:
    traceback.print_exc()
  name = os.path.basename(sys.argv[0]).removesuffix('.py')
  print(f'{name}: {message}', file=sys.stderr)
  return EXIT_USER_ERROR
