"""Public functions of two or more parameters say what these are."""

import ast
import pathlib
from collections.abc import Iterator

import pytest

_ROOT = pathlib.Path(__file__).parents[2] / 'trpo_tf'
_FILES = sorted(_ROOT.rglob('*.py'))
# A method of a protocol is documented there, and refers to it.
_REFERENCES = ('see ', 'See ', 'As ')


def _public(node: ast.AST, prefix: str = '') -> Iterator[tuple[str, ast.AST]]:
  """Public functions and methods below a node, with their names."""
  for child in ast.iter_child_nodes(node):
    name = getattr(child, 'name', '')
    if name.startswith('_') and name not in ('__init__', '__call__'):
      continue
    if isinstance(child, ast.ClassDef):
      yield from _public(child, f'{prefix}{name}.')
    elif isinstance(child, ast.FunctionDef):
      yield prefix + name, child


def _parameters(function: ast.FunctionDef) -> list[str]:
  names = function.args
  every = [*names.posonlyargs, *names.args, *names.kwonlyargs]
  return [a.arg for a in every if a.arg not in ('self', 'cls')]


@pytest.mark.parametrize(
  'path', _FILES, ids=lambda p: str(p.relative_to(_ROOT))
)
def test_parameters_are_documented(path):
  silent = []
  for name, function in _public(ast.parse(path.read_text())):
    text = ast.get_docstring(function) or ''
    if len(_parameters(function)) >= 2 and 'Args' not in text:
      if not any(reference in text for reference in _REFERENCES):
        silent.append(name)
  assert not silent
