"""--help of the programs: an example, what they do, and their flags by purpose.

The docstring of a program begins with a summary and an example.
"""

import dataclasses
import signal
import sys
import textwrap
from collections.abc import Callable
from typing import Any

from absl import app
from absl import flags as absl_flags

from trpo_tf import config

__all__ = ['define', 'purposes']

# The flags of every program but the settings of a training run.
_PURPOSES = {
  'What to start from': (
    *('preset', 'run_dir', 'checkpoint', 'trust_task', 'task'),
  ),
  'What to do': (
    *('list_presets', 'dry_run', 'episodes', 'table', 'budget', 'tasks'),
    *('methods', 'seeds', 'report_only', 'parts', 'iterations', 'delta'),
    *('starts', 'seed', 'states', 'actions', 'trials', 'horizon', 'grid'),
  ),
  'What to show': ('sampled', 'x', 'y', 'group', 'smooth', 'progress'),
  'What to write': (
    *('out', 'out_dir', 'json', 'onnx', 'as_run', 'video', 'publish'),
    'figures',
  ),
  'How precisely to measure': (
    *(
      'pairs',
      'variance_states',
      'noise_sequences',
      'steps',
      'large_steps',
      'batches',
    ),
    'reference_steps',
  ),
  'Where and on how many cores to run': (
    *('jobs', 'sampler_threads', 'env_workers', 'threads', 'workers'),
    *('ray_address', 'ray_workers'),
  ),
}
_COMMON = """\
Flags of all programs:
  --flagfile: file with one flag on each line
  --verbosity: 1 shows the traceback of an error
  --help: show this help"""


class _HelpFlag(absl_flags.BooleanFlag):
  """A flag that prints the help and ends the program with exit code 0."""

  def __init__(self, name: str, short_name: str | None, page: Callable):
    super().__init__(
      name, False, 'show this help', short_name, allow_override=True
    )
    self._page = page

  def parse(self, argument: Any) -> None:
    if self._parse(argument):
      signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as in --help | head
      print(self._page())
      sys.exit(0)


def define(main: Callable) -> None:
  """Defines --help of a program in place of absl's.

  Args:
    main: the program's main function.
  """
  app.define_help_flags()
  for name, short_name in (('help', '?'), ('helpshort', None)):
    flag = _HelpFlag(name, short_name, lambda: _page(main))
    absl_flags.DEFINE_flag(flag)


def purposes(names: set[str]) -> dict[str, list[str]]:
  """Orders the flags of a program by their purpose.

  Args:
    names: names of the flags.

  Returns:
    Names by purpose.
  """
  found = {}
  if names >= config.settings(config.ExperimentConfig()).keys():
    for group in dataclasses.fields(config.ExperimentConfig):
      kind: Any = group.default_factory
      title = kind.__doc__.partition('\n')[0].rstrip('.')
      found[title] = [field.name for field in dataclasses.fields(kind)]
  done = {name for group in found.values() for name in group}
  others = {
    purpose: [n for n in known if n in names - done]
    for purpose, known in _PURPOSES.items()
  }
  found = others | found
  known = {name for group in found.values() for name in group}
  found['Others'] = sorted(names - known)
  return {title: group for title, group in found.items() if group}


def _page(main: Callable) -> str:
  """Writes the help of a program."""
  module = main.__module__
  doc = sys.modules[module].__doc__ or ''
  about = textwrap.dedent(doc).strip().split('\n\n')
  if len(about) > 1:
    summary, example = about[:2]
    about[:2] = textwrap.indent(textwrap.dedent(example), '  '), summary
  flag_values = absl_flags.FLAGS
  # absl calls the main module by the program's path
  key = sys.argv[0] if module == '__main__' else module
  flags = {f.name: f for f in flag_values.get_key_flags_for_module(key)}
  groups = [
    f'{title}:\n' + '\n'.join(_text(flags[name]) for name in names)
    for title, names in purposes(set(flags)).items()
  ]
  return '\n\n'.join([*about, *groups, _COMMON])


def _text(flag: absl_flags.Flag) -> str:
  """Writes a flag's meaning and default."""
  prefix = '--[no]' if flag.boolean else '--'
  text = textwrap.fill(
    f'{prefix}{flag.name}: {flag.help}',
    80,
    initial_indent='  ',
    subsequent_indent='      ',
    break_on_hyphens=False,
    break_long_words=False,
  )
  if flag.default_as_str:
    text += f'\n      (default: {flag.default_as_str})'
  return text
