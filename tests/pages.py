"""The pages of the documentation: their snippets, commands and links."""

import pathlib
import re
import shlex

ROOT = pathlib.Path(__file__).parents[1]
_COMMAND = re.compile(
  r'^ *(?:\S+=\S+ )*python -m trpo_tf\.bin\.(\w+)(.*)$', re.M
)


def everything() -> list[str]:
  """The paths of all pages, from the root."""
  found = [*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md')]
  found += ROOT.glob('configs/**/*.md')
  return sorted(str(path.relative_to(ROOT)) for path in found)


def blocks(page: str, language: str) -> list[str]:
  """The fenced blocks of a language."""
  text = (ROOT / page).read_text()
  return re.findall(
    rf'^```{language}\n(.*?)^```', text, re.DOTALL | re.MULTILINE
  )


def run_python(page: str, **names) -> dict:
  """What the Python blocks leave behind; `names` they need besides."""
  text = (ROOT / page).read_text()
  snippets = blocks(page, 'python')
  assert snippets
  for snippet in snippets:
    before = text[: text.index(snippet)].count('\n')
    exec(compile('\n' * before + snippet, page, 'exec'), names)
  return names


def commands(page: str) -> list[tuple[str, list[str]]]:
  """Program and arguments of the commands that are whole.

  Those with variables of the shell, or with dots for what is left out, are not.
  """
  text = re.sub(r'\\\n *', '', (ROOT / page).read_text())
  found = []
  for program, rest in _COMMAND.findall(text):
    if '$' not in rest and '...' not in rest and '`' not in rest:
      found.append((program, shlex.split(rest, comments=True)))
  return found


def prose(page: str) -> str:
  """The text without its fenced blocks."""
  text = (ROOT / page).read_text()
  return re.sub(r'^ *```.*?^ *```', '', text, flags=re.DOTALL | re.MULTILINE)


def links(page: str) -> list[tuple[str, str]]:
  """Path and anchor of every relative link; one of both may be empty."""
  found = re.findall(r'\]\(([^)\s]+)\)', prose(page))
  return [
    (path, anchor)
    for path, _, anchor in (target.partition('#') for target in found)
    if ':' not in path
  ]


def anchors(page: str) -> set[str]:
  """The anchors that GitHub makes of the headings."""
  titles = re.findall(r'^#+ (.*)$', prose(page), re.MULTILINE)
  plain = (re.sub(r'[^\w\- ]', '', title.lower()) for title in titles)
  return {title.replace(' ', '-') for title in plain}
