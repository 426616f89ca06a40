"""--help of every program: an example first, then its flags by purpose."""

import os
import pathlib
import subprocess
import sys

import pytest

from trpo_tf import config

_ROOT = pathlib.Path(__file__).parents[2]
_PROGRAMS = sorted(
  path.stem
  for path in (_ROOT / 'trpo_tf/bin').glob('*.py')
  if '  flags.run(main' in path.read_text() and path.stem != 'flags'
)

# every program in one process, each with flags of its own
_HELP = """
import importlib, sys
from absl import flags as absl_flags
from trpo_tf.bin import flags, usage

for name in sys.argv[1:]:
  values = absl_flags.FLAGS
  before = set(values)
  module = importlib.import_module('trpo_tf.bin.' + name)
  own = set(values) - before
  try:
    flags.run(module.main, [name, '--help'])
  except SystemExit as end:
    grouped = usage.purposes(own)
    assert 'Others' not in grouped, grouped
    assert sorted(own) == sorted(sum(grouped.values(), []))
    print('\\nexit code', end.code)
  for flag in own | {'help'} & set(values):
    delattr(values, flag)
  print('----')
"""


def _python(*arguments):
  return subprocess.run(
    [sys.executable, *arguments],
    env=os.environ | {'PYTHONPATH': str(_ROOT)},
    capture_output=True,
    text=True,
  )


@pytest.fixture(scope='module')
def pages():
  done = _python('-c', _HELP, *_PROGRAMS)
  assert (done.returncode, done.stderr) == (0, '')
  pages = done.stdout.split('----\n')[:-1]
  return dict(zip(_PROGRAMS, pages, strict=True))


@pytest.mark.parametrize('name', _PROGRAMS)
def test_help(pages, name):
  page = pages[name]
  assert page.startswith(f'  python -m trpo_tf.bin.{name}')
  assert page.endswith('exit code 0\n')
  assert 'Flags of all programs:\n  --flagfile: ' in page
  assert max(map(len, page.splitlines())) <= 100


def test_help_of_train(pages):
  page = pages['train']
  titles = [line for line in page.splitlines() if line.endswith(':')]
  assert titles[:3] == [
    'What to start from:',
    'What to do:',
    'What to show:',
  ]
  assert 'The task to learn and its actions:' in titles
  for name in config.settings(config.ExperimentConfig()):
    assert page.count(f'--{name}:') + page.count(f'--[no]{name}:') == 1
  words = ' '.join(page.split())
  assert (
    ' --max_kl: bound delta on the mean KL divergence of a step, in nats [more '
    "than 0, at most 1000000.0] (default: '0.01') --" in words
  )


def test_help_as_users_ask_for_it():
  for flag in ('--help', '-?', '--helpshort'):
    done = _python('-m', 'trpo_tf.bin.plot', flag)
    assert (done.returncode, done.stderr) == (0, '')
    assert 'helpfull' not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == '  python -m trpo_tf.bin.plot RUN_DIRS... --out=FILE.png'
    assert 'What to show:' in lines


def test_a_reader_that_goes_away():
  command = f'{sys.executable} -m trpo_tf.bin.train --help | head -1'
  done = subprocess.run(command, shell=True, capture_output=True, cwd=_ROOT)
  assert done.stderr == b''
