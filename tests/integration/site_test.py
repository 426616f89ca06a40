"""make docs: the site is built without a warning, and needs no network."""

import re
import subprocess
import sys

import pages
import pytest

pytestmark = pytest.mark.slow
_SITE = pages.ROOT / 'build/site'


@pytest.fixture(scope='module')
def site():
  """The folder of the built site."""
  for package in ('material', 'mkdocstrings'):
    pytest.importorskip(package, reason='the extra docs is not installed')
  for command in (['docs/pages.py'], ['-m', 'mkdocs', 'build', '--strict']):
    done = subprocess.run(
      [sys.executable, *command], cwd=pages.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
  return _SITE


def test_every_page_is_there(site):
  for page in ('index', 'RESULTS', 'docs/tasks', 'docs/tutorials/network'):
    assert (site / f'{page}.html').stat().st_size > 5000, page
  assert (
    site / 'docs/examples/ball_plate.py'
  ).exists()  # which a page links to


def test_the_reference_is_that_of_the_code(site):
  train = (site / 'reference/train.html').read_text()
  assert re.search(r'<code>--max_kl</code></td>\s*<td>bound delta', train)
  assert '<code>0.01</code>' in train
  programs = (site / 'reference/programs.html').read_text()
  assert all(f'id="{name}"' in programs for name in ('evaluate', 'bench_vine'))
  api = (site / 'reference/api/trpo_tf.html').read_text()
  assert 'Trains a policy, and yields each iteration' in api
  assert 'names of presets such as' in api  # of its parameters


def test_nothing_is_loaded_from_elsewhere(site):
  loaded = re.compile(
    r'<(?:script|link|img|iframe)\b[^>]*?(?:src|href)="(.*?)"'
  )
  for path in site.rglob('*.html'):
    for target in loaded.findall(path.read_text()):
      assert not target.startswith(('http', '//')), (path, target)
