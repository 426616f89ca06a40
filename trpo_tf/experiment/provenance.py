"""The provenance of a result: command, versions, git commit and host."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any, NotRequired, TypedDict

__all__ = ['Session', 'differences', 'session']

_PACKAGES = (
  'trpo_tf',
  'numpy',
  'scipy',
  'tensorflow',
  'tensorflow-probability',
  'mujoco',
  'gymnasium',
  'ale-py',
)


class Commit(TypedDict):
  """A git commit, and whether tracked files differ from it."""

  commit: str
  dirty: bool


class Host(TypedDict):
  """A machine: name, processor, available cores and operating system."""

  name: str
  cpu: str
  cores: int
  platform: str


class Session(TypedDict):
  """A process, in JSON values.

  Attributes:
    command, argv: the command line.
    time: ISO 8601, UTC.
    versions: by package; None if it is not installed.
    git: commit of the checkout that contains the package, if any.
    host: the machine.
    contents: hashes of the user's code: its files, and the compiled task.
  """

  command: str
  argv: list[str]
  time: str
  versions: dict[str, str | None]
  git: Commit | None
  host: Host
  contents: NotRequired[dict[str, str]]


def session() -> Session:
  """Describes this process."""
  return {
    'command': shlex.join(sys.orig_argv),
    'argv': sys.argv[1:],
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'versions': {
      'python': platform.python_version(),
      **{name: _version(name) for name in _PACKAGES},
    },
    'git': _git(),
    'host': {
      'name': platform.node(),
      'cpu': _cpu(),
      'cores': _cores(),
      'platform': platform.platform(),
    },
  }


def differences(
  before: Session, now: Session, threads: tuple[int, int]
) -> tuple[str, ...]:
  """Warns of differences that may change the results of a resumed run.

  Args:
    before: `session()` of the process that ran last.
    now: `session()` of this process.
    threads: --tf_threads of both; 0: one per core.

  Returns:
    One line, or none if versions, commit, processor and TensorFlow's number of
    threads are the same.
  """
  pairs: dict[str, tuple[Any, Any]] = {
    name: (before['versions'].get(name), version)
    for name, version in now['versions'].items()
  }
  pairs['cpu'] = before['host']['cpu'], now['host']['cpu']
  pairs['git commit'] = before['git'], now['git']
  pairs['TensorFlow threads'] = (
    threads[0] or before['host']['cores'],
    threads[1] or now['host']['cores'],
  )
  changed = [
    f'{name} {_text(old)} -> {_text(new)}'
    for name, (old, new) in pairs.items()
    if old != new
  ]
  contents = now.get('contents', {})
  changed += [
    f'the content of {name}'
    for name, digest in before.get('contents', {}).items()
    if contents.get(name, digest) != digest
  ]
  if not changed:
    return ()
  return (
    f'changed since this run was last started: {", ".join(changed)}. The run '
    'continues, but its results may not be bit for bit those of a run that '
    'never stopped',
  )


def _text(value: Any) -> str:
  if isinstance(value, dict):
    return value['commit'][:12] + (' (changed)' if value['dirty'] else '')
  return 'none' if value is None else str(value)


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def _git() -> Commit | None:
  here = pathlib.Path(__file__)

  def git(*arguments: str) -> str:
    command = ['git', '-C', os.fspath(here.parent), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return run.stdout.strip()

  try:
    # An installed package may lie inside a checkout of something else.
    git('ls-files', '--error-unmatch', here.name)
    commit = git('rev-parse', 'HEAD')
    dirty = bool(git('status', '--porcelain', '--untracked-files=no'))
  except (OSError, subprocess.CalledProcessError):
    return None
  return {'commit': commit, 'dirty': dirty}


def _cores() -> int:
  if hasattr(os, 'sched_getaffinity'):  # not on macOS
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _cpu() -> str:
  """Names the processor and the vector instructions that results depend on."""
  info: dict[str, str] = {}
  try:
    for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
      name, _, value = line.partition(':')
      info.setdefault(name.strip(), value.strip())
  except OSError:
    return platform.processor()
  vector = [
    flag
    for flag in info.get('flags', '').split()
    if flag in ('avx', 'avx2', 'fma', 'avx512f')
  ]
  return ' '.join([info.get('model name', platform.machine()), *vector])
