"""Data flows one way: a module imports only from what lies before it."""

import ast
import pathlib

import pytest

_ROOT = pathlib.Path(__file__).parents[2] / 'trpo_tf'
_ORDER = (
  ('errors',),
  ('extras', 'children'),
  ('blas', 'config', 'moments', 'seeding'),
  ('theory',),
  ('tasks',),
  ('policies', 'cloning'),
  ('sampling',),
  ('estimation',),
  ('optim',),
  ('methods',),
  ('experiment',),
  ('distributed',),
  ('reproduction',),
  ('benchmarks',),
  ('bin',),
  ('api',),
)
_LEVEL = {name: i for i, names in enumerate(_ORDER) for name in names}
_FILES = sorted(_ROOT.rglob('*.py'))


def _package(path: pathlib.Path) -> str:
  return path.relative_to(_ROOT).parts[0].removesuffix('.py')


def _imports(path: pathlib.Path) -> set[str]:
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module:
      names = [f'{node.module}.{a.name}' for a in node.names]
    elif isinstance(node, ast.Import):
      names = [a.name for a in node.names]
    else:
      continue
    found |= {n.split('.')[1] for n in names if n.startswith('trpo_tf.')}
  return found


@pytest.mark.parametrize('path', _FILES, ids=lambda p: p.stem)
def test_imports_point_backwards(path):
  if path == _ROOT / '__init__.py':
    assert not _imports(path)
    return
  own = _package(path)
  for name in _imports(path):
    assert name == own or _LEVEL[name] < _LEVEL[own], f'{path} imports {name}'


def test_graphs_compile_in_one_way():
  """Outside of benchmarks, only policies/graphs.py uses tf.function."""
  users = {
    path.relative_to(_ROOT).as_posix()
    for path in _FILES
    if _package(path) != 'benchmarks'
    and any(
      isinstance(node, ast.Attribute) and ast.unparse(node) == 'tf.function'
      for node in ast.walk(ast.parse(path.read_text()))
    )
  }
  assert users == {'policies/graphs.py'}


@pytest.mark.parametrize(
  'extension, user',
  [
    ('_native', 'engine.py'),
    ('_atari', 'emulator.py'),
  ],
)
def test_one_file_imports_an_extension(extension, user):
  users = [
    p
    for p in _FILES
    if any(
      isinstance(n, ast.Import)
      and any(a.name.endswith(extension) for a in n.names)
      for n in ast.walk(ast.parse(p.read_text()))
    )
  ]
  assert [p.name for p in users] == [user]


def test_flags_live_in_the_binaries_only():
  users = [
    p
    for p in _FILES
    if any(
      line.startswith(('from absl', 'import absl'))
      for line in p.read_text().splitlines()
    )
  ]
  assert {_package(p) for p in users} <= {'bin'}


def _modules(path: pathlib.Path) -> set[str]:
  """The modules of trpo_tf that a file imports, or the names from them."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module:
      found |= {f'{node.module}.{alias.name}' for alias in node.names}
  return found


_BACK_ENDS = ('native', 'gym', 'atari')


@pytest.mark.parametrize(
  'path', sorted((_ROOT / 'sampling').rglob('*.py')), ids=str
)
def test_back_ends_of_the_samplers_do_not_know_each_other(path):
  own = path.parent.name
  others = {name for name in _BACK_ENDS if name != own}
  for module in _modules(path):
    parts = module.split('.')
    assert parts[:2] != ['trpo_tf', 'sampling'] or parts[2] not in others


def test_there_is_one_vine_sampler():
  classes = [
    node.name
    for path in _FILES
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.ClassDef)
  ]
  assert [name for name in classes if 'VineSampler' in name] == ['VineSampler']


def test_no_file_is_too_long():
  sources = [*_FILES, *(_ROOT.parent / 'csrc').glob('*.[ch]*')]
  lengths = {p.name: len(p.read_text().splitlines()) for p in sources}
  assert not {name: n for name, n in lengths.items() if n > 350}


def test_services_are_imported_inside_of_functions_only():
  """They are extras, which are imported when they are asked for."""
  for path in _FILES:
    tree = ast.parse(path.read_text())
    for node in tree.body:
      if isinstance(node, ast.Import | ast.ImportFrom):
        names = [a.name for a in node.names]
        modules = [getattr(node, 'module', None) or '', *names]
        tops = {m.split('.')[0] for m in modules}
        assert not tops & {'ray', 'wandb', 'mlflow'}, path
