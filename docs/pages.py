"""Lays out the pages of the documentation site in build/pages.

  python docs/pages.py && mkdocs build --strict    # make docs

Every page keeps its path in the repository, so that a link means the same on
GitHub and in the site. What a page links to comes with it. The reference is
written anew each time: the flags from --help of the programs, the Python API
from the docstrings.
"""

import contextlib
import html
import importlib
import io
import pathlib
import re
import shutil
import sys
import tomllib
from collections.abc import Iterable, Iterator

import yaml
from absl import flags as absl_flags

import trpo_tf
from trpo_tf.bin import flags

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = ROOT / 'build/pages'
# What the names of trpo_tf take and return, by page; each object once.
MODULES = {
  'tasks': ('tasks.task', 'tasks.language'),
  'networks': ('policies.protocols',),
  'steps': ('optim.step', 'optim.problem'),
  'runs': (
    'experiment.trained.TrainedPolicy',
    'experiment.training',
    'methods.record',
    'sampling.batch',
  ),
  'theory': (
    'theory.mdp',
    'theory.bounds',
    'theory.minorize_maximize',
    'theory.trust_region',
    'theory.conservative_policy_iteration',
    'theory.worlds',
  ),
}
_FLAG = re.compile(r'^  (--\S+): (.*?)(?=^  --|\Z)', re.DOTALL | re.MULTILINE)
_DEFAULT = re.compile(r" \(default: '?(.*?)'?\)$")
_CHOICES = re.compile(r'<([\w|]+)>: ')
_LINK = re.compile(r'\]\(([^)#:\s]+)(?:#[^)]*)?\)')


def main() -> None:
  """Writes build/pages anew."""
  shutil.rmtree(PAGES, ignore_errors=True)
  config = yaml.safe_load((ROOT / 'mkdocs.yml').read_text())
  found = with_linked(listed(config['nav']))
  pages = {path: (ROOT / path).read_bytes() for path in found}
  pages |= {path: text.encode() for path, text in reference().items()}
  for path, content in pages.items():
    target = PAGES / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def listed(nav: list) -> Iterator[str]:
  """Yields the paths of a navigation."""
  for item in nav:
    for value in item.values() if isinstance(item, dict) else [item]:
      if isinstance(value, str):
        yield value
      else:
        yield from listed(value)


def links(path: str) -> list[str]:
  """Lists the files that a page links to, relative to the root."""
  text = re.sub(
    r'^```.*?^```', '', (ROOT / path).read_text(), flags=re.S | re.M
  )
  folder = (ROOT / path).parent
  found = [(folder / name).resolve() for name in _LINK.findall(text)]
  return [str(file.relative_to(ROOT)) for file in found]


def with_linked(paths: Iterable[str]) -> set[str]:
  """Adds to some pages all files that they and what they link to need."""
  found: set[str] = set()
  left = list(paths)
  while left:
    path = left.pop()
    if path in found or not (ROOT / path).is_file():
      continue  # written below, or else mkdocs names it
    found.add(path)
    left += links(path) if path.endswith('.md') else []
  return found


def reference() -> dict[str, str]:
  """Writes the pages of the reference, by path."""
  helps = help_pages()
  pages = {
    'reference/train.md': _program('train', helps.pop('train'), '#'),
    'reference/programs.md': '# Other programs\n\n'
    + '\n'.join(_program(name, text, '##') for name, text in helps.items()),
  }
  names = (f'{module}.{name}' for name, module in trpo_tf._MODULES.items())
  for title, found in {'trpo_tf': names, **MODULES}.items():
    blocks = '\n'.join(f'::: trpo_tf.{name}\n' for name in found)
    heading = title if title == 'trpo_tf' else title.capitalize()
    pages[f'reference/api/{title}.md'] = f'# {heading}\n\n{blocks}'
  return pages


def help_pages() -> dict[str, str]:
  """Returns what --help of every program prints, by program."""
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  targets = sorted(project['scripts'].values())
  return {name: _help(name) for name in (t.split(':')[1] for t in targets)}


def _help(name: str) -> str:
  """Runs a program with --help and takes its flags away again."""
  values = absl_flags.FLAGS
  before = set(values)
  module = importlib.import_module(f'trpo_tf.bin.{name}')
  output = io.StringIO()
  with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
    flags.run(module.main, [name, '--help'])
  for flag in set(values) - before:
    delattr(values, flag)
  return output.getvalue()


def _program(name: str, text: str, level: str) -> str:
  """Turns --help of a program into Markdown, with a table for each purpose."""
  example, *blocks = text.rstrip().split('\n\n')
  indented = example.splitlines()
  code = '\n'.join(line.removeprefix('  ') for line in indented)
  parts = [f'{level} {name}', f'```sh\n{code}\n```']
  for block in blocks:
    title, _, rest = block.partition('\n')
    rows = _FLAG.findall(rest + '\n') if title.endswith(':') else []
    if not rows:
      parts.append(block)
      continue
    parts.append(f'{level}# {title.removesuffix(":")}')
    parts.append('\n'.join(['| flag | meaning | default |', '|---|---|---|']))
    parts[-1] += ''.join('\n' + _row(*row) for row in rows)
  return '\n\n'.join(parts) + '\n'


def _row(flag: str, text: str) -> str:
  """Writes a flag as a row of a table."""
  text = ' '.join(text.split())
  default = _DEFAULT.search(text)
  text = _DEFAULT.sub('', text)
  if choices := _CHOICES.match(text):
    names = ', '.join(f'`{name}`' for name in choices[1].split('|'))
    text = f'{text[choices.end() :]}; one of {names}'
  text = html.escape(text, quote=False).replace('|', '&#124;')
  text = text.replace('*', r'\*')
  text = re.sub(r'(?<![\w`])(--[a-z]\w*(?:=[\w./]+)?)', r'`\1`', text)
  value = f'`{default[1]}`' if default and default[1] else ''
  return f'| `{flag}` | {text} | {value} |'


if __name__ == '__main__':
  sys.exit(main())
