"""The parts of an env step that bench times, and their table."""

import json

from trpo_tf.benchmarks import atari_step
from trpo_tf.reproduction import speed


def test_parts_of_a_step(tmp_path):
  """The bare emulator and three parts take time; the table shows all of it."""
  found = atari_step.parts('pong', 'nature', steps=16, rounds=3)
  assert list(found['microseconds']) == [
    'bare emulator',
    'policy',
    'emulator and its screens',
    'frame',
  ]
  assert min(found['microseconds'].values()) > 0
  path = tmp_path / 'step.json'
  path.write_text(json.dumps({'atari_step': [found]}))
  (row,) = speed.atari_step(path).splitlines()[2:]
  cells = [cell.strip() for cell in row.strip('|').split('|')]
  assert cells[0] == 'Pong, 84 x 84'
  assert cells[1:5] == [f'{t:.1f}' for t in found['microseconds'].values()]
  assert cells[5].startswith(f'{found["emulator_over_parts"]["median"]:.3f} (')
