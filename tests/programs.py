"""Runs the programs of trpo_tf.bin as their users do, but many in one process.

Importing TensorFlow takes seconds, so `run` starts one process and gives it
one command line after the other; each is parsed, run and ended as by `python
-m`, with its own standard output, standard error and exit code.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from trpo_tf.experiment import checkpoint, sinks

ROOT = pathlib.Path(__file__).parents[1]
# A native task whose iterations take milliseconds. A linear value function
# takes the least time to compile.
TINY = (
  '--task=InvertedPendulum-v5',
  '--batch_steps=200',
  '--num_slots=4',
  '--hidden_sizes=8',
  '--value_hidden_sizes=',
  '--value_epochs=1',
  '--noprogress',
)

_DRIVER = """
import importlib, json, logging, os, signal, sys, tempfile, traceback
from absl.testing import flagsaver
from trpo_tf.bin import flags

name, commands, results, patience = sys.argv[1:]
module = importlib.import_module('trpo_tf.bin.' + name)
takes_arguments = name in ('compare', 'plot', 'table')
# TensorFlow takes the graphs of many runs for many graphs of one
logging.getLogger('tensorflow').setLevel(logging.ERROR)

class Hang(BaseException):
  pass

def hang(*unused):
  raise Hang

signal.signal(signal.SIGALRM, hang)

def run(command):
  signal.alarm(int(patience))
  sys.argv = [name + '.py', *command]
  kept = [os.dup(1), os.dup(2)]
  files = [tempfile.TemporaryFile('w+') for _ in kept]
  for number, file in enumerate(files, 1):
    os.dup2(file.fileno(), number)
  try:
    with flagsaver.flagsaver():
      flags.run(module.main, sys.argv, takes_arguments=takes_arguments)
  except SystemExit as end:
    code = end.code or 0
  except BaseException:
    traceback.print_exc()
    code = 1
  signal.alarm(0)
  texts = []
  for number, (file, old) in enumerate(zip(files, kept), 1):
    (sys.stdout, sys.stderr)[number - 1].flush()
    os.dup2(old, number)
    file.seek(0)
    texts.append(file.read())
  return code, *texts

with open(commands) as file:
  found = [run(command) for command in json.load(file)]
with open(results, 'w') as file:
  json.dump(found, file)
"""


@dataclasses.dataclass(frozen=True)
class Result:
  """How a program ended."""

  code: int
  stdout: str
  stderr: str


def environment(*folders) -> dict[str, str]:
  """Of a child process that finds trpo_tf and modules in `folders`."""
  path = os.pathsep.join(map(str, (ROOT, *folders)))
  return os.environ | {'PYTHONPATH': path, 'TF_CPP_MIN_LOG_LEVEL': '3'}


def start(program: str, *arguments, **options) -> subprocess.Popen:
  """Starts `python -m trpo_tf.bin.PROGRAM ARGUMENTS`."""
  command = [sys.executable, '-m', f'trpo_tf.bin.{program}']
  return subprocess.Popen(
    [*command, *map(str, arguments)],
    env=environment(),
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    **options,
  )


def finish(process: subprocess.Popen, timeout: float = 300) -> Result:
  """Waits for a program that was started, for so many seconds."""
  stdout, stderr = process.communicate(timeout=timeout)
  return Result(process.returncode, stdout, stderr)


def run(
  program: str,
  commands: list,
  folder: pathlib.Path,
  timeout: float = 300,
  patience: int = 0,
) -> list[Result]:
  """Runs a program with each list of arguments in turn, in one process.

  Args:
    program: train, evaluate, compare, plot or table.
    commands: lists of arguments.
    folder: working directory of the process; modules in it are found.
    timeout: seconds for all of them.
    patience: seconds after which a single one ends with a traceback; 0: none.
  """
  given, results = folder / 'commands.json', folder / 'results.json'
  given.write_text(json.dumps([list(map(str, c)) for c in commands]))
  subprocess.run(
    [sys.executable, '-c', _DRIVER, program, given, results, str(patience)],
    check=True,
    env=environment(folder),
    cwd=folder,
    timeout=timeout,
  )
  return [Result(*result) for result in json.loads(results.read_text())]


TIME_COLUMNS = (
  'sample_seconds',
  'update_seconds',
  'env_steps_per_second',
  'elapsed_seconds',
)


def progress(run_dir: pathlib.Path) -> list[list[str]]:
  """The rows of progress.csv as they stand there, without the times."""
  lines = (run_dir / 'progress.csv').read_text().splitlines()
  assert lines[0] == ','.join(sinks.COLUMNS)
  kept = [i for i, name in enumerate(sinks.COLUMNS) if name not in TIME_COLUMNS]
  rows = [line.split(',') for line in lines[1:]]
  assert all(len(row) == len(sinks.COLUMNS) for row in rows)
  return [[row[i] for i in kept] for row in rows]


def final_state(run_dir: pathlib.Path) -> dict[str, Any]:
  """The newest checkpoint by path in its tree: bytes, or a plain value."""
  found: dict[str, Any] = {}

  def walk(value: Any, where: str) -> None:
    if isinstance(value, dict):
      for name, item in value.items():
        walk(item, f'{where}/{name}')
    elif hasattr(value, 'tobytes'):
      found[where] = (value.dtype.str, value.shape, value.tobytes())
    else:
      found[where] = value

  saved = checkpoint.load_newest(run_dir / 'checkpoints')
  assert saved is not None
  walk(saved.state, '')
  del found['/elapsed_seconds']
  return found
