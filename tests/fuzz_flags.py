"""Draws command lines of one program and runs each in a process of its own.

  python tests/fuzz_flags.py PROGRAM SEED COUNT FOLDER

The program is imported once. Each command line runs in a fork of that process,
so it costs milliseconds unless it trains. The last line of the output is a JSON
list of findings: calls that ended in a traceback, in no answer within a minute,
in exit code 0 despite a wrong value, in other than one line about a mistake, or
in a change of a file that was there before.
"""

import hashlib
import importlib
import json
import logging
import os
import pathlib
import random
import signal
import sys
import time
from typing import Any, NamedTuple

from absl import flags as absl_flags

LIMIT = 60  # seconds until a call with a mistake counts as hanging
_TRAINING = 300  # seconds that a call without one may take
TRAINS = ('train', 'evaluate')  # they import TensorFlow
# Without a mistake these would measure or train for minutes.
_ALWAYS_WRONG = ('reproduce', 'sweep', 'bench', 'bench_vine', 'theory')
_TAKE_ARGUMENTS = ('compare', 'plot', 'table')
_MEMORY = 2 * 10**9  # what the machine is said to have

_TINY = (
  '--task=InvertedPendulum-v5 --batch_steps=40 --num_slots=4 '
  '--hidden_sizes=3 --value_hidden_sizes= --value_epochs=1 --noprogress '
  '--notensorboard --total_iterations=1 --total_env_steps=40'
).split()
_BASE = {
  'train': [*_TINY, '--run_dir=new'],
  'evaluate': ['--run_dir=run', '--episodes=1'],
  'plot': ['run', '--out=new.png'],
  'table': ['run'],
  'compare': ['run', 'run'],
  'sweep': ['--out=new'],
  'bench_vine': ['--task=InvertedPendulum-v5'],
}
# What makes any text flag wrong or strange; no word of it names a good value.
_TEXTS = (
  '[/b]',
  '[red]x[/red].gif',
  'ünïcødé',
  '\N{SNOWMAN}' * 300,
  'x' * 5000,
  '~nosuchuser/x',
  '$x_{$',
  '../..',
  '*',
  '/dev/null',
  '/proc/self/x',
  'a\nb',
  ' ',
  '',
  'foreign',
  'foreign/precious.txt',
  'broken',
  '-1',
  'nan',
  '\udcff',
  'task.py:EXIT',
  'task.py:TYPE',
  'task.py:NONE',
  'no_module:Id-v0',
  'ALE/Pong-v5',
  'atari/pnog',
  'Hopper-v99',
)
_NO_NUMBERS = (
  *('abc', '', '1.5.2', '[/b]', 'ten', '1,2', '--', '\udcff', 'x' * 4000),
  *('0x', '1e', 'None', '1' * 5000),
)
_STRAY = (
  *('--nope=1', '--seeed=3', '-', 'stray', '--=3', '--flagfile=none.flags'),
  *('--flagfile=foreign', '--[/b]', '--ünï=1', '---x', '--verbosity=loud'),
  '--flagfile=foreign/precious.txt',
)
_TASK = """
import sys
from trpo_tf.tasks.task import Task
class Exit:
  def __getattr__(self, name): sys.exit(0)
TYPE, NONE = 'a text', None
sys.exit(0)
"""


class Call(NamedTuple):
  """A command line; `wrong` if it must not end with 0."""

  arguments: list[str]
  wrong: bool


class Ending(NamedTuple):
  """How a call ended; code None if it did not."""

  code: int | None
  stdout: str
  stderr: str


def _ranges() -> dict[str, dict[str, Any]]:
  """The range of each flag of the program, by name; not those of libraries."""
  from trpo_tf import config

  settings = {
    field.name: field.metadata
    for name in config.settings(config.ExperimentConfig())
    for group in vars(config.ExperimentConfig()).values()
    for field in vars(type(group))['__dataclass_fields__'].values()
    if field.name == name
  }
  found = {}
  for module, defined in absl_flags.FLAGS.flags_by_module_dict().items():
    for flag in defined if module.startswith('trpo_tf') else ():
      parser = flag.parser
      found[flag.name] = dict(settings.get(flag.name, {})) or dict(
        low=getattr(parser, 'lower_bound', None),
        high=getattr(parser, 'upper_bound', None),
        choices=getattr(parser, 'enum_values', ()),
      )
      found[flag.name]['kind'] = parser.flag_type()
  return found


def _wrong_number(
  rng: random.Random, kind: str, low: float | None, high: float | None
) -> str:
  drawn = [*_NO_NUMBERS]
  if kind == 'float':
    drawn += ['nan', 'inf', '-inf', '1e999']
  else:
    drawn += ['1.5', 'nan', 'inf', '1e-3']
  if low is not None and low > float('-inf'):
    drawn += [str(low - 1), str(-(2**31)), str(-(2**63) - 1)]
  if high is not None and high < float('inf'):
    above = 2 * high + 1 if kind == 'float' else int(high) + 1
    drawn += [str(above), str(2**64), '9' * 400]
  return rng.choice(drawn)


def _value(
  rng: random.Random, name: str, meta: dict[str, Any]
) -> tuple[str, bool]:
  """Draws the value of a flag; returns it and whether it must be refused."""
  kind = meta['kind']
  good = rng.random() < 0.4
  if kind == 'bool':
    return rng.choice(['maybe', '2', 'ja', '[/b]', '-1']), True
  if meta['choices']:
    if good:
      return rng.choice(list(meta['choices'])), False
    return rng.choice(['nope', '[/b]', 'x' * 3000, '\udcff', '7']), True
  if kind == 'integers':
    if good:
      return rng.choice(['', '2', '3,2', '2,2,2', '1000000,1000000']), False
    wrong = ['64;64', '1.5', '0', '-1', '2147483648', ','.join('1' * 200)]
    return rng.choice([*wrong, 'a,b', '9' * 300]), True
  if kind in ('int', 'float'):
    low, high = meta['low'], meta['high']
    if not good or low is None or high is None or high == float('inf'):
      return _wrong_number(rng, kind, low, high), True
    small = low + 1 if kind == 'int' else low + (high - low) * 1e-3
    return str(rng.choice([low, small, high])), False
  return rng.choice(_TEXTS), False


def draw(
  rng: random.Random, program: str, ranges: dict[str, dict[str, Any]]
) -> Call:
  """Draws a command line from the flags' own ranges and beyond.

  Args:
    rng: source of the draws.
    program: name of the program.
    ranges: the ranges of its flags.
  """
  while True:
    names = rng.sample(sorted(ranges), min(len(ranges), rng.randint(1, 3)))
    drawn = {name: _value(rng, name, ranges[name]) for name in names}
    arguments = [f'--{name}={value}' for name, (value, _) in drawn.items()]
    wrong = any(bad for _, bad in drawn.values())
    if rng.random() < 0.15:
      arguments.append(rng.choice(_STRAY))
      wrong |= program not in _TAKE_ARGUMENTS
    # one more valid run of an endless length would only be a long one
    endless = {'total_env_steps', 'total_iterations'} & set(names)
    if program in _ALWAYS_WRONG or endless:
      if not wrong:
        continue
    elif not wrong and program in TRAINS and rng.random() < 0.9:
      continue  # they take seconds each
    rng.shuffle(arguments)
    return Call([*_BASE.get(program, []), *arguments], wrong)


def _digests(folder: pathlib.Path) -> dict[str, str]:
  return {
    str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


def _child(module: Any, program: str, arguments: list[str], out: int, err: int):
  """Runs the program in this process, which ends with it."""
  from trpo_tf.bin import flags

  os.setsid()
  os.dup2(out, 1)
  os.dup2(err, 2)
  code = 1
  try:
    sys.argv = [f'{program}.py', *arguments]
    takes = program in _TAKE_ARGUMENTS
    flags.run(module.main, sys.argv, takes_arguments=takes)
  except SystemExit as end:
    code = end.code if isinstance(end.code, int) else int(end.code is not None)
  except BaseException:
    sys.excepthook(*sys.exc_info())
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def execute(
  module: Any,
  program: str,
  arguments: list[str],
  folder: pathlib.Path,
  limit: float = _TRAINING,
) -> Ending:
  """Runs a command line in a fork of this process.

  Args:
    module: the module of the program.
    program: its name.
    arguments: the command line.
    folder: where the output is kept.
    limit: seconds until it is ended.
  """
  paths = [folder / name for name in ('stdout', 'stderr')]
  out, err = (os.open(p, os.O_RDWR | os.O_CREAT | os.O_TRUNC) for p in paths)
  child = os.fork()
  if not child:
    _child(module, program, arguments, out, err)
  end, status = time.monotonic() + limit, None
  while status is None and time.monotonic() < end:
    pid, found = os.waitpid(child, os.WNOHANG)
    status = found if pid else None
    time.sleep(0.002)
  if status is None:
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
  os.close(out)
  os.close(err)
  texts = [path.read_text(errors='replace') for path in paths]
  code = None if status is None else os.waitstatus_to_exitcode(status)
  return Ending(code, *texts)


def judge(call: Call, ending: Ending) -> str:
  """Returns what is wrong with the end of a call; '' if nothing is.

  Args:
    call: the command line.
    ending: how it ended.
  """
  if ending.code is None:
    return 'no answer'
  if 'Traceback' in ending.stderr or 'Fatal Python' in ending.stderr:
    return 'a traceback'
  if ending.code < 0:
    return f'killed by signal {-ending.code}'
  if call.wrong and ending.code == 0:
    return 'exit code 0'
  if ending.code == 2 and ending.stderr.count('\n') != 1:
    return 'not one line'
  return '' if ending.code in (0, 2, 3) else f'exit code {ending.code}'


def prepare(folder: pathlib.Path) -> None:
  """Writes files that no call may change."""
  (folder / 'foreign').mkdir(parents=True, exist_ok=True)
  (folder / 'foreign' / 'precious.txt').write_text('all I have\n')
  (folder / 'task.py').write_text(_TASK)
  (folder / 'broken').mkdir(exist_ok=True)
  (folder / 'broken' / 'run.json').write_text('{"settings": 3}')


def _preload(program: str) -> Any:
  from trpo_tf.bin import flags

  sys.stdin.close()
  module = importlib.import_module(f'trpo_tf.bin.{program}')
  if program in TRAINS:
    flags.import_tensorflow()
    logging.getLogger('tensorflow').setLevel(logging.ERROR)
    from trpo_tf.experiment import memory

    importlib.import_module('trpo_tf.experiment.training')
    memory.available = lambda: _MEMORY
  return module


def main(program: str, seed: int, count: int, folder: pathlib.Path) -> None:
  """Draws and runs `count` calls of a program; prints the findings.

  Args:
    program: name of the program.
    seed: seed of the draws.
    count: number of calls.
    folder: working directory; `prepare` has filled it.
  """
  outputs = folder.with_name(f'{folder.name}_{program}')
  outputs.mkdir(exist_ok=True)
  os.chdir(folder)
  module, ranges = _preload(program), _ranges()
  if program == 'train' and not (folder / 'run').exists():
    good = [*_TINY, '--run_dir=run']
    assert execute(module, program, good, outputs).code == 0
  rng, findings, codes = random.Random(seed), [], {}
  before = _digests(folder)
  for number in range(count):
    call = draw(rng, program, ranges)
    call = call._replace(
      arguments=[a.replace('=new', f'=new{seed}_{number}') for a in call[0]]
    )
    limit = LIMIT if call.wrong else _TRAINING
    ending = execute(module, program, call.arguments, outputs, limit)
    codes[ending.code] = codes.get(ending.code, 0) + 1
    problem = judge(call, ending)
    after = _digests(folder)
    changed = [p for p in before if after.get(p) != before[p]]
    if ending.code == 0:  # it may continue a run, and write beside it
      changed = [p for p in changed if not p.startswith('run/')]
    if changed:
      problem = f'{problem} changed {changed}'
    before = after
    if problem:
      findings.append([problem, call.arguments, ending.stderr[-800:]])
      print(findings[-1], file=sys.stderr, flush=True)
  print(json.dumps(dict(codes=codes, findings=findings)))


if __name__ == '__main__':
  main(
    sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), pathlib.Path(sys.argv[4])
  )
