"""Finds the task of --task: a native one, or one in a user's Python file."""

import dataclasses
import difflib
import functools

import gymnasium

from trpo_tf.errors import UserError
from trpo_tf.tasks import atari, code, gymnasium_v5, paper
from trpo_tf.tasks.task import CompiledTask, Task, compile_task

NATIVE_TASKS: dict[str, Task] = gymnasium_v5.TASKS | paper.TASKS


def find_task(name: str) -> Task | None:
  """Finds a native task.

  Args:
    name: a name in NATIVE_TASKS, or `path/to/file.py:NAME` for the Task called
      NAME in a Python file.

  Returns:
    The task; None if `name` is a Gymnasium id that is not native (Id-v0, or
    module:Id-v0 with the module that registers it), or an Atari game, which
    `atari.find_game` finds.

  Raises:
    UserError: there is no such task, file, module or Gymnasium id.
  """
  if name in NATIVE_TASKS:
    return NATIVE_TASKS[name]
  if name.startswith(atari.PREFIX):
    return None
  path = code.file_of(name)
  if path is not None:
    return _load(path, name.rpartition(':')[2])
  _check_gymnasium_id(name)
  return None


def find_compiled(name: str, time_limit: int) -> CompiledTask | None:
  """Finds a native task and compiles it.

  Args:
    name: as for `find_task`. A file is read anew at each call, as it may have
      been edited.
    time_limit: decisions of an episode; 0: those of the task.

  Returns:
    The compiled task; None if there is no native one, as in `find_task`.

  Raises:
    UserError: there is no such task, or it cannot be compiled.
  """
  if name in NATIVE_TASKS:
    return _compiled(name, time_limit)
  task = find_task(name)
  return compile_task(_limited(task, time_limit)) if task else None


@functools.lru_cache(maxsize=8)
def _compiled(name: str, time_limit: int) -> CompiledTask:
  return compile_task(_limited(NATIVE_TASKS[name], time_limit))


def _limited(task: Task, time_limit: int) -> Task:
  return dataclasses.replace(task, time_limit=time_limit or task.time_limit)


def native_task(name: str) -> CompiledTask:
  """Compiles a native task, for instance to branch from its states.

  Args:
    name: a name in NATIVE_TASKS, or path/to/file.py:NAME.

  Raises:
    UserError: there is no such task, it is not native, or it is malformed.
  """
  task = find_task(name)
  if task is None:
    raise UserError(
      f'{name} is not a native task: take one of {", ".join(NATIVE_TASKS)}, or '
      'a file of your own'
    )
  return compile_task(task)


def is_code(name: str) -> bool:
  """Returns whether finding a task runs Python code that its name chooses.

  Every other name is looked up in a table: of this package, of ale_py's ROMs,
  or of the environments that installed packages have registered.
  """
  return (
    name not in NATIVE_TASKS
    and not name.startswith(atari.PREFIX)
    and ':' in name
  )


def _load(path: str, attribute: str) -> Task:
  names = code.run_file('--task', path)
  task = names.get(attribute)
  if not isinstance(task, Task):
    tasks = [k for k, v in names.items() if isinstance(v, Task)]
    raise UserError(
      f'--task: {path} has no Task called {attribute!r}; it has '
      f'{", ".join(tasks) or "none"}'
    )
  return task


def _check_gymnasium_id(name: str) -> None:
  module, _, identifier = name.rpartition(':')
  if module:
    code.import_module(f'--task={name}', module)  # registers them
  try:
    gymnasium.spec(identifier)
  except gymnasium.error.Error as error:
    known = list(NATIVE_TASKS) + list(gymnasium.registry)
    close = difflib.get_close_matches(identifier, known, 1)
    if name.endswith('.py'):
      close = [f'{name}:NAME, the Task called NAME in that file']
    meant = atari.suggestion(identifier) or (close[0] if close else None)
    hint = (
      f'did you mean {meant}?'
      if meant
      else (
        f'native tasks: {", ".join(NATIVE_TASKS)}; others: {atari.PREFIX}GAME, '
        'any Gymnasium id'
      )
    )
    raise UserError(f'--task={name}: no such task; {hint}') from error
