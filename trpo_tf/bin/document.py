r"""Writes the tables of the documentation anew from the data in docs/results.

  python -m trpo_tf.bin.document

Start it from the root of the repository. The tables are in README.md,
RESULTS.md, docs/vine.md, the pages of docs/results and the table.md files of
the paper's Figure 4. The text around the tables stays as it is. With --figures,
Figures 4 and 5 are drawn anew too.
"""

import pathlib

from absl import flags as absl_flags

from trpo_tf.bin import flags
from trpo_tf.errors import UserError
from trpo_tf.experiment import checkpoint
from trpo_tf.reproduction import document

_FIGURES = absl_flags.DEFINE_bool(
  'figures', False, "draw the figures beside the paper's anew too"
)


def main(_) -> None:
  """Writes the files whose tables have changed, and names them."""
  root = pathlib.Path()
  if not (root / 'docs/results').is_dir():
    raise UserError(
      'there is no docs/results here: start from the root of the repository'
    )
  for name, text in document.files(root, flags.parse).items():
    if (root / name).read_text() != text:
      checkpoint.write_atomically(root / name, text.encode())
      print(f'written: {name}')
  if _FIGURES.value:
    for name, picture in document.figures(root, flags.parse).items():
      checkpoint.write_atomically(root / name, picture)
      print(f'written: {name}')


if __name__ == '__main__':
  flags.run(main)
