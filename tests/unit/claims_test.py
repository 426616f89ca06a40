"""The tables of the documentation are those of the committed data."""

import pathlib
import re

import numpy as np
import pytest

from trpo_tf.bin import flags
from trpo_tf.errors import UserError
from trpo_tf.experiment import progress
from trpo_tf.optim.step import StepStatus
from trpo_tf.reproduction import document

_ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def generated():
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(_ROOT)  # flagfiles include each other from the root
    return document.files(pathlib.Path(), flags.parse)


def test_files_hold_the_generated_tables(generated):
  """If one differs: python -m trpo_tf.bin.document."""
  assert set(document.FILES) < set(generated)
  for name, text in generated.items():
    assert (_ROOT / name).read_text() == text, name


def test_every_table_of_data_is_generated():
  texts = ''.join((_ROOT / name).read_text() for name in document.FILES)
  assert re.findall('<!-- table: (.*) -->', texts) == [
    'v5 against published',
    'v5 and vine',
    'Figure 4',
    'speed over physics',
    'v5 evaluations',
    'v5 bars',
    'v5 fresh seeds',
    'v5 trials',
    'Figure 4 cartpole',
    'Figure 4 swimmer',
    'swimmer changes',
    'Figure 4 hopper',
    'Figure 4 walker',
    'vine speed',
    'vine variance',
    'vine learning',
    'speed',
    'scale runs',
    'scale efficiency',
    'Atari speed',
    'Atari update',
    'Atari training',
    'estimators',
    'vine every step',
    'vine trials',
    'gallery',
    'KL bound',
    'kills',
    'soak',
    'fuzz',
  ]


def _cells(text, row):
  (line,) = [x for x in text.splitlines() if x.startswith(f'| {row} |')]
  return [cell.strip() for cell in line.strip('|').split('|')]


def test_only_what_beats_the_published_value_is_bold(generated):
  """HalfCheetah's interval begins above 4471, Hopper's below 3372."""
  text = generated['README.md']
  assert _cells(text, 'HalfCheetah-v5')[1].startswith('**')
  for task in ('Hopper-v5', 'InvertedPendulum-v5', 'Swimmer-v5', 'Walker2d-v5'):
    assert '**' not in _cells(text, task)[1]


def test_no_accepted_step_exceeds_its_bound(generated):
  text = generated['docs/results/reliability.md']
  totals = [
    line for line in text.splitlines() if line.startswith('| all of these |')
  ]
  assert len(totals) == 2
  for line in totals:
    cells = [cell.strip() for cell in line.strip('|').split('|')]
    assert cells[5] == '0'


def test_atari_table_is_that_of_the_csv_files():
  """The intervals need episodes that the files lack; table.md has them."""
  results = (_ROOT / 'docs/results/atari.md').read_text()
  results = results.partition('\n| game | env steps |')[2].partition('\n\n')[0]
  report = (_ROOT / 'docs/results/atari/table.md').read_text()
  scores, random = (
    re.search(rf'\| ours: {name} \|(.*)\|\n', report)[1].split('|')
    for name in ('value network', 'random')
  )
  header = re.search(r'\n\n\| \| (.*) \|\n', report)[1].split(' | ')
  for game, score, chance in zip(header, scores, random, strict=True):
    if score.strip() == '-':
      continue
    name = game.lower().replace(' ', '_').replace('*', '')
    last, first = (
      _last(f'docs/results/atari/csv/{name}_{kind}_0.csv')
      for kind in ('gae', 'random')
    )
    mean, low, high = _numbers(score)
    by_chance, floor, roof = _numbers(chance)
    assert float(last['score']) == pytest.approx(mean, rel=1e-3)
    assert float(first['score']) == pytest.approx(by_chance, rel=1e-3)
    cells = _cells(results, game)
    steps = int(last['env_steps']) / 1e6
    assert cells[1] == f'{steps:.2f}M'
    assert _numbers(cells[2]) == pytest.approx((mean, low, high), rel=1e-3)
    assert _numbers(cells[3])[0] == pytest.approx(by_chance, rel=1e-3)
    gain = mean - by_chance
    reach = ((high - low) ** 2 + (roof - floor) ** 2) ** 0.5 / 2
    want = gain, gain - reach, gain + reach
    assert _numbers(cells[4]) == pytest.approx(want, rel=6e-3)


def _last(path):
  header, *_, row = (_ROOT / path).read_text().split()
  return dict(zip(header.split(','), row.split(','), strict=True))


def _numbers(text):
  return tuple(float(x) for x in re.findall(r'[+-]?\d+(?:\.\d+)?', text))


def test_an_unknown_table():
  with pytest.raises(UserError, match="there is no table 'x': choose from a"):
    document.fill('<!-- table: x -->\n<!-- end of table -->', {'a': ''})


def _falls(name):
  """Of batches with a mean above 9.9: how many, and which falls follow them."""
  batches, falls = 0, []
  for seed in (0, 3, 4):
    path = _ROOT / f'docs/results/locomotion/extra/{name}_{seed}.csv'
    columns = progress.read_csv(path)
    solved = columns['return_mean'] > 9900
    batches += int(solved[:-1].sum())
    falls += [
      columns['episode_length_mean'][i] == 1000
      for i in np.flatnonzero(solved[:-1] & ~solved[1:])
    ]
  return batches, falls


def test_falls_of_a_solved_cart_pole():
  """Seven, six of them after batches without an early end; none with slack 1.

  The numbers are those of docs/results/figure4.md.
  """
  _, falls = _falls('cartpole_single_path')
  assert (len(falls), sum(falls)) == (7, 6)
  assert _falls('cartpole_single_path_kl_slack_1') == (106, [])


def test_troubleshooting_has_every_step_status():
  text = (_ROOT / 'docs/troubleshooting.md').read_text()
  found = re.findall(r'^\| `(\w+)` \|', text, re.MULTILINE)
  assert found == [status.name.lower() for status in StepStatus]
