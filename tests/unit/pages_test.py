"""The pages of the documentation: links, commands, and one look everywhere."""

import json
import pathlib
import re
import subprocess
import sys

import pages
import pytest

_PAGES = pages.everything()
_DATA = re.compile('docs/results/.*/')  # what belongs to the data there


@pytest.mark.parametrize('page', _PAGES)
def test_links_lead_somewhere(page):
  folder = (pages.ROOT / page).parent
  for path, anchor in pages.links(page):
    target = (folder / path).resolve() if path else pages.ROOT / page
    assert target.exists(), path
    if anchor:
      name = str(target.relative_to(pages.ROOT))
      assert anchor in pages.anchors(name), f'{path}#{anchor}'


@pytest.mark.parametrize('page', _PAGES)
def test_lists_and_code_are_the_same_on_github_and_in_the_site(page):
  """Python-Markdown indents by four spaces, and wants blank lines."""
  markdown = pytest.importorskip('markdown')
  github = pytest.importorskip('markdown_it')
  pytest.importorskip('pymdownx')
  text = (pages.ROOT / page).read_text()
  extensions = ['pymdownx.highlight', 'pymdownx.superfences', 'tables']
  site = markdown.markdown(text, extensions=extensions)
  hub = github.MarkdownIt('commonmark').enable('table').render(text)
  assert _shape(site) == _shape(hub)


def _shape(html: str) -> dict[str, int]:
  html = re.sub(
    r'<div class="highlight">.*?</div>|<pre>.*?</pre>',
    '<pre></pre>',
    html,
    flags=re.DOTALL,
  )
  tags = 'h1', 'h2', 'h3', 'ul', 'ol', 'li', 'pre', 'tr', 'td', 'code', 'a'
  return {tag: len(re.findall(f'<{tag}[ >]', html)) for tag in tags}


def test_every_page_is_in_the_navigation():
  yaml = pytest.importorskip('yaml')
  config = yaml.safe_load((pages.ROOT / 'mkdocs.yml').read_text())
  nav = json.dumps(config['nav'])
  missing = [p for p in _PAGES if f'"{p}"' not in nav]
  assert [p for p in missing if not _DATA.match(p)] == []


# the flags of every program in one process, as in usage_test
_PARSE = """
import contextlib, importlib, io, json, sys
from absl import flags as absl_flags
from absl.testing import flagsaver
from trpo_tf.bin import flags

FLAGS = absl_flags.FLAGS
faults = []
for program, commands in json.load(sys.stdin).items():
  before = set(FLAGS)
  importlib.import_module('trpo_tf.bin.' + program)
  for page, arguments in commands:
    said = io.StringIO()
    try:
      with flagsaver.flagsaver(), contextlib.redirect_stderr(said):
        flags._parse([program, *arguments])
        if 'max_kl' in FLAGS:
          flags.experiment_config()
    except (SystemExit, Exception) as error:
      faults.append([page, program, *arguments, said.getvalue() or str(error)])
  for flag in set(FLAGS) - before:
    delattr(FLAGS, flag)
json.dump(faults, sys.stdout)
"""


def test_every_command_parses():
  by_program = {}
  for page in _PAGES:
    for program, arguments in pages.commands(page):
      named = [a for a in arguments if a.startswith('--flagfile=')]
      paths = [pathlib.Path(a.partition('=')[2]) for a in named]
      if all((pages.ROOT / path).exists() for path in paths):
        by_program.setdefault(program, []).append([page, arguments])
  assert sum(map(len, by_program.values())) > 50
  done = subprocess.run(
    [sys.executable, '-c', _PARSE],
    input=json.dumps(by_program),
    capture_output=True,
    text=True,
    cwd=pages.ROOT,
  )
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout) == []


def test_a_feature_that_is_absent_has_a_reason():
  rows = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in pages.prose('docs/comparison.md').splitlines()
    if line.startswith('| ') and not line.startswith('| feature |')
  ]
  assert len(rows) > 60
  for feature, here, shown in rows:
    kind, _, reason = re.match(r'(yes|partly|no)\b(:?) ?(.*)', here).groups()
    assert kind == 'yes' or len(reason) > 20, feature
    assert '](' in shown, feature


@pytest.mark.parametrize(
  ('page', 'example'),
  [
    ('docs/tutorials/environment.md', 'point.py'),
    ('docs/tutorials/network.md', 'residual.py'),
  ],
)
def test_a_tutorial_shows_its_example(page, example):
  source = (pages.ROOT / 'docs/examples' / example).read_text()
  assert pages.blocks(page, 'python')[0] == source
