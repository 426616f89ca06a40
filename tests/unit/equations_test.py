"""docs/equations.md names only what exists."""

import importlib
import pathlib
import re

import pytest

_TEXT = (pathlib.Path(__file__).parents[2] / 'docs/equations.md').read_text()
_NAMES = sorted(set(re.findall(r'`(trpo_tf\.[\w.]+)`', _TEXT)))


def test_every_implemented_row_names_its_function():
  rows = [r for r in _TEXT.splitlines() if r.startswith('| ')][1:]
  assert len(rows) > 20
  for row in rows:
    where = row.rstrip(' |').rsplit('| ', 1)[1]
    assert where == '-' or re.fullmatch(r'`trpo_tf\.[\w.]+`', where), row


@pytest.mark.parametrize('name', _NAMES)
def test_name_exists(name):
  parts = name.split('.')
  for cut in range(len(parts), 0, -1):
    try:
      found = importlib.import_module('.'.join(parts[:cut]))
    except ModuleNotFoundError:
      continue
    for attribute in parts[cut:]:
      found = getattr(found, attribute)
    return
  raise AssertionError(name)
