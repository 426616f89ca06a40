"""Whatever happens to the files of a run, a program answers in one line.

A good run is damaged at random, and every program that reads run directories is
given the damaged one. It must end well or with one line and exit code 2; there
is no traceback, no hang, and a refusal changes no file. Some damage must be
refused, and some must be mended.
"""

import copy
import hashlib
import io
import json
import random
import shutil

import numpy as np
import programs
import pytest

from trpo_tf.experiment import checkpoint

_TRAIN = (*programs.TINY, '--checkpoint_seconds=0', '--notensorboard')
_DONE = 5  # iterations of the good run
_PATIENCE = 240  # seconds; a run that can go on compiles and trains
_ARGUMENTS = {
  'train': [*_TRAIN, f'--total_env_steps={200 * _DONE + 200}'],
  'evaluate': ['--episodes=2'],
  'plot': ['--out=figure.svg'],
  'table': [],
}
# what each program reads
_FILES = {
  'train': ('run.json', 'progress.csv', 'checkpoints/*.npz'),
  'evaluate': ('run.json', 'checkpoints/*.npz'),
  'plot': ('run.json', 'progress.csv'),
  'table': ('evaluation.json',),
}
_WORDS = (
  '',
  'nan',
  'inf',
  '-1',
  '0',
  '1e400',
  'x' * 300,
  '\0',
  'é',
  '$x$',
  '[/b]',
)
_VALUES = (
  *(None, True, -1, 0, 1.5, 2**70, float('nan'), '', '5', 'x', [], [1], {}),
  *([[]], {'a': 1}, ['x'], '\x1b[2J', 'gift.py:T', 'a\nb', '\ud800'),
)


@pytest.fixture(scope='module')
def good(tmp_path_factory):
  """The directory of a good run, evaluated."""
  folder = tmp_path_factory.mktemp('fuzz')
  flags = [*_TRAIN, f'--total_env_steps={200 * _DONE}', '--run_dir=good']
  longer = [*_ARGUMENTS['train'], '--run_dir=longer']
  for done in programs.run('train', [flags, longer], folder):
    assert done.code == 0, done.stderr
  command = ['--run_dir=good', '--episodes=2']
  (done,) = programs.run('evaluate', [command], folder)
  assert done.code == 0, done.stderr
  return folder / 'good'


def _any_file(draw, run):
  """A file of those that the program reads; the folder is called after it."""
  patterns = _FILES[run.parent.name]
  return draw.choice(sorted(p for name in patterns for p in run.glob(name)))


def _truncate(draw, run):
  path = _any_file(draw, run)
  content = path.read_bytes()
  path.write_bytes(content[: draw.randrange(len(content) + 1)])


def _flip(draw, run):
  path = _any_file(draw, run)
  content = bytearray(path.read_bytes())
  for _ in range(draw.choice((1, 1, 9))):
    if content:
      content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
  path.write_bytes(content)


def _replace(draw, run):
  content = draw.choice(
    (b'', b'[]', b'{}', b'null', b'\xff\xfe', b'[' * 10**5, draw.randbytes(99))
  )
  _any_file(draw, run).write_bytes(content)


def _remove(draw, run):
  _any_file(draw, run).unlink()


def _places(value):
  """All (container, key) of a tree."""
  if isinstance(value, dict | list):
    for key in [*value] if isinstance(value, dict) else range(len(value)):
      yield value, key
      yield from _places(value[key])


def _change_tree(draw, tree, values):
  container, key = draw.choice([*_places(tree)])
  action = draw.randrange(4)
  if action == 0:
    del container[key]
  elif action == 1 and isinstance(container, dict):
    container['more'] = container.pop(key)
  else:
    container[key] = copy.deepcopy(draw.choice(values))


def _retype(draw, run):
  path = run / _FILES[run.parent.name][0]
  tree = json.loads(path.read_text())
  if path.name == 'run.json' and draw.random() < 0.5:
    part = tree['settings']
    part[draw.choice(sorted(part))] = copy.deepcopy(draw.choice(_VALUES))
  else:
    _change_tree(draw, tree, _VALUES)
  path.write_text(json.dumps(tree))


def _rows(draw, run):
  path = run / 'progress.csv'
  header, *rows = path.read_bytes().splitlines(keepends=True)
  at = draw.randrange(len(rows))
  action = draw.randrange(5)
  if action == 0:
    del rows[at]
  elif action == 1:
    rows.insert(at, rows[at])
  elif action == 2:
    draw.shuffle(rows)
  elif action == 3:
    rows.insert(at, draw.choice((b'\n', b'\xe9\n', b'1,2\n', rows[at][:40])))
  else:
    header = draw.choice((b'', header * 2, b'iteration,env_steps\n', b'x\n'))
  path.write_bytes(b''.join((header, *rows)))


def _cells(draw, run):
  path = run / 'progress.csv'
  lines = path.read_text().splitlines()
  at = draw.randrange(len(lines))
  cells = lines[at].split(',')
  cells[draw.randrange(len(cells))] = draw.choice(_WORDS)
  lines[at] = ','.join(cells)
  path.write_bytes(('\n'.join(lines) + '\n').encode('latin-1'))


def _rename(draw, run):
  path = draw.choice(sorted((run / 'checkpoints').iterdir()))
  name = draw.choice(
    (
      'iteration_best.npz',
      path.name.replace('.npz', ' (copy).npz'),
      'iteration_00000099.npz',
      'iteration_99999999999999999999.npz',
      'iteration_00000001.npz.tmp',
    )
  )
  move = draw.choice((shutil.copy, shutil.move))
  move(path, path.with_name(name))


def _swap(draw, run):
  one, two = draw.sample(sorted((run / 'checkpoints').iterdir()), 2)
  content = one.read_bytes()
  one.write_bytes(two.read_bytes())
  two.write_bytes(content)


def _other_things(draw, run):
  folder = run / 'checkpoints'
  name = draw.choice(('iteration_00000009.npz', 'x', 'iteration_x.npz'))
  if draw.random() < 0.5:
    (folder / name).mkdir()
  else:
    (folder / name).symlink_to('nowhere')


def _array(draw, array):
  size = draw.choice((0, 1, array.size + 1, 2 * array.size + 3))
  return draw.choice(
    (
      np.resize(array, size),
      array.astype(draw.choice(('f8', 'f4', 'i8', 'c16', '?', 'U3'))),
      np.full_like(array, np.nan if array.dtype.kind == 'f' else 1),
      np.full_like(array, np.inf if array.dtype.kind == 'f' else -1),
      -array if array.dtype.kind in 'fi' else array,
      array[..., np.newaxis],
      np.zeros_like(array),
    )
  )


def _wrong_tree(draw, run):
  """A checkpoint, or all, with a whole checksum and another state."""
  paths = sorted((run / 'checkpoints').iterdir(), reverse=True)
  number = draw.choice((1, 1, len(paths)))
  seed = draw.random()
  for path in paths[:number]:
    draw = random.Random(seed)  # the same damage to all
    state = checkpoint.load_newest(path.parent).state
    arrays = [
      (where, key)
      for where, key in _places(state)
      if isinstance(where[key], np.ndarray)
    ]
    if draw.random() < 0.7:
      where, key = draw.choice(arrays)
      where[key] = _array(draw, where[key])
    else:
      _change_tree(draw, state, (*_VALUES[:13], np.zeros(3)))
    content = checkpoint._encode(_encodable(state))
    path.write_bytes(content)


def _encodable(value):
  if isinstance(value, dict):
    return {str(k): _encodable(v) for k, v in value.items()}
  return value


def _wrong_archive(draw, run):
  """A whole checksum of an archive that was cut, flipped or is another."""
  path = sorted((run / 'checkpoints').iterdir())[-1]
  body = bytearray(path.read_bytes()[:-32])
  action = draw.randrange(3)
  if action == 0:
    body = body[: draw.randrange(len(body))]
  elif action == 1:
    for _ in range(9):
      body[draw.randrange(len(body))] ^= 1 << draw.randrange(8)
  else:
    buffer = io.BytesIO()
    np.savez(buffer, tree=np.frombuffer(b'[' * 10**5, np.uint8))
    body = buffer.getvalue()
  path.write_bytes(bytes(body) + hashlib.sha256(body).digest())


_ANY = (_truncate, _flip, _replace, _remove, _retype)
_CSV = (_rows, _rows, _cells, _cells)
_SAVED = (
  *(_rename, _swap, _other_things),
  *(_wrong_tree, _wrong_tree, _wrong_tree, _wrong_archive),
)
_MUTATIONS = {
  'train': (*_ANY, *_CSV, *_SAVED),
  'evaluate': (*_ANY, *_SAVED),
  'plot': (*_ANY, *_CSV),
  'table': (*_ANY, _retype, _retype),
}


def _contents(run):
  return {
    path.relative_to(run): path.read_bytes()
    for path in sorted(run.rglob('*'))
    if path.is_file() and path.name != 'run.lock'
  }


def _damaged(good, folder, seed):
  """A damaged copy of the good run; returns it and the kind of damage."""
  draw = random.Random(seed)
  run = folder / f'run_{seed}'
  shutil.copytree(good, run)
  mutate = draw.choice(_MUTATIONS[folder.name])
  mutate(draw, run)
  return run, mutate.__name__


def _check(result, text, before, run):
  assert result.code in (0, 2), text
  assert 'Traceback' not in result.stderr, text
  if result.code == 0:
    return
  line = result.stderr.splitlines()
  # a name in the file may hold a line break, but none reaches the terminal
  assert len(line) == 1 and '\x1b' not in result.stderr, text
  assert _contents(run) == before, f'changed a file. {text}'


def _fuzz(good, folder, program, seeds, timeout):
  """Gives damaged runs to a program; returns the refusals and the faults."""
  folder = folder / program
  folder.mkdir()
  runs = [_damaged(good, folder, seed) for seed in seeds]
  before = [_contents(run) for run, _ in runs]
  option = '' if program in ('plot', 'table') else '--run_dir='
  commands = [[*_ARGUMENTS[program], f'{option}{run}'] for run, _ in runs]
  results = programs.run(program, commands, folder, timeout, _PATIENCE)
  refused, faults = 0, []
  for (run, kind), result, files in zip(runs, results, before, strict=True):
    case = f'{program} {run.name} {kind}: {result}'
    refused += result.code == 2
    try:
      _check(result, case, files, run)
      if program == 'train' and result.code == 0:
        _check_trained(run, kind, good.parent / 'longer', case)
    except AssertionError as error:
      faults.append(str(error))
  return refused, faults


def _check_trained(run, kind, unbroken, case):
  """A run that went on is as if nothing had happened to it.

  Except for a checkpoint of another state that could be one of the run, and
  for a number of progress.csv that is another number.
  """
  rows, state = programs.progress(run), programs.final_state(run)
  assert [int(row[0]) for row in rows] == [*range(1, _DONE + 2)], case
  assert state['/iteration'] == _DONE + 1, case
  if kind != '_wrong_tree':
    assert state == programs.final_state(unbroken), case
  if kind not in ('_wrong_tree', '_cells', '_flip'):
    assert rows == programs.progress(unbroken), case


@pytest.mark.slow
@pytest.mark.parametrize('program', _ARGUMENTS)
def test_a_hundred_damaged_runs(good, tmp_path, program):
  refused, faults = _fuzz(good, tmp_path, program, range(25), 120)
  assert not faults, '\n'.join(faults)
  assert 0 < refused < 25


@pytest.mark.fuzz
@pytest.mark.parametrize('program', _ARGUMENTS)
@pytest.mark.parametrize('part', range(20))
def test_a_thousand_damaged_runs(good, tmp_path, fuzz, program, part):
  seeds = fuzz.seeds(part, 50)
  refused, faults = _fuzz(good, tmp_path, program, seeds, 3000)
  fuzz.count(
    f'{program} with a damaged run directory',
    f'{seeds[0]} to {seeds[-1]}',
    len(seeds),
    refused,
    len(faults),
  )
  assert not faults, '\n'.join(faults)
  shutil.rmtree(tmp_path)
